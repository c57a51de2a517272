#include "tests/kernels/attention_problem.h"

#include <cmath>

namespace longfold::kernels {
namespace {

template <class T>
DType dtype_named(cases::ElementType type) {
  switch (type) {
    case cases::ElementType::kFloat32:
      return DType::kFloat32;
    case cases::ElementType::kFloat64:
      return DType::kFloat64;
    case cases::ElementType::kBFloat16:
      return DType::kBFloat16;
    case cases::ElementType::kFloat16:
      return DType::kFloat16;
    case cases::ElementType::kOfQueries:
      break;
  }
  return dtype_of<T>();
}

}  // namespace

template <class T>
Problem make_problem(const cases::EvoformerCase& c, double bias_std, uint64_t seed) {
  const int64_t rows = c.B * c.N * c.H * c.D;
  const DType dtype = dtype_of<T>();
  Problem p{.shape = c,
            .q = random_numbers(dtype, rows * c.Lq, 1, seed),
            .k = random_numbers(dtype, rows * c.Lk, 1, seed + 1),
            .v = random_numbers(dtype, rows * c.Lk, 1, seed + 2),
            .grad_out = random_numbers(dtype, rows * c.Lq, 1, seed + 3),
            .grad_lse = random_numbers(DType::kFloat32, c.B * c.N * c.H * c.Lq, 1, seed + 4),
            .biases = {},
            .scale = 1 / std::sqrt(static_cast<double>(c.D))};
  for (const cases::Bias& bias : c.biases) {
    const DType type = dtype_named<T>(bias.type);
    const int64_t count = count_of(sizes_of(bias.kind, c));
    p.biases.push_back({bias.kind, type, random_numbers(type, count, bias_std, seed + 5 + p.biases.size())});
  }
  if (c.layout == cases::Layout::kSharedBatch) {
    share_batch(p.k, c.B);
    share_batch(p.v, c.B);
    for (BiasValues& bias : p.biases) share_batch(bias.numbers, c.B);
    std::fill(p.grad_out.begin(), p.grad_out.end(), p.grad_out[0]);
  }
  return p;
}
template Problem make_problem<float>(const cases::EvoformerCase&, double, uint64_t);
template Problem make_problem<bfloat16>(const cases::EvoformerCase&, double, uint64_t);
template Problem make_problem<float16>(const cases::EvoformerCase&, double, uint64_t);
template Problem make_problem<double>(const cases::EvoformerCase&, double, uint64_t);

}  // namespace longfold::kernels
