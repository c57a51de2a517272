// Backward pass. Squares of queries and keys take five products for each block of keys: scores, grad_out . v, and the
// sums of grad_v, grad_k and grad_q. Squares of one colour (causal/tile_size.h) share no sums, colours follow each
// other: every sum has one order, and nothing waits but for the end of a colour. The workspace holds the sums in fp32.
#pragma once

#include <algorithm>
#include <limits>

#include "longfold/kernels/causal_attention.h"
#include "longfold/kernels/cpu/causal/buffers.h"
#include "longfold/kernels/cpu/causal/document.h"
#include "longfold/kernels/cpu/causal/logit.h"
#include "longfold/kernels/cpu/gradient_words.h"
#include "longfold/kernels/cpu/products.h"
#include "longfold/kernels/cpu/scatter_rows.h"

namespace longfold::kernels {
namespace {

template <class T>
class CausalBackwardItem {
 public:
  CausalBackwardItem(const CausalBackwardArgs<T>& args, const CausalBackwardPlan& plan, const CausalShape& shape,
                     float* scratch, float* workspace)
      : args_(args),
        plan_(plan),
        shape_(shape),
        width_(causal_width(shape)),
        G_(shape.H / shape.KV),
        buffers_(shape, kPack<T> == 2, scratch),
        sums_(shape, plan.heads_at_once, workspace) {}

  void run(int64_t phase, int64_t item) {
    const auto colours = static_cast<int64_t>(plan_.colours.size()) - 1;
    const int64_t step = phase % (colours + 2);
    first_kv_ = phase / (colours + 2) * plan_.heads_at_once;
    const int64_t heads = std::min(plan_.heads_at_once, shape_.KV - first_kv_);
    kv_ = first_kv_ + item % heads;
    const int64_t rest = item / heads;
    if (step == 0 || step > colours) {
      const int64_t blocks = num_token_blocks(shape_), b = rest / blocks, s = rest % blocks * kCausalTokens;
      return step == 0 ? begin_sums(b, s) : end_sums(b, s);
    }
    square(plan_.squares[static_cast<size_t>(plan_.colours[static_cast<size_t>(step - 1)] + rest)]);
  }

 private:
  // Of the head of k and v at work, and of a head of q that shares it.
  [[nodiscard]] float* grad_k(int64_t token) const { return sums_.grad_k + at_kv(token) * width_; }
  [[nodiscard]] float* grad_v(int64_t token) const { return sums_.grad_v + at_kv(token) * width_; }
  [[nodiscard]] float* grad_q(int64_t head, int64_t token) const { return sums_.grad_q + at_q(head, token) * width_; }
  [[nodiscard]] float* delta(int64_t head, int64_t token) const { return sums_.delta + at_q(head, token); }
  [[nodiscard]] int64_t at_kv(int64_t token) const { return (kv_ - first_kv_) * shape_.B * shape_.Sk + token; }
  [[nodiscard]] int64_t at_q(int64_t head, int64_t token) const {
    return (head - first_kv_ * G_) * shape_.B * shape_.Sq + token;
  }

  template <class U>
  [[nodiscard]] static Matrix<U> rows(const TensorView<U, 4>& from, int64_t b, int64_t s, int64_t head) {
    return {from.at(b, s, head), from.strides[1], from.strides[3]};
  }

  // Of the queries and keys of a block of a row, as far as there are any.
  void begin_sums(int64_t b, int64_t s) const {
    if (const int64_t keys = std::min(kCausalTokens, shape_.Sk - s); keys > 0) {
      std::fill_n(grad_k(b * shape_.Sk + s), keys * width_, 0.0f);
      std::fill_n(grad_v(b * shape_.Sk + s), keys * width_, 0.0f);
    }
    const int64_t queries = std::min(kCausalTokens, shape_.Sq - s), token = b * shape_.Sq + s;
    if (queries <= 0) return;
    for (int64_t head = kv_ * G_; head < (kv_ + 1) * G_; ++head) {
      std::fill_n(grad_q(head, token), queries * width_, 0.0f);
      find_delta(rows(args_.out, b, s, head), rows(args_.grad_out, b, s, head), queries, delta(head, token));
    }
  }

  // to[row] = sum over d of out * grad_out
  void find_delta(Matrix<const T> out, Matrix<const T> grad_out, int64_t count, float* to) const {
    for (int64_t row = 0; row < count; row += kWidth) {
      const int64_t some = std::min<int64_t>(kWidth, count - row);
      Vec products[kWidth] = {};
      for (int64_t i = 0; i < some; ++i) {
        for (int64_t d = 0; d < shape_.D; d += kWidth) {
          const Vec a = load_row(out.data + (row + i) * out.row_stride, out.inner_stride, d, shape_.D);
          const Vec b = load_row(grad_out.data + (row + i) * grad_out.row_stride, grad_out.inner_stride, d, shape_.D);
          products[i] = fma(a, b, products[i]);
        }
      }
      store_as(to + row, sums_of_rows(products), some);
    }
  }

  void end_sums(int64_t b, int64_t s) const {
    const auto scale = static_cast<float>(args_.scale);
    if (const int64_t keys = std::min(kCausalTokens, shape_.Sk - s); keys > 0) {
      const int64_t token = b * shape_.Sk + s;
      unpack_sums(grad_k(token), 1, width_, scale, rows(args_.grad_k, b, s, kv_), keys, shape_.D);
      unpack_sums(grad_v(token), 1, width_, 1.0f, rows(args_.grad_v, b, s, kv_), keys, shape_.D);
    }
    const int64_t queries = std::min(kCausalTokens, shape_.Sq - s), token = b * shape_.Sq + s;
    if (queries <= 0) return;
    for (int64_t head = kv_ * G_; head < (kv_ + 1) * G_; ++head) {
      unpack_sums(grad_q(head, token), 1, width_, scale, rows(args_.grad_q, b, s, head), queries, shape_.D);
    }
  }

  void square(const CausalSquare& square) {
    const Document document(args_, square.document);
    const auto [queries_there, keys_there, first_query] = document.tokens;
    const int64_t q_chunk = chunk_tokens(queries_there), k_chunk = chunk_tokens(keys_there);
    const int64_t q_begin = square.q_chunk * q_chunk, q_end = std::min(q_begin + q_chunk, queries_there);
    const int64_t k_begin = square.k_chunk * k_chunk, k_end = std::min(k_begin + k_chunk, document.end_key(q_end));
    const int64_t at_once = keys_at_once(shape_), first_token = document.b * shape_.Sk + document.s;
    for (int64_t key = k_begin; key < k_end; key += at_once) {
      const int64_t keys = std::min(at_once, k_end - key);
      load_keys(document, key, keys);
      for (int64_t head = kv_ * G_; head < (kv_ + 1) * G_; ++head) {
        for (int64_t query = q_begin; query < q_end; query += kLanes) {
          const int64_t queries = std::min(kLanes, q_end - query);
          if (key < document.end_key(query + queries) && key + keys > document.first_key(query)) {
            panel(document, head, query, queries, key, keys);
          }
        }
      }
      add(buffers_.grad_k, keys * width_, grad_k(first_token + key));
      add(buffers_.grad_v, keys * width_, grad_v(first_token + key));
    }
  }

  static void add(const float* from, int64_t count, float* to) {
    for (int64_t i = 0; i < count; i += kWidth) store(to + i, load(to + i) + load(from + i));
  }

  void load_keys(const Document& document, int64_t key, int64_t keys) {
    const auto k = document.rows(args_.k, key, kv_), v = document.rows(args_.v, key, kv_);
    k_ = row_words(k, keys, shape_.D, buffers_.k_rows);
    k_pairs_ = kPack<T> == 1 ? k_ : row_pair_words(k, keys, shape_.D, buffers_.k_pairs);
    v_ = row_words(v, keys, shape_.D, buffers_.v_rows);
    std::fill_n(buffers_.grad_k, keys * width_, 0.0f);
    std::fill_n(buffers_.grad_v, keys * width_, 0.0f);
  }

  [[nodiscard]] int64_t query_token(const Document& document, int64_t query) const {
    return document.b * shape_.Sq + document.s + query;
  }

  // The keys that were loaded, as far as these queries see them.
  void panel(const Document& document, int64_t head, int64_t query, int64_t queries, int64_t first, int64_t keys) {
    load_panel(document, head, query, queries);
    const int64_t end = std::min(first + keys, document.end_key(query + queries));
    bool adds = false;
    for (int64_t key = std::max(first, document.first_key(query)); key < end; key += kCausalKeys) {
      const int64_t some = std::min(kCausalKeys, end - key);
      with_causal_logit(args_.scale, document.distance(key, query), queries, document.window,
                        [&](const auto& logit) { weights(key - first, some, logit); });
      products(key - first, some, queries, adds);
      adds = true;
    }
    add(buffers_.grad_q_rows, queries * width_, grad_q(head, query_token(document, query)));
  }

  // Queries and grad_out by rows and by lanes, log-sum-exp and delta.
  void load_panel(const Document& document, int64_t head, int64_t query, int64_t queries) {
    const auto q = document.rows(args_.q, query, head), grad_out = document.rows(args_.grad_out, query, head);
    rows_to_panel<kPack<T>>(q, queries, shape_.D, buffers_.q_panel);
    rows_to_panel<kPack<T>>(grad_out, queries, shape_.D, buffers_.grad_out_panel);
    pack_scatter_rows<kPack<T>, 1>(q, queries, shape_.D, nullptr, width_, buffers_.q_rows);
    pack_scatter_rows<kPack<T>, 1>(grad_out, queries, shape_.D, nullptr, width_, buffers_.grad_out_rows);
    const float* deltas = delta(head, query_token(document, query));
    for (int64_t i = 0; i < kLanes; ++i) {
      const bool there = i < queries;
      buffers_.log_sum_exp[i] = there ? args_.log_sum_exp(document.b, head, document.s + query + i)
                                      : std::numeric_limits<float>::infinity();  // weights of padding: zero
      buffers_.delta[i] = there ? deltas[i] : 0;
    }
  }

  // weights[key][64] = exp(logits - log-sum-exp). A function of its own: among the loops of a square the compiler runs
  // out of registers.
  template <class Logit>
  [[gnu::noinline]] void weights(int64_t at, int64_t keys, Logit logit) {
    constexpr int C = kTileColumns;
    const int64_t words = divide_up(shape_.D, kPack<T>);
    const float* const log_sum_exp = buffers_.log_sum_exp;
    float* const to = buffers_.weights;
    for_score_tiles<kPack<T>, kWeighRows>(
        k_ + at * words, buffers_.q_panel, words, keys, prefetch_, [](int64_t) {},
        [&]<int R>(Tile<R, C>& tile, int64_t key, int64_t lane) LONGFOLD_INLINE_LAMBDA {
          for_weights(tile, logit, key, lane, log_sum_exp, [&](int r, int c, Vec, Vec w) LONGFOLD_INLINE_LAMBDA {
            store(to + (key + r) * kLanes + lane + c * kWidth, w);
          });
        },
        [](int64_t) {});
  }

  // grads[key][64] = grad_out . v; single words: weights * (that - delta) at once.
  void grad_weights(int64_t at, int64_t keys) {
    constexpr int C = kTileColumns;
    const int64_t words = divide_up(shape_.D, kPack<T>);
    const float* const weights = buffers_.weights;
    float* const to = buffers_.grads;
    Vec delta[C];
    for_score_tiles<kPack<T>, kTileRows<C>>(
        v_ + at * words, buffers_.grad_out_panel, words, keys, prefetch_,
        [&](int64_t lane) LONGFOLD_INLINE_LAMBDA {
          for (int c = 0; c < C; ++c) delta[c] = load(buffers_.delta + lane + c * kWidth);
        },
        [&]<int R>(Tile<R, C>& tile, int64_t key, int64_t lane) LONGFOLD_INLINE_LAMBDA {
#pragma GCC unroll 16
          for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
            for (int c = 0; c < C; ++c) {
              const int64_t i = (key + r) * kLanes + lane + c * kWidth;
              const Vec product = tile.acc[r][c];
              store(to + i, kPack<T> == 1 ? load(weights + i) * (product - delta[c]) : product);
            }
          }
        },
        [](int64_t) {});
  }

  void products(int64_t at, int64_t keys, int64_t queries, bool adds) {
    constexpr int64_t kWords = kLanes / kPack<T>;
    grad_weights(at, keys);
    BlockGradients words{.weights = buffers_.weights, .grads = buffers_.grads, .grad_pairs = buffers_.grads};
    if constexpr (kPack<T> == 2) {
      words = {.weights = buffers_.weight_words, .grads = buffers_.grad_words, .grad_pairs = buffers_.grad_pairs};
      finish_grads<kPack<T>>(buffers_.weights, buffers_.grads, keys, buffers_.delta, [](auto...) {}, false, words);
    }
    const int64_t sum = at * width_;
    scatter<kPack<T>, 1>(words.weights, kWords, buffers_.grad_out_rows, width_, keys, true, buffers_.grad_v + sum);
    scatter<kPack<T>, 1>(words.grads, kWords, buffers_.q_rows, width_, keys, true, buffers_.grad_k + sum);
    gather_rows<kPack<T>>(words.grad_pairs, k_pairs_ + at / kPack<T> * shape_.D, shape_.D, width_, keys, queries, adds,
                          buffers_.grad_q_rows);
  }

  const CausalBackwardArgs<T>& args_;
  const CausalBackwardPlan& plan_;
  CausalShape shape_;
  int64_t width_, G_;
  CausalBackwardBuffers buffers_;
  CausalSums sums_;
  NoPrefetch prefetch_;
  const float *k_ = nullptr, *k_pairs_ = nullptr, *v_ = nullptr;
  int64_t first_kv_ = 0, kv_ = 0;
};

}  // namespace
}  // namespace longfold::kernels
