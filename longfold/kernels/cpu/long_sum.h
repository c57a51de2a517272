// Sums of many terms that keep their digits: beside each sum stands its rest, what the roundings of the sum left out.
// A plain sum of thousands of terms that are alike, rows of an alignment say, errs the same way again and again.
#pragma once

#include "longfold/kernels/cpu/simd.h"
#include "longfold/kernels/panels.h"

namespace longfold::kernels {
namespace {

// The rounded sum; `lost` is what rounding took from it, exactly (Knuth, The Art of Computer Programming 2, 4.2.2).
template <class V>
LONGFOLD_INLINE V two_sum(V a, V b, V& lost) {
  const V sum = a + b, b_there = sum - a;
  lost = (a - (sum - b_there)) + (b - b_there);
  return sum;
}

// A sum with its rest. Where the sum is no finite number, the rest is none at all and the sum stands alone.
LONGFOLD_INLINE Vec joined(Vec sum, Vec rest) {
  const auto is_number = reinterpret_cast<IntVec>(rest == rest);
  return sum + reinterpret_cast<Vec>(reinterpret_cast<IntVec>(rest) & is_number);
}
LONGFOLD_INLINE float joined(float sum, float rest) {
  return rest == rest ? sum + rest : sum;
}

LONGFOLD_INLINE void add_long(Vec term, float* sum, float* rest) {
  Vec lost;
  store(sum, two_sum(load(sum), term, lost));
  store(rest, load(rest) + lost);
}
LONGFOLD_INLINE void add_long(float term, float& sum, float& rest) {
  float lost;
  sum = two_sum(sum, term, lost);
  rest += lost;
}

// The same with a rest of the other sign, which the next term takes up: fewer operations (Kahan 1965).
LONGFOLD_INLINE void add_long_negative(Vec term, float* sum, float* rest) {
  const Vec before = load(sum), more = term - load(rest), after = before + more;
  store(sum, after);
  store(rest, (after - before) - more);
}

// The same with a rest of 16 bits, which is kept below half a unit in the last place of the sum: 2^-33 of the sum is
// all that rounding such a rest can take.
LONGFOLD_INLINE void put_long(Vec sum, Vec rest, float* to_sum, uint16_t* to_rest) {
  Vec left;
  store(to_sum, two_sum(sum, rest, left));
  store_short(to_rest, narrow_bfloat16(left));
}
LONGFOLD_INLINE void add_long(Vec term, float* sum, uint16_t* rest) {
  Vec lost;
  const Vec rounded = two_sum(load(sum), term, lost);
  put_long(rounded, lost + widen_bfloat16(load_short(rest)), sum, rest);
}

// A panel [D][64] that sums over the keys of a row. In long rows it is emptied into a long sum every kLongRow keys, and
// the next block of keys starts it anew.
class PanelSum {
 public:
  PanelSum(float* panel, float* sum, float* rest, int64_t num_floats, int64_t Lk)
      : panel_(panel), sum_(sum), rest_(rest), num_floats_(num_floats), Lk_(Lk) {}

  [[nodiscard]] static bool starts_at(int64_t key) { return key % kLongRow == 0; }

  // After the block of keys that ends before `key`.
  void end_block(int64_t key) {
    if (key % kLongRow != 0 || key >= Lk_) return;
    for (int64_t i = 0; i < num_floats_; i += kWidth) {
      if (key == kLongRow) {
        store(sum_ + i, load(panel_ + i));
        store(rest_ + i, Vec{});
      } else {
        add_long(load(panel_ + i), sum_ + i, rest_ + i);
      }
    }
  }

  // Before the block at `key`: everything so far times factor[64].
  void scale(int64_t key, const float* factor) {
    if (key < kLongRow) return;
    for (int64_t i = 0; i < num_floats_; i += kWidth) {
      const Vec by = load(factor + i % kLanes);
      store(sum_ + i, load(sum_ + i) * by);
      store(rest_ + i, load(rest_ + i) * by);
    }
  }

  // After the last block: the panel holds all.
  void finish() {
    if (Lk_ <= kLongRow) return;
    for (int64_t i = 0; i < num_floats_; i += kWidth) {
      add_long(load(panel_ + i), sum_ + i, rest_ + i);
      store(panel_ + i, joined(load(sum_ + i), load(rest_ + i)));
    }
  }

 private:
  float* panel_;
  float* sum_;
  float* rest_;
  int64_t num_floats_;
  int64_t Lk_;
};

}  // namespace
}  // namespace longfold::kernels
