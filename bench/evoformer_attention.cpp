// Evoformer attention by longfold, torch eager and torch SDPA (bias expanded), in one process, taking turns. Prints a
// Markdown table: medians with their spread, ratios, share of the FMA peak, extra peak memory, error against fp64.
//
//   bench_evoformer_attention [--repeats N] [--threads N] [--small]
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "bench/fma_peak.h"
#include "longfold/base/text.h"
#include "longfold/kernels/isa.h"
#include "longfold/memory/meter.h"
#include "longfold/ops/evoformer_attention.h"
#include "longfold/version.h"

namespace longfold::bench {
namespace {

struct Shape {
  int64_t N, L, H, D;
  at::ScalarType dtype;
};

struct Inputs {
  at::Tensor q, k, v, mask, pair, grad_out;
  [[nodiscard]] std::vector<at::Tensor> all() const { return {q, k, v, mask, pair}; }
};

Inputs make_inputs(const Shape& s) {
  at::manual_seed(1);
  const auto leaf = [&](at::IntArrayRef sizes, at::ScalarType dtype) {
    return at::randn(sizes, at::kFloat).to(dtype).requires_grad_(true);
  };
  return {.q = leaf({1, s.N, s.L, s.H, s.D}, s.dtype),
          .k = leaf({1, s.N, s.L, s.H, s.D}, s.dtype),
          .v = leaf({1, s.N, s.L, s.H, s.D}, s.dtype),
          .mask = leaf({1, s.N, 1, 1, s.L}, s.dtype),
          .pair = leaf({1, 1, s.H, s.L, s.L}, s.dtype),
          .grad_out = at::randn({1, s.N, s.L, s.H, s.D}).to(s.dtype)};
}

at::Tensor longfold_attention(const Inputs& x) {
  return ops::evoformer_attention(x.q, x.k, x.v, {x.mask, x.pair});
}

at::Tensor eager_attention(const Inputs& x) {
  const double scale = 1 / std::sqrt(static_cast<double>(x.q.size(-1)));
  const auto logits = at::matmul(x.q.transpose(2, 3) * scale, x.k.permute({0, 1, 3, 4, 2})) + x.mask + x.pair;
  const auto softmax_type = x.q.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const auto weights = at::softmax(logits, -1, softmax_type).to(x.v.scalar_type());
  return at::matmul(weights, x.v.transpose(2, 3)).transpose(2, 3);
}

at::Tensor sdpa_attention(const Inputs& x) {
  const auto heads_first = [](const at::Tensor& t) { return t.flatten(0, 1).transpose(1, 2); };
  const auto bias = (x.mask + x.pair).flatten(0, 1);
  return at::scaled_dot_product_attention(heads_first(x.q), heads_first(x.k), heads_first(x.v), bias)
      .transpose(1, 2)
      .unsqueeze(0);
}

struct Contender {
  const char* name;
  std::function<at::Tensor(const Inputs&)> attention;
  std::vector<double> forward_ms, both_ms;
  int64_t forward_extra = 0, both_extra = 0;  // bytes of peak beyond inputs, results and gradients included
  double out_error = 0, grad_error = 0;       // largest, relative to the largest exact value
};

double milliseconds(const std::function<void()>& action) {
  const auto start = std::chrono::steady_clock::now();
  action();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

struct Spread {
  double median, low, high;
};
Spread spread(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return {values[values.size() / 2], values.front(), values.back()};
}

void forget_gradients(const Inputs& x) {
  for (at::Tensor t : x.all()) t.mutable_grad().reset();
}

void measure_once(Contender& c, const Inputs& x, const memory::MemoryMeter& meter) {
  meter.reset_peak();
  const int64_t before = meter.live();
  {
    const at::NoGradGuard no_grad;
    c.forward_ms.push_back(milliseconds([&] { c.attention(x); }));
  }
  c.forward_extra = meter.peak() - before;
  meter.reset_peak();
  c.both_ms.push_back(milliseconds([&] { c.attention(x).backward(x.grad_out); }));
  c.both_extra = meter.peak() - before;
  forget_gradients(x);
}

double relative_error(const at::Tensor& got, const at::Tensor& exact) {
  return ((got.to(at::kDouble) - exact).abs().max() / exact.abs().max()).item<double>();
}

// Against fp64 on the first rows n only: the fp64 logits of all rows would not fit.
void measure_errors(std::vector<Contender>& contenders, const Shape& shape) {
  Shape few = shape;
  few.N = std::min<int64_t>(shape.N, 4);
  const Inputs x = make_inputs(few);
  Inputs exact_inputs = x;
  for (at::Tensor* t : {&exact_inputs.q, &exact_inputs.k, &exact_inputs.v, &exact_inputs.mask, &exact_inputs.pair}) {
    *t = t->detach().to(at::kDouble).requires_grad_(true);
  }
  const at::Tensor exact = eager_attention(exact_inputs);
  exact.backward(x.grad_out.to(at::kDouble));
  for (Contender& c : contenders) {
    const at::Tensor out = c.attention(x);
    out.backward(x.grad_out);
    c.out_error = relative_error(out, exact);
    for (size_t i = 0; i < x.all().size(); ++i) {
      c.grad_error = std::max(c.grad_error, relative_error(x.all()[i].grad(), exact_inputs.all()[i].grad()));
    }
    forget_gradients(x);
  }
}

void bench_shape(const Shape& s, int repeats, double peak, const memory::MemoryMeter& meter) {
  std::vector<Contender> contenders(3);
  contenders[0].name = "longfold", contenders[0].attention = longfold_attention;
  contenders[1].name = "SDPA", contenders[1].attention = sdpa_attention;
  contenders[2].name = "eager", contenders[2].attention = eager_attention;
  const Inputs x = make_inputs(s);
  for (Contender& c : contenders) {  // a warm-up that does not count
    measure_once(c, x, meter);
    c.forward_ms.clear(), c.both_ms.clear();
  }
  for (int repeat = 0; repeat < repeats; ++repeat) {
    for (Contender& c : contenders) measure_once(c, x, meter);
  }
  measure_errors(contenders, s);
  const double flops = 4.0 * static_cast<double>(s.N * s.L * s.L * s.H * s.D);
  const Spread base_forward = spread(contenders[0].forward_ms), base_both = spread(contenders[0].both_ms);
  for (const Contender& c : contenders) {
    const Spread forward = spread(c.forward_ms), both = spread(c.both_ms);
    std::printf(
        "| %s N%ld L%ld H%ld D%ld | %s | %.2f (%.2f-%.2f) | %.2f (%.2f-%.2f) | %.1f | %.1f | %.0f | %.0f%% | %s | %s | "
        "%.1e | %.1e |\n",
        s.dtype == at::kFloat ? "fp32" : "bf16", long{s.N}, long{s.L}, long{s.H}, long{s.D}, c.name, forward.median,
        forward.low, forward.high, both.median, both.low, both.high, forward.median / base_forward.median,
        both.median / base_both.median, flops / forward.median / 1e6, 100 * flops / forward.median / 1e-3 / peak,
        base::format_bytes(c.forward_extra).c_str(), base::format_bytes(c.both_extra).c_str(), c.out_error,
        c.grad_error);
    std::fflush(stdout);
  }
}

int run(int argc, char** argv) {
  int repeats = 7, threads = 0;
  bool small = false;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--repeats" && i + 1 < argc)
      repeats = std::max(1, std::atoi(argv[++i]));
    else if (word == "--threads" && i + 1 < argc)
      threads = std::atoi(argv[++i]);
    else if (word == "--small")
      small = true;
    else {
      std::fprintf(stderr, "usage: %s [--repeats N] [--threads N] [--small]\n", argv[0]);
      return 2;
    }
  }
  const auto meter = memory::MemoryMeter::install();
  if (threads > 0) at::set_num_threads(threads);
  const double peak = fma_peak_of_one_thread() * at::get_num_threads();
  std::printf("longfold %s (%s kernels), torch %s, %d threads, FMA peak %.0f GFLOP/s fp32\n\n", kVersion,
              std::string(kernels::isa_name(kernels::selected_isa())).c_str(), kTorchVersion, at::get_num_threads(),
              peak / 1e9);
  std::printf(
      "Times in ms: median (least-most) of %d. Ratios: this over longfold. Extra peak: results and gradients "
      "included.\n\n",
      repeats);
  std::printf(
      "| shape | by | forward | forward + backward | x fwd | x both | GFLOP/s fwd | of peak | extra fwd | extra both | "
      "error out | error grads |\n"
      "|---|---|---|---|---|---|---|---|---|---|---|---|\n");
  std::vector<Shape> shapes{{64, 256, 4, 32, at::kFloat}};
  if (!small) {
    shapes = {{64, 256, 4, 32, at::kFloat},    {128, 256, 8, 8, at::kFloat},   {32, 512, 8, 32, at::kFloat},
              {64, 384, 4, 32, at::kFloat},    {8, 1024, 4, 32, at::kFloat},   {64, 256, 4, 16, at::kFloat},
              {1, 384, 16, 24, at::kFloat},    {5, 384, 16, 48, at::kFloat},   {64, 256, 4, 32, at::kBFloat16},
              {128, 256, 8, 8, at::kBFloat16}, {32, 512, 8, 32, at::kBFloat16}};
  }
  for (const Shape& shape : shapes) bench_shape(shape, repeats, peak, meter);
  return 0;
}

}  // namespace
}  // namespace longfold::bench

int main(int argc, char** argv) {
  return longfold::bench::run(argc, argv);
}
