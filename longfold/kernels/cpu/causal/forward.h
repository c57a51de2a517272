// Forward pass of one item: a few neighbouring panels of 64 queries of one document and head. Each block of keys passes
// through scores, running softmax and the gathering of v of all panels that see it, while it is in the cache.
#pragma once

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "longfold/kernels/causal_attention.h"
#include "longfold/kernels/cpu/causal/buffers.h"
#include "longfold/kernels/cpu/causal/document.h"
#include "longfold/kernels/cpu/causal/logit.h"
#include "longfold/kernels/cpu/running_softmax.h"

namespace longfold::kernels {
namespace {

template <class T>
class CausalForwardItem {
 public:
  CausalForwardItem(const CausalForwardArgs<T>& args, const CausalForwardPlan& plan, const CausalShape& shape,
                    float* scratch)
      : args_(args),
        plan_(plan),
        shape_(shape),
        buffers_(shape, scratch),
        panels_(make_panels(std::make_index_sequence<kCausalPanels>())) {}

  void run(int64_t item) {
    const int64_t group = item / shape_.H;
    head_ = item % shape_.H;
    const auto& groups = plan_.document_groups;
    const auto after = std::upper_bound(groups.begin(), groups.end(), group);
    const Document document(args_, after - groups.begin() - 1);
    // The long ones first: threads end at about the same time.
    const int64_t first = (*after - 1 - group) * kCausalPanels * kLanes;
    run_group(document, first, std::min(first + kCausalPanels * kLanes, document.tokens.queries));
  }

 private:
  using Softmax = RunningSoftmax<kPack<T>, NoPrefetch>;

  struct Panel {
    Panel(const CausalForwardBuffers& shared, const CausalPanelBuffers& own, int64_t D, NoPrefetch& prefetch)
        : buffers(own),
          softmax({.q_panel = own.q_panel,
                   .weights = shared.weights,
                   .largest = own.largest,
                   .total = own.total,
                   .total_rest = own.total_rest,
                   .block = shared.block,
                   .correction = shared.correction},
                  prefetch),
          out(own.out_panel, own.out_sum, own.out_rest, D * kLanes, 0) {}

    CausalPanelBuffers buffers;
    Softmax softmax;
    PanelSum out;
    int64_t query = 0, queries = 0;
    int64_t first_key = 0, end_key = 0;
  };

  template <size_t... i>
  std::array<Panel, kCausalPanels> make_panels(std::index_sequence<i...>) {
    return {Panel(buffers_, buffers_.panels[i], shape_.D, prefetch_)...};
  }

  // Queries [begin, end).
  void run_group(const Document& document, int64_t begin, int64_t end) {
    const int64_t num_panels = divide_up(end - begin, kLanes), kv = head_ / (shape_.H / shape_.KV);
    for (int64_t i = 0; i < num_panels; ++i) {
      const int64_t query = begin + i * kLanes;
      start_panel(document, query, std::min(kLanes, end - query), panels_[static_cast<size_t>(i)]);
    }
    const int64_t end_key = document.end_key(end);
    for (int64_t key = document.first_key(begin); key < end_key; key += kCausalKeys) {
      const int64_t keys = std::min(kCausalKeys, end_key - key);
      const float* k = row_words(document.rows(args_.k, key, kv), keys, shape_.D, buffers_.k_rows);
      const float* v = row_pair_words(document.rows(args_.v, key, kv), keys, shape_.D, buffers_.v_pairs);
      for (int64_t i = 0; i < num_panels; ++i) {
        Panel& panel = panels_[static_cast<size_t>(i)];
        if (key >= panel.first_key && key < panel.end_key) {
          block(document, panel, key, std::min(keys, panel.end_key - key), k, v);
        }
      }
    }
    for (int64_t i = 0; i < num_panels; ++i) finish_panel(document, panels_[static_cast<size_t>(i)]);
  }

  void start_panel(const Document& document, int64_t query, int64_t queries, Panel& panel) const {
    panel.query = query;
    panel.queries = queries;
    panel.first_key = document.first_key(query);
    panel.end_key = document.end_key(query + queries);
    const CausalPanelBuffers& own = panel.buffers;
    panel.out = PanelSum(own.out_panel, own.out_sum, own.out_rest, shape_.D * kLanes, panel.end_key - panel.first_key);
    panel.softmax.start_panel();
    rows_to_panel<kPack<T>>(document.rows(args_.q, query, head_), queries, shape_.D, own.q_panel);
  }

  void block(const Document& document, Panel& panel, int64_t key, int64_t keys, const float* k, const float* v) {
    const int64_t passed = key - panel.first_key;
    const bool may_weigh = passed > 0 && keys == kCausalKeys;
    bool moved = false;
    with_causal_logit(args_.scale, document.distance(key, panel.query), panel.queries, document.window,
                      [&](const auto& logit) {
                        moved = panel.softmax.block(k, divide_up(shape_.D, kPack<T>), keys, may_weigh, logit);
                      });
    const float *weights = buffers_.weights, *correction = buffers_.correction;
    float* out = panel.buffers.out_panel;
    if (moved) panel.out.scale(passed, correction);
    if (PanelSum::starts_at(passed))
      gather<Gather::kFirst, kPack<T>>(v, weights, shape_.D, keys, correction, out);
    else if (moved)
      gather<Gather::kCorrectAndAdd, kPack<T>>(v, weights, shape_.D, keys, correction, out);
    else
      gather<Gather::kAdd, kPack<T>>(v, weights, shape_.D, keys, correction, out);
    panel.out.end_block(passed + kCausalKeys);
  }

  void finish_panel(const Document& document, Panel& panel) {
    const CausalPanelBuffers& own = panel.buffers;
    panel.out.finish();
    alignas(64) float log_sum_exp[kLanes];
    for (int64_t lane = 0; lane < kLanes; lane += kWidth) {
      const Vec total = joined(load(own.total + lane), load(own.total_rest + lane));
      store(buffers_.correction + lane, 1.0f / total);
      // The maximum passes over NaN, the sum does not.
      const Vec infinity = splat(std::numeric_limits<float>::infinity());
      store(log_sum_exp + lane, select_at_most(total, infinity, load(own.largest + lane) + log(total), total));
    }
    panel_to_rows(own.out_panel, buffers_.correction, shape_.D, document.rows(args_.out, panel.query, head_),
                  panel.queries);
    for (int64_t i = 0; i < panel.queries; ++i) {
      args_.log_sum_exp(document.b, head_, document.s + panel.query + i) = log_sum_exp[i];
    }
  }

  const CausalForwardArgs<T>& args_;
  const CausalForwardPlan& plan_;
  CausalShape shape_;
  CausalForwardBuffers buffers_;
  NoPrefetch prefetch_;
  std::array<Panel, kCausalPanels> panels_;
  int64_t head_ = 0;
};

}  // namespace
}  // namespace longfold::kernels
