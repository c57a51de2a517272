#include "longfold/kernels/cuda/mma/tensor_maps.h"

#include <algorithm>

namespace longfold::kernels::cuda::mma {
namespace {

struct Dimension {
  int64_t size, stride;  // the stride in elements, zero where the tensor does not vary
};

// The first dimension has neighbours side by side. Returns whether there can be such a map.
bool encode(TensorMap& to, const void* data, int element_bytes, int64_t columns, const std::array<Dimension, 4>& others,
            Box box) {
  MappedTensor tensor{
      .data = data,
      .element_bytes = element_bytes,
      .sizes = {static_cast<uint64_t>(columns)},
      .strides = {},
      .box = {static_cast<uint32_t>(box.chunk_bytes / element_bytes), static_cast<uint32_t>(box.rows), 1, 1, 1},
      .swizzle_bytes = box.chunk_bytes >= 32 && box.chunk_bytes != 48 ? box.chunk_bytes : 0};
  for (size_t i = 0; i < 4; ++i) {
    const bool varies = others[i].stride != 0;
    tensor.sizes[i + 1] = varies ? static_cast<uint64_t>(others[i].size) : 1;
    tensor.strides[i] = varies ? static_cast<uint64_t>(others[i].stride * element_bytes) : 16;
  }
  return encode_tensor_map(to, tensor);
}

bool encode_rows(TensorMap& to, const Problem& p, const Rows& rows, int length, int head_dim, Box box) {
  return encode(to, rows.data, 2, head_dim,
                {{{length, rows.strides[2]}, {p.H, rows.strides[3]}, {p.N, rows.strides[1]}, {p.B, rows.strides[0]}}},
                box);
}

// A map knows but one place of a tensor that does not vary along a dimension.
bool can_have_map(const Rows& rows, int length) {
  return rows.in_units && (rows.strides[2] != 0 || length == 1);
}

}  // namespace

bool can_have_maps(const Problem& p, std::span<const Rows> more) {
  return can_have_map(p.q, p.Lq) && can_have_map(p.k, p.Lk) && can_have_map(p.v, p.Lk) &&
         std::ranges::all_of(more, [&](const Rows& rows) { return can_have_map(rows, p.Lq); });
}

void make_tensor_maps(Problem& p, const BackwardParams* backward, int head_dim, const Boxes& boxes) {
  TensorMaps& maps = p.maps;
  maps.are_used = can_have_maps(p, backward == nullptr ? std::span<const Rows>() : std::span(&backward->grad_out, 1));
  if (!maps.are_used) return;
  const auto add = [&](bool is_there, auto&& encodes) { maps.are_used = maps.are_used && (!is_there || encodes()); };
  add(true, [&] { return encode_rows(maps.q, p, p.q, p.Lq, head_dim, boxes.queries); });
  add(true, [&] { return encode_rows(maps.k, p, p.k, p.Lk, head_dim, boxes.keys); });
  add(true, [&] { return encode_rows(maps.v, p, p.v, p.Lk, head_dim, boxes.keys); });
  add(backward != nullptr,
      [&] { return encode_rows(maps.grad_out, p, backward->grad_out, p.Lq, head_dim, boxes.queries); });
  if (backward != nullptr && backward->columns.data != nullptr) {
    const auto pitch = static_cast<int>(backward->statistics_pitch);
    add(true, [&] { return encode_rows(maps.out, p, backward->out, p.Lq, head_dim, boxes.queries); });
    add(true,
        [&] { return encode_rows(maps.columns, p, backward->columns, pitch, kColumns, {kTileKeys, 4 * kColumns}); });
  }
  const auto& s = p.pair.strides;
  add(p.pair.data != nullptr, [&] {
    return encode(maps.pair, p.pair.data, boxes.pair_element_bytes, p.Lk,
                  {{{p.Lq, s[3]}, {p.H, s[2]}, {p.N, s[1]}, {p.B, s[0]}}}, boxes.pair);
  });
}

}  // namespace longfold::kernels::cuda::mma
