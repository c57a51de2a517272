// What is left of a backward pass when all items are done: partial copies of the pair bias's gradient, or sums over
// spans of queries, are added up in their order.
#pragma once

#include "longfold/kernels/cpu/evoformer/key_sums.h"
#include "longfold/kernels/cpu/evoformer/pair_gradient.h"
#include "longfold/kernels/cpu/prefetch.h"

namespace longfold::kernels {
namespace {

// [kWidth lanes] of the partial copies of one key, added up in order; `rest` is what the roundings left out.
LONGFOLD_INLINE Vec sum_of_copies(PartialCopies first, int64_t copies, int64_t between, Vec& rest) {
  Vec sum = load(first.sums);
  rest = first.rests == nullptr ? Vec{} : widen_bfloat16(load_short(first.rests));
  for (int64_t copy = 1; copy < copies; ++copy) {
    Vec lost;
    sum = two_sum(sum, load(first.sums + copy * between), lost);
    if (first.rests != nullptr) lost += widen_bfloat16(load_short(first.rests + copy * between));
    rest += lost;
  }
  return sum;
}

// One (b, h, panel): the partial copies of the pair-bias gradient, summed in order and turned back to [query][key].
template <class T>
void finish_grad_pair(const BackwardArgs<T>& args, const Shape& shape, int64_t item, float* workspace) {
  const int64_t panel = item % num_panels(shape);
  const int64_t head = item / num_panels(shape);  // b * H + h
  const int64_t b = head / shape.H, h = head % shape.H;
  const int64_t groups = cut_backward(shape, true).row_groups;
  const int64_t lanes = panel_lanes(shape, panel);
  const PartialCopies copies = PartialCopies(shape, workspace).of_panel(shape, head * groups, panel);
  const int64_t between = partial_offset(shape, 1, 0);
  const int64_t query = panel * kLanes;
  const int64_t queries = std::min(kLanes, shape.Lq - query);
  for (int64_t lane = 0; lane < queries; lane += kWidth) {
    for (int64_t key = 0; key < shape.Lk; key += kWidth) {
      const int64_t keys = std::min<int64_t>(kWidth, shape.Lk - key);
      Vec sums[kWidth] = {}, rests[kWidth] = {};
      for (int64_t j = 0; j < keys; ++j) {
        PartialCopies at = copies;
        at.sums += (key + j) * lanes + lane;
        if (at.rests != nullptr) at.rests += (key + j) * lanes + lane;
        sums[j] = sum_of_copies(at, groups, between, rests[j]);
      }
      put_grad_pair(args, b, h, query + lane, std::min<int64_t>(kWidth, queries - lane), key, keys, sums, rests);
    }
  }
}

// Keys [key, key + keys) of one head, at most kWidth: the sums of all spans, in the place of the first.
inline SpanSums sum_of_spans(const Shape& shape, int64_t head, int64_t key, int64_t keys, float* workspace) {
  const auto span = [&](int64_t i) {
    return SpanSums::of_item(shape, head, i, workspace).from(shape, shape.Lk, 0, key);
  };
  const SpanSums first = span(0);
  const auto add_up = [&]<bool IsLong>(float* SpanSums::* which) {
    for (int64_t i = 0; i < keys * scatter_width(shape); i += kWidth) {
      Vec sum = load(first.*which + i), rest{};
      for (int64_t s = 1; s < num_spans(shape); ++s) {
        const Vec more = load(span(s).*which + i);
        if constexpr (IsLong) {
          Vec lost;
          sum = two_sum(sum, more, lost);
          rest += lost;
        } else {
          sum += more;
        }
      }
      store(first.*which + i, joined(sum, rest));
    }
  };
  for (float* SpanSums::* which : {&SpanSums::grad_k, &SpanSums::grad_v}) {
    has_long_columns(shape) ? add_up.template operator()<true>(which) : add_up.template operator()<false>(which);
  }
  Vec sum = load(first.mask), rest = load(first.mask_rest);
  for (int64_t s = 1; s < num_spans(shape); ++s) add_mask_span(load(span(s).mask), load(span(s).mask_rest), sum, rest);
  store(first.mask, sum);
  store(first.mask_rest, rest);
  return first;
}

// One (b, h, kFinishKeys keys) of a call whose items are spans: what these left in the workspace, summed in order.
template <class T>
void finish_key_sums(const BackwardArgs<T>& args, const Shape& shape, int64_t item, float* workspace) {
  const int64_t chunks = divide_up(shape.Lk, kFinishKeys), head = item / chunks;
  const int64_t b = head / shape.H, h = head % shape.H;
  const int64_t begin = item % chunks * kFinishKeys, end = std::min(begin + kFinishKeys, shape.Lk);
  Prefetcher prefetcher;
  for (int64_t key = begin; key < end; key += kWidth) {
    const int64_t keys = std::min<int64_t>(kWidth, end - key);
    prefetcher.clear();
    for (const auto* to : {&args.grad_k, &args.grad_v}) {
      prefetcher.add(Matrix{to->at(b, 0, key, h), to->strides[2], to->strides[4]}, 0, keys, shape.D);
    }
    prefetcher.spread(1);
    prefetcher.step();
    write_key_sums(args, shape, b, 0, h, key, keys, sum_of_spans(shape, head, key, keys, workspace));
  }
}

}  // namespace
}  // namespace longfold::kernels
