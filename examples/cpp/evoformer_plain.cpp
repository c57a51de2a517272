// Evoformer attention without torch: data in std::vector, three threads of our own, the result checked by plain loops.
#include <longfold/kernels/evoformer_attention.h>
#include <longfold/kernels/isa.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <new>
#include <random>
#include <thread>
#include <vector>

namespace kernels = longfold::kernels;

constexpr int64_t B = 1, N = 6, L = 100, H = 2, D = 16;  // batch, rows, length, heads, head dim
constexpr int kThreads = 3;

template <int Rank>
struct Tensor {  // contiguous
  explicit Tensor(std::array<int64_t, Rank> sizes) : view{.sizes = sizes} {
    int64_t count = 1;
    for (size_t dim = Rank; dim-- > 0; count *= sizes[dim]) view.strides[dim] = count;
    values.resize(static_cast<size_t>(count));
    view.data = values.data();
  }
  kernels::TensorView<const float, Rank> const_view() const { return {view.data, view.sizes, view.strides}; }

  std::vector<float> values;
  kernels::TensorView<float, Rank> view;
};

struct Scratch {  // 64-byte aligned memory for one thread
  explicit Scratch(int64_t num_bytes) : bytes(static_cast<size_t>(num_bytes)) {}
  ~Scratch() { ::operator delete(data, std::align_val_t{64}); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  size_t bytes;
  std::byte* data = static_cast<std::byte*>(::operator new(bytes, std::align_val_t{64}));
};

// softmax(scale * q k^T + mask + pair) v for one row of the result.
std::vector<double> by_plain_loops(const kernels::ForwardArgs<float>& args, int64_t n, int64_t i, int64_t h,
                                   double& largest_logit) {
  std::vector<double> logits(L);
  for (int64_t j = 0; j < L; ++j) {
    double dot = 0;
    for (int64_t d = 0; d < D; ++d) dot += static_cast<double>(args.q(0, n, i, h, d)) * args.k(0, n, j, h, d);
    logits[j] = args.scale * dot;
    for (const kernels::BiasView& bias : args.biases) {
      logits[j] += static_cast<const float*>(bias.data)[bias.offset(0, n, h, i, j)];
    }
    largest_logit = std::max(largest_logit, std::abs(logits[j]));
  }
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (double& logit : logits) sum += logit = std::exp(logit - largest);
  std::vector<double> out(D);
  for (int64_t j = 0; j < L; ++j) {
    for (int64_t d = 0; d < D; ++d) out[d] += logits[j] / sum * args.v(0, n, j, h, d);
  }
  return out;
}

int main() {
  Tensor<5> q({B, N, L, H, D}), k({B, N, L, H, D}), v({B, N, L, H, D}), out({B, N, L, H, D});
  Tensor<5> mask({B, N, 1, 1, L}), pair({B, 1, H, L, L});
  Tensor<4> log_sum_exp({B, N, H, L}), correction({B, N, H, L});
  std::mt19937 generator(1);
  std::normal_distribution<float> normal;
  for (Tensor<5>* tensor : {&q, &k, &v, &mask, &pair}) {
    for (float& value : tensor->values) value = normal(generator);
  }

  // Where a bias does not vary its stride is 0.
  const std::array<kernels::BiasView, 2> biases{{
      {.data = mask.view.data, .strides = {N * L, L, 0, 0, 1}},
      {.data = pair.view.data, .strides = {H * L * L, 0, L * L, L, 1}},
  }};
  const kernels::ForwardArgs<float> args{.q = q.const_view(),
                                         .k = k.const_view(),
                                         .v = v.const_view(),
                                         .biases = biases,
                                         .out = out.view,
                                         .log_sum_exp = log_sum_exp.view,
                                         .lse_correction = correction.view,
                                         .scale = 1 / std::sqrt(static_cast<double>(D))};
  const kernels::Plan plan = kernels::plan_forward(args);
  {
    std::vector<std::jthread> threads;  // the result's bits do not depend on how many
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        const Scratch scratch(plan.scratch_bytes);
        kernels::run_forward(args, plan.num_items * t / kThreads, plan.num_items * (t + 1) / kThreads,
                             {scratch.data, scratch.bytes});
      });
    }
  }

  double error = 0, largest_logit = 0, largest_value = 0;
  for (const float value : v.values) largest_value = std::max(largest_value, std::abs(static_cast<double>(value)));
  for (int64_t n = 0; n < N; ++n) {
    for (int64_t i = 0; i < L; ++i) {
      for (int64_t h = 0; h < H; ++h) {
        const auto expected = by_plain_loops(args, n, i, h, largest_logit);
        for (int64_t d = 0; d < D; ++d) error = std::max(error, std::abs(out.view(0, n, i, h, d) - expected[d]));
      }
    }
  }
  // A logit x is rounded by up to eps * |x| a few times over, and that is the relative error of its weight.
  const double allowed = 4 * std::numeric_limits<float>::epsilon() * (1 + largest_logit) * largest_value;
  std::printf("%s kernels, %d threads: out[0] = %.6f, largest error %.2g of %.2g allowed\n",
              kernels::isa_name(kernels::selected_isa()).data(), kThreads, out.values[0], error, allowed);
  return error <= allowed ? 0 : 1;  // NaN is not
}
