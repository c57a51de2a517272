#include "longfold/techniques/chunked_attention.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "longfold/techniques/chunk_pairs.h"

namespace longfold::techniques {
namespace {

using model::Attended;
using model::BlockContext;
using model::Documents;
using model::Qkv;

Documents within(const Documents& documents, const Chunk& chunk, const at::Tensor& x) {
  return documents_within(documents, chunk, x.size(0), x.size(1), x.device());
}
std::vector<Rectangle> seen_of(const Documents& documents, const Chunk& queries, const Chunk& keys,
                               const at::Tensor& x) {
  return rectangles(documents, queries, keys, x.size(0), x.size(1));
}
Attended of_chunk(const Attended& all, const Chunk& chunk) {
  return narrow(all, chunk.begin, chunk.count);
}

// [begin, end); of a dry run, to which they are all alike, the first two and the last: else planning a long sequence
// would take as many calls as there are pairs.
std::vector<size_t> some_of(size_t begin, size_t end, bool is_dry) {
  std::vector<size_t> all;
  for (size_t i = begin; i < end; ++i) {
    if (!is_dry || i < begin + 2 || i + 1 == end) all.push_back(i);
  }
  return all;
}

class AttendByChunks final : public AttendPiece {
 public:
  AttendByChunks(model::BlockParts block, int64_t chunk_tokens, std::shared_ptr<Shelf> shelf)
      : block_(std::move(block)), chunk_tokens_(chunk_tokens), shelf_(std::move(shelf)) {}

  [[nodiscard]] Attended forward(const at::Tensor& x, const BlockContext& context) const override {
    const at::NoGradGuard no_grad;
    const std::vector<Chunk> chunks = chunks_of(x.size(1), chunk_tokens_);
    std::vector<std::shared_ptr<Shelved>> keys, values;
    Attended all;
    for (const Chunk& queries : chunks) {
      Qkv qkv = project(x, context, queries);
      Attended own = block_.attention->forward(qkv, within(context.documents, queries, x), /*causal=*/true);
      if (!keys.empty()) own.out = own.out.to(sum_type(own.out));
      const std::vector<size_t> order = some_of(0, keys.size(), x.is_meta());
      for (size_t n = order.size(); n-- > 0;) {
        const size_t i = order[n];
        const at::Tensor k = keys[i]->get(), v = values[i]->get();
        if (n > 0) keys[order[n - 1]]->prefetch(), values[order[n - 1]]->prefetch();
        for (const Rectangle& seen : seen_of(context.documents, queries, chunks[i], x)) {
          Attended part = seen.of_queries(own);
          merge(part, block_.attention->forward(seen.of(qkv.q, k, v), context.documents, /*causal=*/false));
        }
      }
      keep(own, queries, x, all);
      if (keys.size() + 1 == chunks.size()) break;
      keys.push_back(shelf_->put(qkv.k)), values.push_back(shelf_->put(qkv.v));
    }
    return all;
  }

  void backward(const at::Tensor& grad, const at::Tensor& x, const Attended& attended, const BlockContext& context,
                const at::Tensor& grad_x, ParameterGradients& gradients) const override {
    const std::vector<Chunk> chunks = chunks_of(x.size(1), chunk_tokens_);
    std::vector<std::shared_ptr<Shelved>> queries, sums;  // of the chunks after the one whose keys are at work
    for (size_t i = 1; i < chunks.size(); ++i) {
      const at::NoGradGuard no_grad;
      queries.push_back(shelf_->put(project(x, context, chunks[i]).q));
    }
    sums.resize(queries.size());
    at::Tensor own_sum;  // gradients of the queries of the chunk at work, by the keys before it
    for (size_t j = 0; j < chunks.size(); ++j) {
      const at::AutoGradMode with_grad(true);
      const at::Tensor leaf = x.narrow(1, chunks[j].begin, chunks[j].count).detach().requires_grad_();
      const Qkv projected = block_.project(leaf, context.narrow(chunks[j].begin, chunks[j].count));
      variable_list grads;
      {
        const at::NoGradGuard no_grad;
        const Qkv own{projected.q.detach(), projected.k.detach(), projected.v.detach()};
        const at::Tensor grad_out = grad.narrow(1, chunks[j].begin, chunks[j].count);
        Qkv sum = block_.attention->backward(grad_out, own, of_chunk(attended, chunks[j]),
                                             within(context.documents, chunks[j], x), /*causal=*/true);
        if (own_sum.defined()) sum.q = std::exchange(own_sum, {}).add_(sum.q).to(own.q.scalar_type());
        if (j + 1 < chunks.size()) {
          sum = by_later_queries({grad, x, attended, context}, chunks, j, own, std::move(sum), queries, sums, own_sum);
        }
        grads = {std::move(sum.q), std::move(sum.k), std::move(sum.v)};
      }
      const at::Tensor by_x = differentiate_outputs({projected.q, projected.k, projected.v}, leaf, grads, gradients);
      const at::NoGradGuard no_grad;
      grad_x.narrow(1, chunks[j].begin, chunks[j].count).add_(by_x);
    }
  }

 private:
  struct Inputs {
    const at::Tensor &grad, &x;
    const Attended& attended;
    const BlockContext& context;
  };

  [[nodiscard]] Qkv project(const at::Tensor& x, const BlockContext& context, const Chunk& chunk) const {
    return block_.project(x.narrow(1, chunk.begin, chunk.count), context.narrow(chunk.begin, chunk.count));
  }

  // Into the result for all tokens, whose memory is taken when its dtype is known.
  static void keep(const Attended& own, const Chunk& queries, const at::Tensor& x, Attended& all) {
    if (!all.out.defined()) {
      const int64_t S = x.size(1);
      all.out = at::empty({x.size(0), S, own.out.size(2), own.out.size(3)}, x.options());
      all.log_sum_exp = at::empty({x.size(0), own.out.size(2), S}, own.log_sum_exp.options());
    }
    const Attended to = of_chunk(all, queries);
    to.out.copy_(own.out);
    to.log_sum_exp.copy_(own.log_sum_exp);
  }

  // Adds to the gradients of the keys and values of chunk j what the queries of later chunks give, and to the sums of
  // those what these keys give; the sum of the next chunk becomes own_sum.
  [[nodiscard]] Qkv by_later_queries(const Inputs& inputs, const std::vector<Chunk>& chunks, size_t j, const Qkv& own,
                                     Qkv sum, std::vector<std::shared_ptr<Shelved>>& queries,
                                     std::vector<std::shared_ptr<Shelved>>& sums, at::Tensor& own_sum) const {
    const at::Tensor sum_k = zeros_for_sum(own.k).add_(sum.k), sum_v = zeros_for_sum(own.v).add_(sum.v);
    // By the first chunk's keys all sums begin to wait.
    const std::vector<size_t> order = some_of(j + 1, chunks.size(), inputs.x.is_meta() && j > 0);
    for (size_t n = 0; n < order.size(); ++n) {
      const size_t i = order[n];
      const at::Tensor q = queries[i - 1]->get();
      const at::Tensor sum_q = sums[i - 1] == nullptr ? zeros_for_sum(q) : sums[i - 1]->get();
      if (n + 1 < order.size()) {
        const size_t next = order[n + 1] - 1;
        queries[next]->prefetch();
        if (sums[next] != nullptr) sums[next]->prefetch();
      }
      const Attended of_queries = of_chunk(inputs.attended, chunks[i]);
      const at::Tensor grad_out = inputs.grad.narrow(1, chunks[i].begin, chunks[i].count);
      for (const Rectangle& seen : seen_of(inputs.context.documents, chunks[i], chunks[j], inputs.x)) {
        const Qkv part = block_.attention->backward(seen.of_queries(grad_out), seen.of(q, own.k, own.v),
                                                    seen.of_queries(of_queries), inputs.context.documents,
                                                    /*causal=*/false);
        seen.of_queries(sum_q).add_(part.q);
        seen.of_keys(sum_k).add_(part.k);
        seen.of_keys(sum_v).add_(part.v);
      }
      sums[i - 1].reset();
      if (i == j + 1) {  // these queries have seen all their keys but those of their own chunk, which is next
        own_sum = sum_q;
        queries[i - 1].reset();
      } else {
        sums[i - 1] = shelf_->put(sum_q);
      }
    }
    return {std::move(sum.q), sum_k.to(own.k.scalar_type()), sum_v.to(own.v.scalar_type())};
  }

  model::BlockParts block_;
  int64_t chunk_tokens_;
  std::shared_ptr<Shelf> shelf_;
};

}  // namespace

std::shared_ptr<const AttendPiece> attend_by_chunks(const model::BlockParts& block, int64_t chunk_tokens,
                                                    std::shared_ptr<Shelf> shelf) {
  return std::make_shared<AttendByChunks>(block, chunk_tokens, std::move(shelf));
}

}  // namespace longfold::techniques
