#include "tests/simt/matrices.h"

#include <bit>

#include "longfold/kernels/dtype.h"
#include "tests/simt/error.h"

namespace longfold::simt {
namespace {

template <class T>
double number(uint32_t word, int half) {
  return static_cast<double>(kernels::to_float(T{static_cast<uint16_t>(word >> 16 * half)}));
}

}  // namespace

template <class T, int Depth, Sums How>
void multiply_matrices(const void* const* in, void* const* out) {
  double a[16][Depth], b[Depth][8], d[16][8];
  for (int lane = 0; lane < kLanes; ++lane) {
    const auto& from = *static_cast<const MultiplyIn*>(in[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int half = 0; half < 2; ++half) {
      for (int k = 0; k < Depth; k += 8) {
        a[g][k + 2 * t + half] = number<T>(from.a[k / 4], half);
        a[g + 8][k + 2 * t + half] = number<T>(from.a[k / 4 + 1], half);
        b[k + 2 * t + half][g] = number<T>(from.b[k / 8], half);
      }
      d[g][2 * t + half] = static_cast<double>(from.c[half]);
      d[g + 8][2 * t + half] = static_cast<double>(from.c[2 + half]);
    }
  }
  for (int i = 0; i < 16; ++i) add_products_of_row<How>(d[i], a[i], b, 8);
  for (int lane = 0; lane < kLanes; ++lane) {
    auto* to = static_cast<float*>(out[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int half = 0; half < 2; ++half) {
      to[half] = static_cast<float>(d[g][2 * t + half]);
      to[2 + half] = static_cast<float>(d[g + 8][2 * t + half]);
    }
  }
}

#define LONGFOLD_INSTANTIATE(T)                                                           \
  template void multiply_matrices<T, 16, Sums::kExact>(const void* const*, void* const*); \
  template void multiply_matrices<T, 16, Sums::kCut>(const void* const*, void* const*);   \
  template void multiply_matrices<T, 8, Sums::kExact>(const void* const*, void* const*);  \
  template void multiply_matrices<T, 8, Sums::kCut>(const void* const*, void* const*);
LONGFOLD_INSTANTIATE(kernels::bfloat16)
LONGFOLD_INSTANTIATE(kernels::float16)
#undef LONGFOLD_INSTANTIATE

void spread_matrices(const void* const* in, void* const* out) {
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int matrix = 0; matrix < 4; ++matrix) {
      const auto* row = static_cast<const uint32_t*>(in[matrix * 8 + lane / 4]);
      static_cast<uint32_t*>(out[lane])[matrix] = row[lane % 4];
    }
  }
}

void spread_matrices_transposed(const void* const* in, void* const* out) {
  for (int lane = 0; lane < kLanes; ++lane) {
    const int column = lane / 4;
    for (int matrix = 0; matrix < 4; ++matrix) {
      const auto element = [&](int row) {
        return static_cast<const uint32_t*>(in[matrix * 8 + row])[column / 2] >> 16 * (column % 2) & 0xffffu;
      };
      static_cast<uint32_t*>(out[lane])[matrix] = element(2 * (lane % 4)) | element(2 * (lane % 4) + 1) << 16;
    }
  }
}

}  // namespace longfold::simt
