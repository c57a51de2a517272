// How tiles lie in shared memory: rows of whole units of 16 bytes, cut into chunks of up to 128 bytes, each chunk of
// all rows by itself. Within a chunk units are swapped from row to row so that eight rows of one column lie in all
// banks: as tensor maps do with CU_TENSOR_MAP_SWIZZLE_128B, 64B, 32B (CUDA driver API, "Tensor Map Object Management").
#pragma once

#include <cstdint>

namespace longfold::kernels::cuda::mma {

consteval int chunk_bytes(int row_bytes) {
  for (const int chunk : {128, 64, 32}) {
    if (row_bytes % chunk == 0) return chunk;
  }
  return row_bytes;  // 16 or 48: rows lie in all banks as they are
}

// At an address that is a multiple of 1024.
template <int NumRows, int RowBytes>
struct Tile {
  static constexpr int kRows = NumRows, kRowBytes = RowBytes, kBytes = NumRows * RowBytes;
  static constexpr int kChunk = RowBytes == 0 ? 16 : chunk_bytes(RowBytes);
  static constexpr int kUnits = RowBytes / 16;  // in a row
  static constexpr int kChunkUnits = kChunk / 16;
  static_assert(NumRows % 8 == 0 && RowBytes % 16 == 0);

  // From a row that is a multiple of 8, which starts at `rows`: the row'th unit of its column.
#if defined(__CUDACC__)
  __device__ __forceinline__
#endif
      static uint32_t unit(uint32_t rows, int row, int unit) {
    const int swap = kChunk == 128 ? row & 7 : kChunk == 64 ? row >> 1 & 3 : kChunk == 32 ? row >> 2 & 1 : 0;
    return rows + static_cast<uint32_t>(unit / kChunkUnits * NumRows * kChunk + row * kChunk +
                                        ((unit % kChunkUnits) ^ swap) * 16);
  }
};

}  // namespace longfold::kernels::cuda::mma
