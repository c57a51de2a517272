// The memory of one problem: every tensor with its strides and its surroundings, and what came out of it.
#pragma once

#include <variant>

#include "tests/kernels/attention_problem.h"
#include "tests/kernels/placed_tensor.h"

namespace longfold::kernels {

struct Solution {
  Numbers out, lse, lse_correction, grad_q, grad_k, grad_v, grad_pair, grad_mask, grad_logits;
  std::string damage;  // what was written to outside outputs, scratch and workspace; empty if nothing

  // Judged by accuracy: lse_correction is as good as log_sum_exp is rounded, and has no exact value.
  [[nodiscard]] std::vector<std::pair<std::string, const Numbers*>> judged() const {
    return {{"out", &out},       {"log_sum_exp", &lse},     {"grad_q", &grad_q},       {"grad_k", &grad_k},
            {"grad_v", &grad_v}, {"grad_pair", &grad_pair}, {"grad_mask", &grad_mask}, {"grad_logits", &grad_logits}};
  }
  [[nodiscard]] std::vector<std::pair<std::string, const Numbers*>> all() const {
    auto everything = judged();
    everything.emplace_back("lse_correction", &lse_correction);
    return everything;
  }

  // What rows n from begin to end of N have, for all of B. The pair gradient, a sum over rows, stays as it is.
  [[nodiscard]] Solution rows(int64_t B, int64_t N, int64_t begin, int64_t end) const {
    Solution part = *this;
    for (Numbers* numbers : {&part.out, &part.lse, &part.lse_correction, &part.grad_q, &part.grad_k, &part.grad_v,
                             &part.grad_mask, &part.grad_logits}) {
      if (!numbers->empty()) *numbers = rows_of(*numbers, B, N, begin, end);
    }
    return part;
  }

  void drop_signs_of_zeros() {
    for (Numbers* numbers : {&out, &grad_q, &grad_k, &grad_v, &grad_pair, &grad_mask, &grad_logits}) {
      for (double& number : *numbers) number += 0.0;
    }
  }
};

// The memory of one problem in T. Plain loops get it contiguous, so that strides are checked as well.
template <class T>
class PlacedProblem {
 public:
  using Acc = Accumulator<T>;

  PlacedProblem(const Problem& p, cases::Layout layout, Surroundings around)
      : p_(p),
        q_(queries(), placement_of_rows(layout), around),
        k_(keys(), placement_of_keys(layout), around),
        v_(keys(), placement_of_keys(layout), around),
        grad_out_(queries(), placement_of_grad_out(layout), around),
        out_(queries(), placement_of_rows(layout), around),
        grad_q_(queries(), placement_of_rows(layout), around),
        grad_k_(keys(), placement_of_rows(layout), around),
        grad_v_(keys(), placement_of_rows(layout), around),
        lse_(statistics(), placement_of_sums(layout), around),
        correction_(statistics(), placement_of_sums(layout), around),
        grad_lse_(statistics(), placement_of_sums(layout), around),
        grad_pair_({s().B, s().H, s().Lq, s().Lk}, placement_of_sums(layout), around),
        grad_mask_({s().B, s().N, s().H, s().Lk}, placement_of_sums(layout), around),
        grad_logits_({s().B, s().N, s().H, s().Lq, s().Lk}, placement_of_rows(layout), around) {
    q_.write(p.q);
    k_.write(p.k);
    v_.write(p.v);
    grad_out_.write(p.grad_out);
    grad_lse_.write(p.grad_lse);
    for (auto* tensor : {&out_, &grad_q_, &grad_k_, &grad_v_}) tensor->fill(std::nan(""));
    for (auto* tensor : {&lse_, &correction_, &grad_pair_, &grad_mask_}) tensor->fill(std::nan(""));
    grad_logits_.fill(0);  // they are added to
    for (const BiasValues& bias : p.biases) {
      with_dtype(bias.dtype, [&]<class E>() {
        auto& placed = std::get<PlacedTensor<E, 5>>(biases_.emplace_back(
            std::in_place_type<PlacedTensor<E, 5>>, sizes_of(bias.kind, p.shape), placement_of_bias(layout), around));
        placed.write(bias.numbers);
      });
    }
    for (const AnyBias& bias : biases_) {
      std::visit([&](const auto& placed) { bias_views_.push_back(placed.bias_view()); }, bias);
    }
  }

  [[nodiscard]] ForwardArgs<T> forward_args() {
    return {.q = q_.const_view(),
            .k = k_.const_view(),
            .v = v_.const_view(),
            .biases = bias_views_,
            .out = out_.view(),
            .log_sum_exp = lse_.view(),
            .lse_correction = correction_.view(),
            .scale = p_.scale,
            .fully_masked = p_.fully_masked};
  }

  [[nodiscard]] BackwardArgs<T> backward_args() {
    BackwardArgs<T> args{.q = q_.const_view(),
                         .k = k_.const_view(),
                         .v = v_.const_view(),
                         .biases = bias_views_,
                         .out = out_.const_view(),
                         .log_sum_exp = lse_.const_view(),
                         .lse_correction = correction_.const_view(),
                         .grad_out = grad_out_.const_view(),
                         .grad_q = grad_q_.view(),
                         .grad_k = grad_k_.view(),
                         .grad_v = grad_v_.view(),
                         .scale = p_.scale,
                         .fully_masked = p_.fully_masked};
    if (p_.has_grad_lse) args.grad_log_sum_exp = grad_lse_.const_view();
    if (p_.wants_grad_pair) args.grad_pair = grad_pair_.view();
    if (p_.wants_grad_mask) args.grad_mask = grad_mask_.view();
    if (p_.wants_grad_logits) args.grad_logits = grad_logits_.view();
    return args;
  }

  // Of every tensor: for copies elsewhere.
  [[nodiscard]] std::vector<std::span<std::byte>> memories() {
    std::vector<std::span<std::byte>> all;
    for (auto* tensor : {&q_, &k_, &v_, &grad_out_, &out_, &grad_q_, &grad_k_, &grad_v_}) {
      all.push_back(tensor->memory());
    }
    for (auto* tensor : {&lse_, &correction_, &grad_lse_, &grad_pair_, &grad_mask_}) all.push_back(tensor->memory());
    all.push_back(grad_logits_.memory());
    for (AnyBias& bias : biases_) all.push_back(std::visit([](auto& placed) { return placed.memory(); }, bias));
    return all;
  }

  [[nodiscard]] Solution solution() const {
    Solution result{
        out_.read(), lse_.read(), correction_.read(), grad_q_.read(), grad_k_.read(), grad_v_.read(), {}, {}, {}, {}};
    if (p_.wants_grad_pair) result.grad_pair = grad_pair_.read();
    if (p_.wants_grad_mask) result.grad_mask = grad_mask_.read();
    if (p_.wants_grad_logits) result.grad_logits = grad_logits_.read();
    if (!out_.surroundings_untouched()) result.damage += "around out; ";
    if (!lse_.surroundings_untouched()) result.damage += "around log_sum_exp; ";
    if (!correction_.surroundings_untouched()) result.damage += "around lse_correction; ";
    if (!grad_q_.surroundings_untouched()) result.damage += "around grad_q; ";
    if (!grad_k_.surroundings_untouched()) result.damage += "around grad_k; ";
    if (!grad_v_.surroundings_untouched()) result.damage += "around grad_v; ";
    if (!grad_pair_.surroundings_untouched()) result.damage += "around grad_pair; ";
    if (!grad_mask_.surroundings_untouched()) result.damage += "around grad_mask; ";
    if (!grad_logits_.surroundings_untouched()) result.damage += "around grad_logits; ";
    return result;
  }

 private:
  using AnyBias = std::variant<PlacedTensor<float, 5>, PlacedTensor<double, 5>, PlacedTensor<bfloat16, 5>,
                               PlacedTensor<float16, 5>, PlacedTensor<uint8_t, 5>>;

  [[nodiscard]] const cases::EvoformerCase& s() const { return p_.shape; }
  [[nodiscard]] Sizes5 queries() const { return {s().B, s().N, s().Lq, s().H, s().D}; }
  [[nodiscard]] Sizes5 keys() const { return {s().B, s().N, s().Lk, s().H, s().D}; }
  [[nodiscard]] std::array<int64_t, 4> statistics() const { return {s().B, s().N, s().H, s().Lq}; }
  [[nodiscard]] static Placement<5> placement_of_keys(cases::Layout layout) {
    Placement<5> placement = placement_of_rows(layout);
    placement.shared[0] = layout == cases::Layout::kSharedBatch;
    return placement;
  }
  [[nodiscard]] static Placement<5> placement_of_grad_out(cases::Layout layout) {
    Placement<5> placement = placement_of_rows(layout);
    if (layout == cases::Layout::kSharedBatch) placement.shared.fill(true);
    return placement;
  }

  const Problem& p_;
  PlacedTensor<T, 5> q_, k_, v_, grad_out_, out_, grad_q_, grad_k_, grad_v_;
  PlacedTensor<Acc, 4> lse_, correction_, grad_lse_, grad_pair_, grad_mask_;
  PlacedTensor<Acc, 5> grad_logits_;
  std::vector<AnyBias> biases_;
  std::vector<BiasView> bias_views_;
};

}  // namespace longfold::kernels
