#include "longfold/kernels/evoformer/reference.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "longfold/kernels/evoformer/bias.h"

namespace longfold::kernels {
namespace {

float load(float value) {
  return value;
}
double load(double value) {
  return value;
}
float load(bfloat16 value) {
  return to_float(value);
}
float load(float16 value) {
  return to_float(value);
}
void store(float& to, float value) {
  to = value;
}
void store(double& to, double value) {
  to = value;
}
void store(bfloat16& to, float value) {
  to = to_bfloat16(value);
}
void store(float16& to, float value) {
  to = to_float16(value);
}

template <class Args>
struct Sizes {
  explicit Sizes(const Args& args)
      : N(args.q.sizes[1]), Lq(args.q.sizes[2]), Lk(args.k.sizes[2]), H(args.q.sizes[3]), D(args.q.sizes[4]) {}
  int64_t N, Lq, Lk, H, D;
};

template <class Args>
bool hidden(const Args& args, int64_t b, int64_t n, int64_t h, int64_t j) {
  return std::any_of(args.biases.begin(), args.biases.end(),
                     [&](const BiasView& bias) { return hides(bias, bias.offset(b, n, h, 0, j)); });
}

// logit[j] = scale * q[i] . k[j] + biases[i, j], or kHiddenLogit
template <class Args, class Acc>
void logits(const Args& args, int64_t b, int64_t n, int64_t h, int64_t i, Acc* logit) {
  const Sizes size(args);
  for (int64_t j = 0; j < size.Lk; ++j) {
    Acc dot = 0;
    for (int64_t d = 0; d < size.D; ++d) dot += load(args.q(b, n, i, h, d)) * load(args.k(b, n, j, h, d));
    logit[j] = dot * static_cast<Acc>(args.scale);
    for (const BiasView& bias : args.biases) {
      logit[j] += static_cast<Acc>(bias_element(bias, bias.offset(b, n, h, i, j)));
    }
    if (hidden(args, b, n, h, j)) logit[j] = Acc{kHiddenLogit};
  }
}

}  // namespace

template <class T>
void reference_forward(const ForwardArgs<T>& args, int64_t begin, int64_t end, std::span<Accumulator<T>> scratch) {
  using Acc = Accumulator<T>;
  const Sizes size(args);
  Acc* weight = scratch.data();  // [Lk]
  for (int64_t item = begin; item < end; ++item) {
    const int64_t b = item / size.H, h = item % size.H;
    for (int64_t n = 0; n < size.N; ++n) {
      for (int64_t i = 0; i < size.Lq; ++i) {
        logits(args, b, n, h, i, weight);
        const Acc largest = *std::max_element(weight, weight + size.Lk);
        const bool masked = largest <= Acc{kFullyMaskedLogit};
        Acc sum = 0;
        for (int64_t j = 0; j < size.Lk; ++j) {
          weight[j] = masked ? Acc(args.fully_masked == FullyMasked::kMean) : std::exp(weight[j] - largest);
          sum += weight[j];
        }
        for (int64_t d = 0; d < size.D; ++d) {
          Acc out = 0;
          for (int64_t j = 0; j < size.Lk; ++j) out += weight[j] * load(args.v(b, n, j, h, d));
          store(args.out(b, n, i, h, d), masked && sum == 0 ? Acc{0} : out / sum);
        }
        const Acc lse = masked ? largest : largest + std::log(sum);
        args.log_sum_exp(b, n, h, i) = lse;
        args.lse_correction(b, n, h, i) = masked ? Acc{1} : std::exp(lse - largest) / sum;
      }
    }
  }
}

// With p = softmax weights: dv += p do, dp = do . v, ds = p (dp - sum of p dp + dlse), dq += scale ds k,
// dk += scale ds q, and ds summed over rows (pair bias) or over queries (mask bias) are the bias gradients.
template <class T>
void reference_backward(const BackwardArgs<T>& args, int64_t begin, int64_t end, std::span<Accumulator<T>> scratch) {
  using Acc = Accumulator<T>;
  const Sizes size(args);
  const auto scale = static_cast<Acc>(args.scale);
  Acc* weight = scratch.data();             // [Lk]
  Acc* grad_p = weight + size.Lk;           // [Lk]
  Acc* grad_q = grad_p + size.Lk;           // [D]
  Acc* grad_k = grad_q + size.D;            // [Lk, D]
  Acc* grad_v = grad_k + size.Lk * size.D;  // [Lk, D]
  for (int64_t item = begin; item < end; ++item) {
    const int64_t b = item / size.H, h = item % size.H;
    if (args.grad_pair.data != nullptr && !args.add_to_grad_pair) {
      for (int64_t i = 0; i < size.Lq; ++i) {
        for (int64_t j = 0; j < size.Lk; ++j) args.grad_pair(b, h, i, j) = 0;
      }
    }
    for (int64_t n = 0; n < size.N; ++n) {
      std::fill(grad_k, grad_v + size.Lk * size.D, Acc{0});
      if (args.grad_mask.data != nullptr) {
        for (int64_t j = 0; j < size.Lk; ++j) args.grad_mask(b, n, h, j) = 0;
      }
      for (int64_t i = 0; i < size.Lq; ++i) {
        std::fill(grad_q, grad_q + size.D, Acc{0});
        logits(args, b, n, h, i, weight);
        const Acc lse = args.log_sum_exp(b, n, h, i);
        const Acc correction = args.lse_correction(b, n, h, i);
        const bool masked = lse <= Acc{kFullyMaskedLogit};
        const Acc uniform = args.fully_masked == FullyMasked::kMean ? Acc{1} / static_cast<Acc>(size.Lk) : Acc{0};
        Acc delta = 0;
        if (args.grad_log_sum_exp.data != nullptr) delta -= args.grad_log_sum_exp(b, n, h, i);
        for (int64_t j = 0; j < size.Lk; ++j) {
          weight[j] = masked ? uniform : std::exp(weight[j] - lse) * correction;
          grad_p[j] = 0;
          for (int64_t d = 0; d < size.D; ++d) {
            const Acc grad_out = load(args.grad_out(b, n, i, h, d));
            grad_p[j] += grad_out * load(args.v(b, n, j, h, d));
            grad_v[j * size.D + d] += weight[j] * grad_out;
          }
          delta += weight[j] * grad_p[j];
        }
        for (int64_t j = 0; j < size.Lk; ++j) {
          if (hidden(args, b, n, h, j)) continue;
          const Acc grad_s = weight[j] * (grad_p[j] - delta);
          for (int64_t d = 0; d < size.D; ++d) {
            grad_q[d] += scale * grad_s * load(args.k(b, n, j, h, d));
            grad_k[j * size.D + d] += scale * grad_s * load(args.q(b, n, i, h, d));
          }
          if (args.grad_pair.data != nullptr) args.grad_pair(b, h, i, j) += grad_s;
          if (args.grad_mask.data != nullptr) args.grad_mask(b, n, h, j) += grad_s;
          if (args.grad_logits.data != nullptr) args.grad_logits(b, n, h, i, j) += grad_s;
        }
        for (int64_t d = 0; d < size.D; ++d) store(args.grad_q(b, n, i, h, d), grad_q[d]);
      }
      for (int64_t j = 0; j < size.Lk; ++j) {
        for (int64_t d = 0; d < size.D; ++d) {
          store(args.grad_k(b, n, j, h, d), grad_k[j * size.D + d]);
          store(args.grad_v(b, n, j, h, d), grad_v[j * size.D + d]);
        }
      }
    }
  }
}

template <class T>
int64_t reference_forward_scratch(const ForwardArgs<T>& args) {
  return args.k.sizes[2];
}

template <class T>
int64_t reference_backward_scratch(const BackwardArgs<T>& args) {
  const Sizes size(args);
  return 2 * size.Lk + size.D + 2 * size.Lk * size.D;
}

#define LONGFOLD_INSTANTIATE(T)                                                                             \
  template void reference_forward<T>(const ForwardArgs<T>&, int64_t, int64_t, std::span<Accumulator<T>>);   \
  template void reference_backward<T>(const BackwardArgs<T>&, int64_t, int64_t, std::span<Accumulator<T>>); \
  template int64_t reference_forward_scratch<T>(const ForwardArgs<T>&);                                     \
  template int64_t reference_backward_scratch<T>(const BackwardArgs<T>&);
LONGFOLD_INSTANTIATE(float)
LONGFOLD_INSTANTIATE(double)
LONGFOLD_INSTANTIATE(bfloat16)
LONGFOLD_INSTANTIATE(float16)
#undef LONGFOLD_INSTANTIATE

}  // namespace longfold::kernels
