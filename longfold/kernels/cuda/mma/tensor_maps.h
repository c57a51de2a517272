// Maps that let the device copy whole tiles: made anew for each launch, on the host.
#pragma once

#include <array>
#include <span>

#include "longfold/kernels/cuda/mma/params.h"
#include "longfold/kernels/cuda/mma/tile_size.h"

namespace longfold::kernels::cuda::mma {

// Of one copy: `chunk_bytes` of a row by `rows` rows, swizzled as tile.cuh says.
struct Box {
  int rows, chunk_bytes;
};

// What a map is made of: sizes in elements, the first dimension's side by side; strides of the others in bytes.
struct MappedTensor {
  const void* data;
  int element_bytes;  // 2 or 4
  std::array<uint64_t, 5> sizes;
  std::array<uint64_t, 4> strides;
  std::array<uint32_t, 5> box;
  int swizzle_bytes;  // 128, 64, 32; else none
};

// Whether there can be such a map. The driver makes it; tests/simt/ has a function of this name for the host.
[[nodiscard]] bool encode_tensor_map(TensorMap& to, const MappedTensor& tensor);

// Whether all rows that a pass copies lie in whole units of 16 bytes. `more`: of queries too, besides q.
[[nodiscard]] bool can_have_maps(const Problem& p, std::span<const Rows> more);

// Those of a pass.
struct Boxes {
  Box queries, keys, pair;
  int pair_element_bytes;
};
template <class Pass>
constexpr Boxes boxes_of() {
  using Queries = typename Pass::QueryTile;
  using Keys = typename Pass::KeyTile;
  using Pair = typename Pass::PairTile;
  return {.queries = {Queries::kRows, Queries::kChunk},
          .keys = {Keys::kRows, Keys::kChunk},
          .pair = {Pair::kRows, Pair::kChunk},
          .pair_element_bytes = Pass::kPairBytes};
}

// Fills p.maps, if so. `backward` is null in the forward pass.
void make_tensor_maps(Problem& p, const BackwardParams* backward, int head_dim, const Boxes& boxes);

}  // namespace longfold::kernels::cuda::mma
