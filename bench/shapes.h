// What the bench measures: the shapes of models' attention, with as many rows N as the materialised logits of the peers
// leave room for. Lq = Lk = L, B = 1, a mask bias and a pair bias.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <vector>

namespace longfold::bench {

struct Shape {
  const char* use;
  int64_t N, L, H, D;
  at::ScalarType dtype = at::kFloat;
  double bias_std = 1;
};

inline std::vector<Shape> all_shapes() {
  return {
      {"triangle", 64, 256, 4, 32},
      {"extra-MSA row", 128, 256, 8, 8},
      {"MSA row", 32, 512, 8, 32},
      {"triangle", 64, 384, 4, 32},
      {"triangle", 16, 1024, 4, 32},
      {"template triangle", 64, 256, 4, 16},
      {"AF3 single", 1, 384, 16, 24},
      {"AF3 diffusion", 5, 384, 16, 48},
      {"one row", 1, 1024, 4, 32},
      {"triangle", 64, 256, 4, 32, at::kBFloat16},
      {"extra-MSA row", 128, 256, 8, 8, at::kBFloat16},
      {"MSA row", 32, 512, 8, 32, at::kBFloat16},
      {"triangle", 64, 384, 4, 32, at::kBFloat16},
      {"triangle", 16, 1024, 4, 32, at::kBFloat16},
  };
}

// Where errors are hard to keep small: large biases make nearly one-hot weights.
inline std::vector<Shape> error_shapes() {
  std::vector<Shape> shapes;
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const double bias_std : {1.0, 20.0, 50.0}) shapes.push_back({"triangle", 4, 256, 4, 32, dtype, bias_std});
    shapes.push_back({"wide head", 4, 256, 4, 128, dtype});
  }
  return shapes;
}

inline std::vector<Shape> small_shapes() {
  return {{"triangle", 8, 64, 4, 32}, {"triangle", 8, 64, 4, 32, at::kBFloat16}};
}

}  // namespace longfold::bench
