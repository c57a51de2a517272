// The CPU kernels alone: one thread, no torch, memory made and touched once before the first call. What is left is the
// kernels' own time, for profiles and for trying changes.
//
//   bench_evoformer_kernels [--case NAME] [--dtype float32|bfloat16|float16] [--pass forward|backward] [--bias-std X]
//   [--repeats N] perf record -e cpu-clock build/release/bench/bench_evoformer_kernels --case triangle --dtype float32
//   --pass forward
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "bench/fma_peak.h"
#include "longfold/kernels/evoformer_attention.h"
#include "longfold/kernels/isa.h"
#include "tests/cases/evoformer_cases.h"

namespace longfold::bench {
namespace {

using kernels::bfloat16;
using kernels::float16;
using kernels::TensorView;

constexpr std::align_val_t kAlignment{64};

void set(float& to, float value) {
  to = value;
}
void set(bfloat16& to, float value) {
  to = kernels::to_bfloat16(value);
}
void set(float16& to, float value) {
  to = kernels::to_float16(value);
}

struct Free {
  void operator()(void* data) const { ::operator delete(data, kAlignment); }
};
template <class T>
using Buffer = std::unique_ptr<T[], Free>;

template <class T>
Buffer<T> buffer(int64_t count) {
  auto* data = static_cast<T*>(::operator new(static_cast<size_t>(count) * sizeof(T), kAlignment));
  std::fill(data, data + count, T{});
  return Buffer<T>(data);
}

// A contiguous tensor.
template <class T, int Rank>
struct Tensor {
  Buffer<T> data;
  TensorView<T, Rank> view;

  explicit Tensor(std::array<int64_t, Rank> sizes) {
    int64_t count = 1;
    std::array<int64_t, Rank> strides{};
    for (int dim = Rank - 1; dim >= 0; --dim) {
      strides[static_cast<size_t>(dim)] = count;
      count *= sizes[static_cast<size_t>(dim)];
    }
    data = buffer<T>(count);
    view = {data.get(), sizes, strides};
  }

  void fill_with_normal_numbers(uint32_t seed, double std = 1) {
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal(0, static_cast<float>(std));
    const int64_t count = view.sizes[0] * view.strides[0];
    for (int64_t i = 0; i < count; ++i) set(data[static_cast<size_t>(i)], normal(generator));
  }
  [[nodiscard]] TensorView<const T, Rank> read() const { return {view.data, view.sizes, view.strides}; }
};

struct Options {
  std::string only_case, only_dtype, only_pass;
  double bias_std = 1;
  int repeats = 15;
  double peak = 0;

  [[nodiscard]] bool wants_dtype(const char* dtype) const { return only_dtype.empty() || only_dtype == dtype; }
  [[nodiscard]] bool wants_pass(const char* pass) const { return only_pass.empty() || only_pass == pass; }
};

struct Milliseconds {
  double median, least, most;
};

template <class Call>
Milliseconds time(int repeats, const Call& call) {
  std::vector<double> times;
  for (int repeat = -1; repeat < repeats; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    call();
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    if (repeat >= 0) times.push_back(took.count());
  }
  std::sort(times.begin(), times.end());
  return {times[times.size() / 2], times.front(), times.back()};
}

// `products` matrix products make up the pass.
template <class Call>
void measure_pass(const cases::EvoformerCase& c, const char* dtype, const char* pass, const Options& options,
                  double products, const Call& call) {
  if (!options.wants_pass(pass)) return;
  const Milliseconds ms = time(options.repeats, call);
  const double flops = products * 2 * static_cast<double>(c.B * c.N * c.Lq * c.Lk * c.H * c.D);
  std::printf("| %s | %s | %s | %.2f (%.2f-%.2f) | %.1f | %.0f%% |\n", c.name, dtype, pass, ms.median, ms.least,
              ms.most, flops / ms.median / 1e6, 100 * flops / ms.median * 1e3 / options.peak);
  std::fflush(stdout);
}

template <class T>
void measure(const cases::EvoformerCase& c, const char* dtype, const Options& options) {
  Tensor<T, 5> q({c.B, c.N, c.Lq, c.H, c.D}), k({c.B, c.N, c.Lk, c.H, c.D}), v({c.B, c.N, c.Lk, c.H, c.D}),
      out(q.view.sizes), grad_out(q.view.sizes), grad_q(q.view.sizes), grad_k(k.view.sizes), grad_v(k.view.sizes);
  Tensor<float, 4> lse({c.B, c.N, c.H, c.Lq}), correction({c.B, c.N, c.H, c.Lq}), grad_mask({c.B, c.N, c.H, c.Lk}),
      grad_pair({c.B, c.H, c.Lq, c.Lk});
  Tensor<float, 5> mask({c.B, c.N, 1, 1, c.Lk}), pair({c.B, 1, c.H, c.Lq, c.Lk});
  uint32_t seed = 1;
  for (auto* tensor : {&q, &k, &v, &grad_out}) tensor->fill_with_normal_numbers(seed++);
  for (auto* tensor : {&mask, &pair}) tensor->fill_with_normal_numbers(seed++, options.bias_std);
  const std::vector<kernels::BiasView> biases = {
      {.data = mask.data.get(), .strides = {mask.view.strides[0], mask.view.strides[1], 0, 0, 1}},
      {.data = pair.data.get(), .strides = {pair.view.strides[0], 0, pair.view.strides[2], pair.view.strides[3], 1}}};
  const double scale = 1 / std::sqrt(static_cast<double>(c.D));
  const kernels::ForwardArgs<T> forward{.q = q.read(),
                                        .k = k.read(),
                                        .v = v.read(),
                                        .biases = biases,
                                        .out = out.view,
                                        .log_sum_exp = lse.view,
                                        .lse_correction = correction.view,
                                        .scale = scale};
  const kernels::BackwardArgs<T> backward{.q = q.read(),
                                          .k = k.read(),
                                          .v = v.read(),
                                          .biases = biases,
                                          .out = out.read(),
                                          .log_sum_exp = lse.read(),
                                          .lse_correction = correction.read(),
                                          .grad_out = grad_out.read(),
                                          .grad_q = grad_q.view,
                                          .grad_k = grad_k.view,
                                          .grad_v = grad_v.view,
                                          .grad_pair = grad_pair.view,
                                          .grad_mask = grad_mask.view,
                                          .scale = scale};
  const kernels::Plan plan = plan_forward(forward), back = plan_backward(backward);
  const int64_t most = std::max(plan.scratch_bytes, back.scratch_bytes);
  const auto scratch_memory = buffer<std::byte>(most), workspace_memory = buffer<std::byte>(back.workspace_bytes);
  const std::span scratch(scratch_memory.get(), static_cast<size_t>(most));
  const std::span workspace(workspace_memory.get(), static_cast<size_t>(back.workspace_bytes));
  const auto run_forward_pass = [&] { run_forward(forward, 0, plan.num_items, scratch); };
  run_forward_pass();  // the backward pass needs its log-sum-exp
  measure_pass(c, dtype, "forward", options, 2, run_forward_pass);
  measure_pass(c, dtype, "backward", options, 5, [&] {
    run_backward(backward, 0, back.num_items, scratch, workspace);
    finish_backward(backward, 0, back.num_finish_items, workspace);
  });
}

int run(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; i += 2) {
    const std::string word = argv[i], value = i + 1 < argc ? argv[i + 1] : "";
    if (word == "--case" && !value.empty()) {
      options.only_case = value;
    } else if (word == "--dtype" && (value == "float32" || value == "bfloat16" || value == "float16")) {
      options.only_dtype = value;
    } else if (word == "--pass" && (value == "forward" || value == "backward")) {
      options.only_pass = value;
    } else if (word == "--bias-std" && std::atof(value.c_str()) > 0) {
      options.bias_std = std::atof(value.c_str());
    } else if (word == "--repeats" && std::atoi(value.c_str()) > 0) {
      options.repeats = std::atoi(value.c_str());
    } else {
      std::fprintf(stderr,
                   "usage: %s [--case NAME] [--dtype float32|bfloat16|float16] [--pass forward|backward] [--bias-std "
                   "X] [--repeats N]\n",
                   argv[0]);
      return 2;
    }
  }
  options.peak = fma_peak_of_one_thread();
  std::printf("%s kernels, one thread, FMA peak %.0f GFLOP/s fp32\n\n",
              std::string(kernels::isa_name(kernels::selected_isa())).c_str(), options.peak / 1e9);
  std::printf("| case | dtype | pass | ms, median (least-most) | GFLOP/s | of peak |\n|---|---|---|---|---|---|\n");
  bool found = false;
  for (const cases::EvoformerCase& c : cases::full_size_cases()) {
    if (!options.only_case.empty() && c.name != options.only_case) continue;
    found = true;
    if (options.wants_dtype("float32")) measure<float>(c, "float32", options);
    if (options.wants_dtype("bfloat16")) measure<bfloat16>(c, "bfloat16", options);
    if (options.only_dtype == "float16") measure<float16>(c, "float16", options);
  }
  if (found) return 0;
  std::fprintf(stderr, "bench_evoformer_kernels: --case %s: no such case; there are", options.only_case.c_str());
  for (const cases::EvoformerCase& c : cases::full_size_cases()) std::fprintf(stderr, " %s", c.name);
  std::fprintf(stderr, "\n");
  return 2;
}

}  // namespace
}  // namespace longfold::bench

int main(int argc, char** argv) {
  return longfold::bench::run(argc, argv);
}
