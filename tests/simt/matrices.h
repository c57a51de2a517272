// The arithmetic of the tensor cores, a warp at a time, with fragments as in the PTX ISA, "Matrix fragments".
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "tests/simt/mode.h"

namespace longfold::simt {

struct MultiplyIn {
  const uint32_t* a;  // 4 words a lane, 2 with half the depth
  const uint32_t* b;  // 2 words, 1
  const float* c;     // 4 numbers
};

// c + a[0] b[0][0] + a[1] b[1][0] ..., an fp32 number.
template <int Depth, int Columns>
double cut_sum(double c, const double (&a)[Depth], const double (*b)[Columns]) {
  double largest = std::abs(c), sum = c;
  for (int k = 0; k < Depth; ++k) {
    largest = std::max(largest, std::abs(a[k] * b[k][0]));
    sum += a[k] * b[k][0];
  }
  if (!std::isfinite(sum) || largest == 0) return sum;
  const auto cut = [](double number, double like) {
    const double unit = std::ldexp(1.0, std::ilogb(like) - 23);
    return std::trunc(number / unit) * unit;
  };
  sum = cut(c, largest);
  for (int k = 0; k < Depth; ++k) sum += cut(a[k] * b[k][0], largest);
  return sum == 0 ? 0 : cut(sum, sum);
}

// d += a b in the first columns: to be rounded to fp32, and exact to fp64's rounding if not kCut.
template <Sums How, int Depth, int Columns>
void add_products_of_row(double (&d)[Columns], const double (&a)[Depth], const double (&b)[Depth][Columns],
                         int columns) {
  if constexpr (How == Sums::kCut) {
    for (int j = 0; j < columns; ++j) d[j] = cut_sum(d[j], a, reinterpret_cast<const double (*)[Columns]>(&b[0][j]));
    return;
  }
  for (int k = 0; k < Depth; ++k) {
    for (int j = 0; j < columns; ++j) d[j] += a[k] * b[k][j];
  }
}

// d = a b + c for T bfloat16 or float16, with Depth 16 (mma.m16n8k16) or 8 (mma.m16n8k8). Of 32 lanes: in[lane] is a
// MultiplyIn, out[lane] 4 floats, which may be c's own.
template <class T, int Depth, Sums How>
void multiply_matrices(const void* const* in, void* const* out);

// ldmatrix.x4: in[lane] is the row of 16 bytes that the lane's address names, out[lane] 4 words.
void spread_matrices(const void* const* in, void* const* out);
void spread_matrices_transposed(const void* const* in, void* const* out);

}  // namespace longfold::simt
