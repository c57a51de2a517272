// What the bench measures: the full-size cases that tests share, in the types that models run them in.
#pragma once

#include <c10/core/ScalarType.h>

#include "tests/cases/evoformer_cases.h"

namespace longfold::bench {

// B = 1 and Lq = Lk, a mask bias and a pair bias.
struct Shape {
  cases::EvoformerCase sizes;
  at::ScalarType dtype = at::kFloat;
  double bias_std = 1;
};

inline std::vector<Shape> all_shapes() {
  std::vector<Shape> shapes;
  for (const auto& sizes : cases::full_size_cases()) shapes.push_back({sizes});
  for (const auto& sizes : cases::full_size_cases()) shapes.push_back({sizes, at::kBFloat16});
  return shapes;
}

// Where errors are hard to keep small: large biases make nearly one-hot weights, long heads large logits.
inline std::vector<Shape> error_shapes() {
  const cases::EvoformerCase triangle{.name = "triangle", .B = 1, .N = 4, .Lq = 256, .Lk = 256, .H = 4, .D = 32};
  const cases::EvoformerCase wide{.name = "wide_head", .B = 1, .N = 4, .Lq = 256, .Lk = 256, .H = 4, .D = 128};
  std::vector<Shape> shapes;
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const double bias_std : {1.0, 20.0, 50.0}) shapes.push_back({triangle, dtype, bias_std});
    shapes.push_back({wide, dtype});
  }
  return shapes;
}

inline std::vector<Shape> small_shapes() {
  const cases::EvoformerCase small{.name = "small", .B = 1, .N = 8, .Lq = 64, .Lk = 64, .H = 4, .D = 32};
  return {{small}, {small, at::kBFloat16}};
}

}  // namespace longfold::bench
