// Sizes of blocks of the kernels whose products are of warpgroups; tiles of keys are those of mma/tile_size.h.
#pragma once

#include "longfold/kernels/cuda/mma/tile_size.h"

namespace longfold::kernels::cuda::wgmma {

using mma::BackwardParams;
using mma::BiasForm;
using mma::ForwardParams;
using mma::kProducers;
using mma::Problem;

// Columns of a tile of rows of HeadDim elements: products are 16 deep, and a tile's chunks are 32, 64 or 128 bytes
// wide.
consteval int wide(int head_dim) {
  return head_dim == 8 ? 16 : head_dim == 24 ? 32 : head_dim;
}

// Of wide heads a sum takes up to 64 registers a thread: blocks have two warpgroups, with 232 of them, and the
// producers with 40. Both warpgroups are of one row n and use the same keys and values, 32 KiB a tile for head dim 128,
// where the pair bias that two rows would share takes 8. Not yet measured.
consteval bool is_wide(int head_dim) {
  return head_dim > 64;
}
consteval int producer_registers(int head_dim) {
  return is_wide(head_dim) ? 40 : 32;
}

// Of head dims up to 64. Three warpgroups and the producers have 160 registers a thread for what products write; with
// four they have 112, and spill (forward, H100, L 1024: 3.1 ms where three take 2.3). More rows n for a tile of the
// pair bias and fewer queries were slower likewise, fewer rows and more queries in the backward pass too (grad_q 3.6 ms
// where this takes 3.1).
struct TileSize {
  int query_tiles;  // of 64, in a warpgroup
  int groups;       // warpgroups side by side along the queries
  int rows;         // n
  int blocks;       // on a multiprocessor, at least
};

// The forward pass has a choice, which makes no difference to bits (forward.cu.in).
enum class Blocks : uint8_t {
  kOfRows,        // that share a tile of the pair bias
  kOfOneRow,      // 128 queries for each key: N 1, L 4096, H 16, D 24 takes 0.19 ms, with 64 of them 0.23
  kOfFewQueries,  // 64 of one row
};
consteval TileSize forward_tile_size(int head_dim, Blocks blocks) {
  const int query_tiles = head_dim <= 32 ? 2 : 1;
  if (is_wide(head_dim)) return {.query_tiles = 1, .groups = 2, .rows = 1, .blocks = 1};
  if (blocks == Blocks::kOfFewQueries) return {.query_tiles = 1, .groups = 1, .rows = 1, .blocks = 3};
  if (blocks == Blocks::kOfOneRow) return {.query_tiles = query_tiles, .groups = 1, .rows = 1, .blocks = 2};
  return {.query_tiles = query_tiles, .groups = 1, .rows = 3, .blocks = 1};
}
// Of wider heads blocks of one row have no more queries.
consteval bool has_blocks_of_few_queries(int head_dim) {
  return head_dim <= 32;
}

consteval TileSize grad_q_tile_size(int head_dim, bool one_row) {
  if (is_wide(head_dim)) return {.query_tiles = 1, .groups = 2, .rows = 1, .blocks = 1};
  if (one_row) return {.query_tiles = 1, .groups = 1, .rows = 1, .blocks = 2};
  return {.query_tiles = 1, .groups = 1, .rows = head_dim <= 32 ? 3 : 2, .blocks = 1};
}

// Of keys, where the others are of queries.
consteval TileSize grad_kv_tile_size(int head_dim, bool one_row) {
  return grad_q_tile_size(head_dim, one_row);
}

// Of the pair gradient: query_groups times key_groups warpgroups, each with 64 queries and key_tiles times 64 keys.
struct PairTileSize {
  int query_groups, key_groups, key_tiles, blocks;
};
consteval PairTileSize grad_pair_tile_size(int head_dim) {
  // Two stages of 128 queries and keys do not fit in shared memory.
  if (is_wide(head_dim)) return {.query_groups = 1, .key_groups = 2, .key_tiles = 1, .blocks = 1};
  // L 1024: 2.8 ms; one group of queries and three of keys with a tile each take 3.9.
  return {.query_groups = 2, .key_groups = 1, .key_tiles = 2, .blocks = 1};
}

constexpr int kMostSharedBytes = 227 * 1024;  // of a block, by itself on a multiprocessor

consteval int shared_bytes_of(int blocks) {
  return kMostSharedBytes / blocks - 1024;
}

}  // namespace longfold::kernels::cuda::wgmma
