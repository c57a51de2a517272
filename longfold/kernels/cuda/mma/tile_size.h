// Sizes of blocks and tiles of the kernels on tensor cores. Pure functions, for host and device.
//
// A block is some consumer warps and kProducers producer warps, for which registers are left anyway: a multiprocessor's
// four parts have as many warps each. A consumer has query_tiles * 16 queries (grad_kv: keys) of one row n. Rows n of a
// block share the pair bias in shared memory.
//
// Keys are taken kStepKeys at a time whatever the block: a row's bits depend on nothing else.
#pragma once

#include "longfold/kernels/cuda/mma/params.h"

namespace longfold::kernels::cuda::mma {

constexpr int kStepKeys = 32;
constexpr int kTileKeys = 64;  // in a stage; grad_kv: queries
constexpr int kStatisticsBlock = 64;
constexpr int kMostQueries = 128;   // in a block of any pass
constexpr int kMostPairGroups = 7;  // of rows n, each with a sum of its own of the pair gradient
constexpr int kProducers = 4;       // warps, in every block

struct TileSize {
  int query_tiles;  // of 16, in a warp: each key and value that it reads serves all of them
  int warps;        // side by side along the queries
  int rows;         // n
  int blocks;       // on a multiprocessor, at least
};

consteval TileSize forward_tile_size(int head_dim, bool one_row) {
  if (one_row) return {.query_tiles = 1, .warps = 4, .rows = 1, .blocks = head_dim <= 64 ? 2 : 1};
  if (head_dim <= 32) return {.query_tiles = 2, .warps = 4, .rows = 3, .blocks = 1};
  if (head_dim <= 64) return {.query_tiles = 2, .warps = 4, .rows = 2, .blocks = 1};
  return {.query_tiles = 1, .warps = 4, .rows = 2, .blocks = 1};
}

consteval TileSize grad_q_tile_size(int head_dim, bool one_row) {
  if (one_row) return {.query_tiles = 1, .warps = 4, .rows = 1, .blocks = head_dim <= 64 ? 2 : 1};
  if (head_dim <= 32) return {.query_tiles = 2, .warps = 4, .rows = 2, .blocks = 1};
  return {.query_tiles = 1, .warps = 4, .rows = 2, .blocks = 1};
}

// query_tiles and warps are of keys here.
consteval TileSize grad_kv_tile_size(int head_dim, bool one_row) {
  if (one_row) return {.query_tiles = 1, .warps = 4, .rows = 1, .blocks = head_dim <= 64 ? 2 : 1};
  if (head_dim <= 32) return {.query_tiles = 2, .warps = 4, .rows = 2, .blocks = 1};
  // Keys, values and both sums are in registers; of wide heads in up to 255 of them, which eight warps in all can have.
  return {.query_tiles = 1, .warps = 4, .rows = head_dim <= 64 ? 2 : 1, .blocks = 1};
}

// Of the pair gradient: a block has query_tiles * warps * 16 queries and twice kTileKeys keys, half of them in each
// half of its warps.
consteval TileSize grad_pair_tile_size(int head_dim) {
  return {.query_tiles = head_dim <= 32 ? 2 : 1, .warps = 4, .rows = 1, .blocks = 1};
}

consteval int bias_size(BiasForm form) {
  return form == BiasForm::kNone ? 0 : form == BiasForm::k16 ? 2 : 4;
}

// Of a tile of keys of one row n: 16 bytes for two keys; and one word for what they are.
constexpr int kMaskBytes = 8 * kTileKeys + 16;
constexpr int kColumns = 8;  // of a query in memory; in a tile as many again, zeros
// Of a block of queries: 8 bytes each; and one word for what they are.
constexpr int kStatisticsBytes = 8 * kStatisticsBlock + 16;

consteval int larger_of(int a, int b) {
  return a > b ? a : b;
}
consteval int round_up(int value, int unit) {
  return (value + unit - 1) / unit * unit;
}

// Of a multiprocessor: what an A100 has, and for wide heads an H100. Two blocks on one are small enough for one block
// on those with 100 KiB (compute capability 8.6).
consteval int most_shared_bytes(int head_dim) {
  return (head_dim <= 64 ? 163 : 227) * 1024;
}
// What a block may take.
consteval int shared_bytes_of(TileSize size, int head_dim) {
  return most_shared_bytes(head_dim) / size.blocks - 1024;
}

consteval int stages_in(int shared_bytes, int stage) {
  const int stages = (shared_bytes - 1024) / stage;
  return stages > 4 ? 4 : stages;
}

}  // namespace longfold::kernels::cuda::mma
