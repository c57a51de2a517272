#include "longfold/kernels/causal/reference.h"

#include <algorithm>
#include <cmath>

#include "longfold/kernels/causal/tokens.h"

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

// A document and a head of k and v.
template <class Args>
struct Part {
  Part(const Args& args, int64_t item) {
    const int64_t S = args.q.sizes[1];
    KV = args.k.sizes[2];
    D = args.q.sizes[3];
    G = args.q.sizes[2] / KV;
    const auto document = static_cast<size_t>(item / KV);
    kv = item % KV;
    tokens = tokens_of(args, document);
    b = args.documents[document] / S;
    s = args.documents[document] % S;
    window = args.window == 0 ? tokens.keys : args.window;
  }
  // The keys that a query sees.
  [[nodiscard]] int64_t first_key(int64_t query) const { return std::max<int64_t>(0, end_key(query) - window); }
  [[nodiscard]] int64_t end_key(int64_t query) const { return tokens.end_key(query + 1); }

  CausalTokens tokens;
  int64_t KV, D, G, kv, b, s, window;
};

// logit[j] = scale * q[i] . k[j] for the keys that query i of head h sees
template <class Args, class Acc>
void logits(const Args& args, const Part<Args>& part, int64_t h, int64_t i, Acc* logit) {
  for (int64_t j = part.first_key(i); j < part.end_key(i); ++j) {
    Acc dot = 0;
    for (int64_t d = 0; d < part.D; ++d) {
      dot += load(args.q(part.b, part.s + i, h, d)) * load(args.k(part.b, part.s + j, part.kv, d));
    }
    logit[j] = dot * static_cast<Acc>(args.scale);
  }
}

}  // namespace

template <class T>
void reference_causal_forward(const CausalForwardArgs<T>& args, int64_t begin, int64_t end,
                              std::span<Accumulator<T>> scratch) {
  using Acc = Accumulator<T>;
  Acc* weight = scratch.data();  // [keys]
  for (int64_t item = begin; item < end; ++item) {
    const Part part(args, item);
    for (int64_t h = part.kv * part.G; h < (part.kv + 1) * part.G; ++h) {
      for (int64_t i = 0; i < part.tokens.queries; ++i) {
        logits(args, part, h, i, weight);
        const int64_t first = part.first_key(i), last = part.end_key(i);
        const Acc largest = *std::max_element(weight + first, weight + last);
        Acc sum = 0;
        for (int64_t j = first; j < last; ++j) sum += weight[j] = std::exp(weight[j] - largest);
        for (int64_t d = 0; d < part.D; ++d) {
          Acc out = 0;
          for (int64_t j = first; j < last; ++j) out += weight[j] * load(args.v(part.b, part.s + j, part.kv, d));
          store(args.out(part.b, part.s + i, h, d), out / sum);
        }
        args.log_sum_exp(part.b, h, part.s + i) = largest + std::log(sum);
      }
    }
  }
}

// With p = softmax weights: dv += p do, dp = do . v, ds = p (dp - do . out), dq += scale ds k, dk += scale ds q. The
// sum of p dp is do . out only where it is over all keys that out is made of.
template <class T>
void reference_causal_backward(const CausalBackwardArgs<T>& args, int64_t begin, int64_t end,
                               std::span<Accumulator<T>> scratch) {
  using Acc = Accumulator<T>;
  const auto scale = static_cast<Acc>(args.scale);
  for (int64_t item = begin; item < end; ++item) {
    const Part part(args, item);
    const int64_t keys = part.tokens.keys;
    Acc* weight = scratch.data();          // [keys]
    Acc* grad_p = weight + keys;           // [keys]
    Acc* grad_q = grad_p + keys;           // [D]
    Acc* grad_k = grad_q + part.D;         // [keys, D]
    Acc* grad_v = grad_k + keys * part.D;  // [keys, D]
    std::fill(grad_k, grad_v + keys * part.D, Acc{0});
    for (int64_t h = part.kv * part.G; h < (part.kv + 1) * part.G; ++h) {
      for (int64_t i = 0; i < part.tokens.queries; ++i) {
        logits(args, part, h, i, weight);
        const Acc lse = args.log_sum_exp(part.b, h, part.s + i);
        Acc delta = 0;
        for (int64_t d = 0; d < part.D; ++d) {
          delta += load(args.grad_out(part.b, part.s + i, h, d)) * load(args.out(part.b, part.s + i, h, d));
        }
        for (int64_t j = part.first_key(i); j < part.end_key(i); ++j) {
          weight[j] = std::exp(weight[j] - lse);
          grad_p[j] = 0;
          for (int64_t d = 0; d < part.D; ++d) {
            const Acc grad_out = load(args.grad_out(part.b, part.s + i, h, d));
            grad_p[j] += grad_out * load(args.v(part.b, part.s + j, part.kv, d));
            grad_v[j * part.D + d] += weight[j] * grad_out;
          }
        }
        std::fill(grad_q, grad_q + part.D, Acc{0});
        for (int64_t j = part.first_key(i); j < part.end_key(i); ++j) {
          const Acc grad_s = weight[j] * (grad_p[j] - delta);
          for (int64_t d = 0; d < part.D; ++d) {
            grad_q[d] += scale * grad_s * load(args.k(part.b, part.s + j, part.kv, d));
            grad_k[j * part.D + d] += scale * grad_s * load(args.q(part.b, part.s + i, h, d));
          }
        }
        for (int64_t d = 0; d < part.D; ++d) store(args.grad_q(part.b, part.s + i, h, d), grad_q[d]);
      }
    }
    for (int64_t j = 0; j < keys; ++j) {
      for (int64_t d = 0; d < part.D; ++d) {
        store(args.grad_k(part.b, part.s + j, part.kv, d), grad_k[j * part.D + d]);
        store(args.grad_v(part.b, part.s + j, part.kv, d), grad_v[j * part.D + d]);
      }
    }
  }
}

int64_t reference_causal_scratch(DocumentStarts documents, int64_t more_keys, int64_t head_dim) {
  int64_t longest = 0;
  for (size_t d = 0; d + 1 < documents.size(); ++d) {
    longest = std::max(longest, documents[d + 1] - documents[d] + more_keys);
  }
  return 2 * longest + head_dim + 2 * longest * head_dim;
}

#define LONGFOLD_INSTANTIATE(T)                                                                                        \
  template void reference_causal_forward<T>(const CausalForwardArgs<T>&, int64_t, int64_t, std::span<Accumulator<T>>); \
  template void reference_causal_backward<T>(const CausalBackwardArgs<T>&, int64_t, int64_t, std::span<Accumulator<T>>);
LONGFOLD_INSTANTIATE(float)
LONGFOLD_INSTANTIATE(double)
LONGFOLD_INSTANTIATE(bfloat16)
LONGFOLD_INSTANTIATE(float16)
#undef LONGFOLD_INSTANTIATE

}  // namespace longfold::kernels
