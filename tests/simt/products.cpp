#include "tests/simt/products.h"

#include "longfold/kernels/dtype.h"
#include "tests/simt/matrices.h"

namespace longfold::simt {
namespace {

constexpr int kDepth = 16, kRows = 16, kMostColumns = 128;

// PTX ISA, "Matrix descriptor format": addresses and offsets in units of 16 bytes.
struct Descriptor {
  uint32_t start, leading_offset, stride_offset, chunk;

  explicit Descriptor(uint64_t bits)
      : start(static_cast<uint32_t>(bits & 0x3fff) * 16),
        leading_offset(static_cast<uint32_t>(bits >> 16 & 0x3fff) * 16),
        stride_offset(static_cast<uint32_t>(bits >> 32 & 0x3fff) * 16),
        chunk(256u >> swizzle_bits(bits)) {}

  // Of eight elements of a matrix whose rows lie side by side in memory; `eight` of a row's 16.
  [[nodiscard]] uint32_t of_row(int row, int eight) const {
    const auto r = static_cast<uint32_t>(row);
    return swizzled(start + stride_offset * (r / 8) + chunk * (r % 8) + 16 * static_cast<uint32_t>(eight));
  }
  // The same where rows are 16 and as long as there are columns.
  [[nodiscard]] uint32_t of_long_row(int row, int eight) const {
    const auto r = static_cast<uint32_t>(row), byte = 16 * static_cast<uint32_t>(eight);
    return swizzled(start + leading_offset * (byte / chunk) + stride_offset * (r / 8) + chunk * (r % 8) + byte % chunk);
  }

 private:
  [[nodiscard]] uint32_t swizzled(uint32_t address) const { return address ^ (address >> 7 & (chunk / 16 - 1)) << 4; }
};

double number(bool is_bfloat16, const uint32_t* words, int i) {
  const auto bits = static_cast<uint16_t>(words[i / 2] >> 16 * (i % 2));
  return static_cast<double>(is_bfloat16 ? kernels::to_float(kernels::bfloat16{bits})
                                         : kernels::to_float(kernels::float16{bits}));
}

const ProductsOfLane& of_lane(const void* const* in, int lane) {
  return *static_cast<const ProductsOfLane*>(in[lane]);
}

void check_lanes(const void* const* in) {
  const ProductsOfLane& first = of_lane(in, 0);
  for (int lane = 1; lane < kLanes; ++lane) {
    const ProductsOfLane& other = of_lane(in, lane);
    bool is_like = other.count == first.count;
    for (size_t i = 0; is_like && i < first.count; ++i) is_like = first.products[i].is_like(other.products[i]);
    if (!is_like) {
      const ProductsOfLane& more = first.count > 0 ? first : other;
      throw Error("lanes of a warp wait for different products, the first of them at " + place(more.products[0].here));
    }
  }
}

void read_a(const void* const* in, size_t i, double (&a)[kRows][kDepth]) {
  for (int lane = 0; lane < kLanes; ++lane) {
    const Product& product = of_lane(in, lane).products[i];
    if (product.a == nullptr) {
      const LoadedUnits& loaded = of_lane(in, lane).loaded[i];
      for (int k = 0; k < 8; ++k) a[lane / 2][lane % 2 * 8 + k] = number(product.is_bfloat16, loaded.a, k);
      continue;
    }
    for (int e = 0; e < 8; ++e) {
      a[lane / 4 + e / 2 % 2 * 8][e / 4 * 8 + lane % 4 * 2 + e % 2] = number(product.is_bfloat16, product.a, e);
    }
  }
}

void read_b(const void* const* in, size_t i, double (&b)[kDepth][kMostColumns]) {
  const Product& product = of_lane(in, 0).products[i];
  for (int unit = 0; unit < product.units_of_b(); ++unit) {
    const uint32_t* words = of_lane(in, unit % kLanes).loaded[i].b[unit / kLanes];
    const int in_row = product.columns / 8;
    for (int e = 0; e < 8; ++e) {
      const double value = number(product.is_bfloat16, words, e);
      if (product.is_transposed)
        b[unit / in_row][unit % in_row * 8 + e] = value;
      else
        b[unit % 2 * 8 + e][unit / 2] = value;
    }
  }
}

}  // namespace

int swizzle_bits(uint64_t descriptor) {
  return static_cast<int>(descriptor >> 62);
}

uint32_t Product::unit_of_b(int unit) const {
  const Descriptor at(descriptor_b);
  return is_transposed ? at.of_long_row(unit / (columns / 8), unit % (columns / 8)) : at.of_row(unit / 2, unit % 2);
}
uint32_t Product::unit_of_a(int row, int unit) const {
  return Descriptor(descriptor_a).of_row(row + unit / 2, unit % 2);
}

bool Product::is_like(const Product& other) const {
  return same_place(here, other.here) && (a == nullptr) == (other.a == nullptr) && descriptor_a == other.descriptor_a &&
         descriptor_b == other.descriptor_b && columns == other.columns && adds == other.adds &&
         is_transposed == other.is_transposed && is_bfloat16 == other.is_bfloat16;
}

template <Sums How>
void multiply_products(const void* const* in, void* const*) {
  check_lanes(in);
  double a[kRows][kDepth], b[kDepth][kMostColumns];
  for (size_t i = 0; i < of_lane(in, 0).count; ++i) {
    const Product& first = of_lane(in, 0).products[i];
    read_a(in, i, a);
    read_b(in, i, b);
    for (int row = 0; row < kRows; ++row) {
      double d[kMostColumns];
      const auto each_number = [&](const auto& f) {
        for (int column = 0; column < first.columns; ++column) {
          const int lane = row % 8 * 4 + column % 8 / 2;
          f(d[column], of_lane(in, lane).products[i].d[column / 8][row / 8 * 2 + column % 2]);
        }
      };
      each_number([&](double& to, float from) { to = first.adds ? static_cast<double>(from) : 0; });
      add_products_of_row<How>(d, a[row], b, first.columns);
      each_number([](double from, float& to) { to = static_cast<float>(from); });
    }
  }
}

template void multiply_products<Sums::kExact>(const void* const*, void* const*);
template void multiply_products<Sums::kCut>(const void* const*, void* const*);

}  // namespace longfold::simt
