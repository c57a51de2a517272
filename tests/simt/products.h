// Products of warpgroups, a warp at a time: what wgmma.mma_async of the PTX ISA does, 16 elements deep.
#pragma once

#include <cstdint>

#include "tests/simt/error.h"
#include "tests/simt/mode.h"

namespace longfold::simt {

constexpr int kWarpsOfGroup = 4;

// As a thread starts it. What it reads and writes is read and written when the thread waits for it.
struct Product {
  float (*d)[4];      // of columns / 8 tiles
  const uint32_t* a;  // four words; null: descriptor_a says where it lies
  uint64_t descriptor_a, descriptor_b;
  int columns;
  bool adds;           // to d
  bool is_transposed;  // rows of b's memory are its rows, not its columns
  bool is_bfloat16;
  Here here;
  Here waited_at{};

  [[nodiscard]] int units_of_b() const { return 2 * columns; }  // of 16 bytes
  // Where they lie, and those of 16 rows of a from `row` on, which are 32.
  [[nodiscard]] uint32_t unit_of_b(int unit) const;
  [[nodiscard]] uint32_t unit_of_a(int row, int unit) const;

  // Whether the other is the same instruction on the same shared memory.
  [[nodiscard]] bool is_like(const Product& other) const;
};

// The bits of a matrix descriptor that say how units trade places: 0 is none.
[[nodiscard]] int swizzle_bits(uint64_t descriptor);

// What one lane has loaded for one product: its units 0 of a and i of b are those numbered lane and lane + 32 i.
struct LoadedUnits {
  static constexpr int kMostOfB = 8;
  uint32_t a[4], b[kMostOfB][4];
};

// What one lane brings.
struct ProductsOfLane {
  const Product* products;
  const LoadedUnits* loaded;
  size_t count;
};

// All products of a warp, one after the other: in[lane] is a ProductsOfLane.
template <Sums How>
void multiply_products(const void* const* in, void* const* out);

}  // namespace longfold::simt
