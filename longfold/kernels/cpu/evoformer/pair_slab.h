// A slab of gradients of logits whose sum over rows n is part of the gradient of a pair bias.
#pragma once

#include "longfold/kernels/cpu/long_sum.h"

namespace longfold::kernels {
namespace {

// A panel's part of the pair-bias gradient, from the first key of a block on; data may be null. The last panel keeps
// only vectors of lanes that hold queries. The first row n of an item overwrites what is there.
struct PairSlab {
  float* data = nullptr;
  float* rest = nullptr;  // of a long sum, with the other sign; may be null
  int64_t lanes = 0;
  bool overwrite = false;

  LONGFOLD_INLINE void operator()(int64_t key, int64_t lane, Vec ds) const {
    if (data == nullptr || lane >= lanes) return;
    float* to = data + key * lanes + lane;
    if (overwrite) {
      store(to, ds);
      if (rest != nullptr) store(rest + key * lanes + lane, Vec{});
    } else if (rest != nullptr) {
      add_long_negative(ds, to, rest + key * lanes + lane);
    } else {
      store(to, load(to) + ds);
    }
  }

  void clear(int64_t keys) const {
    for (int64_t i = 0; i < keys * lanes; i += kWidth) {
      store(data + i, Vec{});
      if (rest != nullptr) store(rest + i, Vec{});
    }
  }

  [[nodiscard]] PairSlab from_key(int64_t key) const {
    PairSlab later = *this;
    if (data != nullptr) later.data += key * lanes;
    if (rest != nullptr) later.rest += key * lanes;
    return later;
  }
};

}  // namespace
}  // namespace longfold::kernels
