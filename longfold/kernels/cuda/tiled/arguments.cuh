// What the tiled kernels are given, by value.
#pragma once

#include <algorithm>
#include <array>

#include "longfold/kernels/cuda/plain/arguments.cuh"
#include "longfold/kernels/evoformer/bias.h"

namespace longfold::kernels::cuda::tiled {

using plain::device_view;
using plain::DeviceBias;
using plain::DeviceView;

// q, k, v, out and their gradients.
template <class T>
struct Rows {
  DeviceView<T, 5> view;  // [B, N, L, H, D]
  bool in_quads;          // each row of D lies in whole units of four elements; else it is read one by one
};

template <class T>
Rows<T> rows_of(const TensorView<T, 5>& view) {
  constexpr int64_t kQuad = 4;
  Rows<T> rows{device_view(view), view.strides[4] == 1};
  rows.in_quads &= reinterpret_cast<uintptr_t>(view.data) % (kQuad * sizeof(T)) == 0;
  for (const size_t dim : {0, 1, 2, 3}) rows.in_quads &= view.sizes[dim] == 1 || view.strides[dim] % kQuad == 0;
  return rows;
}

constexpr int kMostMasks = 4;  // that are kept in shared memory; more are read as other biases are

// What logits are made of.
template <class T>
struct Problem {
  Shape shape;
  Rows<const T> q, k, v;
  plain::DeviceBiases biases;
  int8_t mask_places[kMostBiases];  // of biases that are the same for all queries, in shared memory; -1: not there
  bool has_hidden;                  // one of the biases is of kBool
  float scale;
  bool mean_if_masked;
};

template <class T, class Args>
Problem<T> problem_of(const Args& args) {
  const auto& q = args.q.sizes;
  Problem<T> p{.shape = {.B = q[0], .N = q[1], .Lq = q[2], .Lk = args.k.sizes[2], .H = q[3], .D = q[4]},
               .q = rows_of(args.q),
               .k = rows_of(args.k),
               .v = rows_of(args.v),
               .biases = plain::device_biases(args.biases),
               .mask_places = {},
               .has_hidden = false,
               .scale = static_cast<float>(args.scale),
               .mean_if_masked = args.fully_masked == FullyMasked::kMean};
  int8_t masks = 0;
  for (size_t i = 0; i < args.biases.size(); ++i) {
    const BiasKind kind = kind_of(args.biases[i], p.shape);
    p.has_hidden |= kind == BiasKind::kHidden;
    p.mask_places[i] = kind == BiasKind::kMask && masks < kMostMasks ? masks++ : int8_t{-1};
  }
  return p;
}

template <class T>
struct ForwardParams {
  Problem<T> problem;
  Rows<T> out;
  DeviceView<float, 4> log_sum_exp, lse_correction;  // [B, N, H, Lq]
};

template <class T>
ForwardParams<T> params_of(const ForwardArgs<T>& args) {
  return {.problem = problem_of<T>(args),
          .out = rows_of(args.out),
          .log_sum_exp = device_view(args.log_sum_exp),
          .lse_correction = device_view(args.lse_correction)};
}

// Where sums of logit gradients go.
struct PairSums {
  DeviceView<float, 5> view;  // [groups, B, H, Lq, Lk]
  int64_t groups;             // of rows n, each with a sum of its own
  int64_t B, H;               // of the sums; 1: all batches or heads share them
  bool adds;                  // to what is there
};

template <class T>
struct BackwardParams {
  Problem<T> problem;
  Rows<const T> out, grad_out;
  DeviceView<const float, 4> log_sum_exp, lse_correction, grad_log_sum_exp;  // [B, N, H, Lq]; the last or null
  Rows<T> grad_q, grad_k, grad_v;
  DeviceView<float, 4> grad_mask;  // [B, N, H, Lk] or null
  float* delta;                    // [B, N, H, Lq], contiguous
  PairSums pair_sums;
};

// All but what lies in a workspace.
template <class T>
BackwardParams<T> params_of(const BackwardArgs<T>& args) {
  return {.problem = problem_of<T>(args),
          .out = rows_of(args.out),
          .grad_out = rows_of(args.grad_out),
          .log_sum_exp = device_view(args.log_sum_exp),
          .lse_correction = device_view(args.lse_correction),
          .grad_log_sum_exp = device_view(args.grad_log_sum_exp),
          .grad_q = rows_of(args.grad_q),
          .grad_k = rows_of(args.grad_k),
          .grad_v = rows_of(args.grad_v),
          .grad_mask = device_view(args.grad_mask),
          .delta = nullptr,
          .pair_sums = {}};
}

// The pair gradient's sums of so many groups, side by side.
inline PairSums pair_planes(float* sums, int64_t groups, const Shape& shape) {
  const int64_t plane = shape.Lq * shape.Lk;
  return {.view = {sums, {shape.B * shape.H * plane, shape.H * plane, plane, shape.Lk, 1}},
          .groups = groups,
          .B = shape.B,
          .H = shape.H,
          .adds = false};
}
// The pair gradient as the sum of one group.
inline PairSums pair_gradient(const TensorView<float, 4>& grad) {
  return {.view = {grad.data, {0, grad.strides[0], grad.strides[1], grad.strides[2], grad.strides[3]}},
          .groups = 1,
          .B = grad.sizes[0],
          .H = grad.sizes[1],
          .adds = false};
}
// grad_logits, whose rows are groups.
inline PairSums logit_gradients(const TensorView<float, 5>& grad) {
  return {.view = {grad.data, {grad.strides[1], grad.strides[0], grad.strides[2], grad.strides[3], grad.strides[4]}},
          .groups = grad.sizes[1],
          .B = grad.sizes[0],
          .H = grad.sizes[2],
          .adds = true};
}

}  // namespace longfold::kernels::cuda::tiled
