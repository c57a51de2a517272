// The arithmetic of the tensor cores, a warp at a time, with fragments as in the PTX ISA, "Matrix fragments".
#pragma once

#include <cstdint>

namespace longfold::simt {

struct MultiplyIn {
  const uint32_t* a;  // 4 words a lane, 2 with half the depth
  const uint32_t* b;  // 2 words, 1
  const float* c;     // 4 numbers
};

// d = a b + c for T bfloat16 or float16, with Depth 16 (mma.m16n8k16) or 8 (mma.m16n8k8). Of 32 lanes: in[lane] is a
// MultiplyIn, out[lane] 4 floats, which may be c's own. Products and sums are exact to fp64's rounding, and rounded to
// fp32 once; the hardware rounds sums in an order of its own.
template <class T, int Depth>
void multiply_matrices(const void* const* in, void* const* out);

// ldmatrix.x4: in[lane] is the row of 16 bytes that the lane's address names, out[lane] 4 words.
void spread_matrices(const void* const* in, void* const* out);
void spread_matrices_transposed(const void* const* in, void* const* out);

}  // namespace longfold::simt
