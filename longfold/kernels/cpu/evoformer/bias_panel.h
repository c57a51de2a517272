// The biases of one panel of 64 queries, summed by kind: pair biases as a transposed slab [key][64 queries] that is
// made once and serves every row n, or block by block where there is one row, mask biases as one value a key, general
// biases transposed anew for every row. Keys that a bias of kBool hides are looked up for each block.
#pragma once

#include <algorithm>
#include <span>

#include "longfold/kernels/cpu/evoformer/bias_slab.h"

namespace longfold::kernels {
namespace {

// Of the keys of a block: what mask biases add, and 0 for hidden keys, else 1. Null where there is none; no `shown`
// without `added`.
struct MaskRow {
  const float* added = nullptr;
  const float* shown = nullptr;
};

class BiasPanel {
 public:
  BiasPanel(std::span<const BiasView> biases, const Shape& shape, SlabHeld held, float* slab, float* row_slab,
            float* mask)
      : biases_(biases), shape_(shape), held_(held), slab_(slab), row_slab_(row_slab), mask_(mask) {
    bool any_general = false;
    int64_t num_slabs = 0;
    for (const BiasView& bias : biases) {
      const BiasKind kind = kind_of(bias, shape);
      any_general |= kind == BiasKind::kGeneral;
      num_slabs += kind == BiasKind::kPair || kind == BiasKind::kGeneral;
    }
    in_order_ = any_general && num_slabs > 2;
    for (const BiasView& bias : biases) {
      const BiasKind kind = kind_here(bias);
      has_mask_ |= kind == BiasKind::kMask || kind == BiasKind::kHidden;
      has_hidden_ |= kind == BiasKind::kHidden;
      has_pair_ |= kind == BiasKind::kPair;
      has_general_ |= kind == BiasKind::kGeneral;
    }
  }

  // Makes the slabs of panels [first, last) of one head, if rows to come need them too.
  void start_group(int64_t b, int64_t h, int64_t first, int64_t last) {
    at_ = {.b = b, .n = 0, .h = h, .query = 0, .key = 0};
    first_panel_ = first;
    if (!has_pair_ || held_ != SlabHeld::kForRows) return;
    for (int64_t panel = first; panel < last; ++panel) {
      set_panel(panel);
      fill(BiasKind::kPair, 0, shape_.Lk, false, slab_of_panel());
    }
  }

  void start_row(int64_t n) {
    at_.n = n;
    if (has_mask_ && keeps_mask()) fill_mask(0, shape_.Lk);
    hides_all_ = has_hidden_;
    for (int64_t key = 0; key < shape_.Lk && hides_all_; ++key) hides_all_ = hides_key(key);
  }

  [[nodiscard]] bool has_hidden() const { return has_hidden_; }
  // Of the current row.
  [[nodiscard]] bool hides_all() const { return hides_all_; }
  [[nodiscard]] bool hides_key(int64_t key) const {
    return std::any_of(biases_.begin(), biases_.end(),
                       [&](const BiasView& bias) { return hides(bias, bias.offset(at_.b, at_.n, at_.h, 0, key)); });
  }

  void start_panel(int64_t panel) {
    set_panel(panel);
    filled_ = 0;
  }

  // Pair and general biases of keys [key, key + keys) in the current row and panel; null if there are none.
  const float* block(int64_t key, int64_t keys) {
    const float* pair = nullptr;
    if (has_pair_ && held_ != SlabHeld::kForBlock) {
      if (is_missing(key)) fill_panel(key, keys);
      pair = slab_of_panel() + key * kLanes;
    } else if (has_pair_) {
      fill(BiasKind::kPair, key, keys, false, slab_);
      pair = slab_;
    }
    if (!has_general_) return pair;
    if (pair != nullptr) {
      for (int64_t i = 0; i < keys * kLanes; i += kWidth) store(row_slab_ + i, load(pair + i));
    }
    fill(BiasKind::kGeneral, key, keys, pair != nullptr, row_slab_);
    return row_slab_;
  }

  // Asks for the pair biases of keys [key, key + keys) if block() will have to turn them.
  void prefetch(int64_t key, int64_t keys, Prefetcher& prefetcher) const {
    if (!has_pair_ || key >= shape_.Lk || !(held_ == SlabHeld::kForBlock || is_missing(key))) return;
    BiasOrigin at = at_;
    at.n = 0;
    at.key = key;
    for (const BiasView& bias : biases_) {
      if (kind_here(bias) == BiasKind::kPair)
        prefetch_slab(bias, at, queries_, std::min(keys, shape_.Lk - key), prefetcher);
    }
  }

  // Mask biases of the same keys.
  MaskRow mask(int64_t key, int64_t keys) {
    if (!has_mask_) return {};
    if (!keeps_mask()) fill_mask(key, keys);
    return {.added = keeps_mask() ? mask_ + key : mask_, .shown = has_hidden_ ? shown(key, keys) : nullptr};
  }

 private:
  // For a single row n all slabs look alike and are summed in their order. For several rows the order must be the same,
  // or the bits of a row would depend on N; with two it makes no difference.
  [[nodiscard]] BiasKind kind_here(const BiasView& bias) const {
    const BiasKind kind = kind_of(bias, shape_);
    return kind == BiasKind::kPair && in_order_ ? BiasKind::kGeneral : kind;
  }

  [[nodiscard]] bool keeps_mask() const { return mask_keys(shape_, 0) == shape_.Lk; }

  // Of a slab held for a panel, whose blocks come in order.
  [[nodiscard]] bool is_missing(int64_t key) const { return held_ == SlabHeld::kForPanel && key >= filled_; }
  void fill_panel(int64_t key, int64_t keys) {
    fill(BiasKind::kPair, key, keys, false, slab_ + key * kLanes);
    filled_ = key + keys;
  }

  void set_panel(int64_t panel) {
    panel_ = panel;
    at_.query = panel * kLanes;
    queries_ = std::min(kLanes, shape_.Lq - at_.query);
  }

  [[nodiscard]] float* slab_of_panel() const {
    return slab_ + (held_ == SlabHeld::kForRows ? panel_ - first_panel_ : 0) * shape_.Lk * kLanes;
  }

  void fill_mask(int64_t key, int64_t keys) {
    BiasOrigin at = at_;
    at.key = key;
    bool add = false;
    for (const BiasView& bias : biases_) {
      if (kind_of(bias, shape_) != BiasKind::kMask) continue;
      read_mask(bias, at, keys, add, mask_);
      add = true;
    }
    if (!add) std::fill_n(mask_, keys, 0.0f);
  }

  const float* shown(int64_t key, int64_t keys) {
    BiasOrigin at = at_;
    at.key = key;
    std::fill_n(shown_, keys, 1.0f);
    for (const BiasView& bias : biases_) {
      if (bias.dtype == DType::kBool) read_hidden(bias, at, keys, shown_);
    }
    return shown_;
  }

  void fill(BiasKind kind, int64_t key, int64_t keys, bool add, float* slab) {
    BiasOrigin at = at_;
    at.key = key;
    if (kind == BiasKind::kPair) at.n = 0;
    for (const BiasView& bias : biases_) {
      if (kind_here(bias) != kind) continue;
      read_slab(bias, at, queries_, keys, add, slab);
      add = true;
    }
  }

  std::span<const BiasView> biases_;
  Shape shape_;
  SlabHeld held_;
  float* slab_;
  float* row_slab_;
  float* mask_;
  alignas(64) float shown_[kMostBlockKeys];
  bool in_order_ = false;
  bool has_mask_ = false;
  bool has_pair_ = false;
  bool has_general_ = false;
  bool has_hidden_ = false;
  bool hides_all_ = false;
  BiasOrigin at_{};
  int64_t first_panel_ = 0;
  int64_t panel_ = 0;
  int64_t queries_ = 0;
  int64_t filled_ = 0;  // keys of a slab held for a panel that are there
};

}  // namespace
}  // namespace longfold::kernels
