#include "bench/measure.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <functional>

namespace longfold::bench {
namespace {

double milliseconds(const std::function<void()>& action) {
  const auto start = std::chrono::steady_clock::now();
  action();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

Spread spread(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return {values[values.size() / 2], values.front(), values.back()};
}

void forward_only(const Contender& contender, const Inputs& inputs) {
  const at::NoGradGuard no_grad;
  (void)contender.attention(inputs);
}

void forward_and_backward(const Contender& contender, const Inputs& inputs) {
  contender.attention(inputs).backward(inputs.grad_out);
  forget_gradients(inputs);
}

// Runs that are timed one by one, the first of them not counted.
struct Samples {
  std::vector<double> forward, both;

  void take(const Contender& contender, const Inputs& inputs, bool counts) {
    const double f = milliseconds([&] { forward_only(contender, inputs); });
    const double b = milliseconds([&] { forward_and_backward(contender, inputs); });
    if (!counts) return;
    forward.push_back(f);
    both.push_back(b);
  }
  [[nodiscard]] Times times() const { return {spread(forward), spread(both)}; }
};

double relative_error(const at::Tensor& got, const at::Tensor& exact) {
  return ((got.to(at::kDouble) - exact).abs().max() / exact.abs().max()).item<double>();
}

}  // namespace

std::vector<Times> measure_times(const Shape& shape, int repeats) {
  const Inputs inputs = make_inputs(shape, shape.sizes.N);
  std::vector<Samples> samples(std::size(kContenders));
  for (int repeat = -1; repeat < repeats; ++repeat) {
    for (size_t i = 0; i < samples.size(); ++i) samples[i].take(kContenders[i], inputs, repeat >= 0);
  }
  std::vector<Times> times;
  for (const Samples& s : samples) times.push_back(s.times());
  return times;
}

Scaling measure_scaling(const Shape& shape, int repeats, int num_threads) {
  const Inputs inputs = make_inputs(shape, shape.sizes.N);
  Samples one, many;
  for (int repeat = -1; repeat < repeats; ++repeat) {
    at::set_num_threads(1);
    one.take(kContenders[0], inputs, repeat >= 0);
    at::set_num_threads(num_threads);
    many.take(kContenders[0], inputs, repeat >= 0);
  }
  return {one.times(), many.times()};
}

std::vector<Memory> measure_memory(const Shape& shape, const memory::MemoryMeter& meter) {
  const Inputs inputs = make_inputs(shape, shape.sizes.N);
  std::vector<Memory> result;
  for (const Contender& contender : kContenders) {
    const int64_t before = meter.live();
    meter.reset_peak();
    forward_only(contender, inputs);
    Memory memory{.forward = meter.peak() - before};
    meter.reset_peak();
    forward_and_backward(contender, inputs);
    memory.both = meter.peak() - before;
    result.push_back(memory);
    meter.trim();
  }
  return result;
}

std::vector<Errors> measure_errors(const Shape& shape) {
  const Inputs inputs = make_inputs(shape, std::min<int64_t>(shape.sizes.N, 4));
  const Inputs exact_inputs = in_fp64(inputs);
  const at::Tensor exact = eager_attention(exact_inputs);
  exact.backward(exact_inputs.grad_out);
  std::vector<Errors> result;
  for (const Contender& contender : kContenders) {
    const at::Tensor out = contender.attention(inputs);
    out.backward(inputs.grad_out);
    Errors errors{.out = relative_error(out, exact)};
    for (size_t i = 0; i < inputs.leaves().size(); ++i) {
      const double error = relative_error(inputs.leaves()[i].grad(), exact_inputs.leaves()[i].grad());
      errors.grads = std::max(errors.grads, error);
    }
    forget_gradients(inputs);
    result.push_back(errors);
  }
  return result;
}

}  // namespace longfold::bench
