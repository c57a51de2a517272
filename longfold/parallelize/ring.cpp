#include "longfold/parallelize/ring.h"

#include <ATen/ATen.h>

#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "longfold/techniques/chunk_pairs.h"

namespace longfold::parallelize {
namespace {

using model::Attended;
using model::Documents;
using model::Qkv;
using techniques::Chunk;
using techniques::Rectangle;

// Keys and values of a process, [2, B, 2 c, KV heads, D], and their travel: each step brings those of the one before.
class Travelling {
 public:
  Travelling(const parallel::Communicator& processes, at::Tensor own) : processes_(processes), here_(std::move(own)) {}

  void send_on() {
    coming_ = at::empty_like(here_);
    under_way_ = processes_.shift(coming_, here_, 1);
  }
  void arrive() {
    under_way_.wait();
    here_ = std::exchange(coming_, {});
  }
  [[nodiscard]] const at::Tensor& here() const { return here_; }

 private:
  const parallel::Communicator& processes_;
  at::Tensor here_, coming_;
  parallel::Pending under_way_;
};

class Ring final : public model::AttentionCore {
 public:
  Ring(model::SharedCore core, parallel::Communicator processes)
      : core_(std::move(core)), processes_(std::move(processes)), R_(processes_.size()) {}

  [[nodiscard]] Attended forward(const Qkv& qkv, const Documents& documents, bool causal) const override {
    check(qkv, causal);
    const Places places = places_of(qkv.q);
    Travelling keys(processes_, at::stack({qkv.k, qkv.v}));
    Attended sum;
    for (int64_t step = 0; step < R_; ++step) {
      if (step + 1 < R_) keys.send_on();
      const Qkv seen{qkv.q, keys.here()[0], keys.here()[1]};
      if (step == 0) {
        sum = attend_to_own(seen, documents, places);
      } else {
        for (const Pair& pair : pairs(places, step)) add_rectangles(pair, seen, documents, places, sum);
      }
      if (step + 1 < R_) keys.arrive();
    }
    return {sum.out.to(qkv.q.scalar_type()), sum.log_sum_exp};
  }

  [[nodiscard]] Qkv backward(const at::Tensor& grad_out, const Qkv& qkv, const Attended& attended,
                             const Documents& documents, bool causal) const override {
    check(qkv, causal);
    const Places places = places_of(qkv.q);
    Travelling keys(processes_, at::stack({qkv.k, qkv.v}));
    std::optional<Travelling> sums;  // of the gradients of keys and values, one step behind them
    const at::Tensor grad_q = techniques::zeros_for_sum(qkv.q);
    for (int64_t step = 0; step < R_; ++step) {
      if (step + 1 < R_) keys.send_on();
      const Qkv seen{qkv.q, keys.here()[0], keys.here()[1]};
      at::Tensor grads = techniques::zeros_for_sum(keys.here());
      const Qkv to{grad_q, grads[0], grads[1]};
      if (step == 0) {
        add_own_gradients(grad_out, seen, attended, documents, places, to);
        sums.emplace(processes_, std::move(grads));
      } else {
        for (const Pair& pair : pairs(places, step)) {
          add_gradients(pair, grad_out, seen, attended, documents, places, to);
        }
        sums->arrive();
        at::Tensor(sums->here()).add_(grads);
      }
      sums->send_on();
      if (step + 1 < R_) keys.arrive();
    }
    sums->arrive();  // home
    const auto type = qkv.k.scalar_type();
    return {grad_q.to(qkv.q.scalar_type()), sums->here()[0].to(type), sums->here()[1].to(type)};
  }

 private:
  // One of the two chunks of a process: where it is among its own tokens, and among all.
  struct Place {
    Chunk local, whole;
  };
  using Two = std::array<Place, 2>;
  struct Places {
    int64_t B, S;  // rows, and tokens of a whole one
    int64_t chunk;
    Two own;
  };
  struct Pair {
    Place queries, keys;
  };

  static void check(const Qkv& qkv, bool causal) {
    TORCH_CHECK(causal, "[ring] expected causal attention of a whole sequence, got a part of one");
    TORCH_CHECK(qkv.q.size(1) % 2 == 0 && qkv.q.size(1) == qkv.k.size(1),
                "[ring] expected two chunks of as many tokens, got ", qkv.q.size(1), " queries and ", qkv.k.size(1),
                " keys");
  }

  [[nodiscard]] Two chunks_of(int64_t process, int64_t chunk) const {
    return {Place{{0, chunk}, {process * chunk, chunk}},
            Place{{chunk, chunk}, {(2 * R_ - 1 - process) * chunk, chunk}}};
  }
  [[nodiscard]] Places places_of(const at::Tensor& q) const {
    const int64_t chunk = q.size(1) / 2;
    return {q.size(0), 2 * R_ * chunk, chunk, chunks_of(processes_.rank(), chunk)};
  }
  // What own queries see of the keys that arrive in a step: of an earlier process its early chunk by both of ours, of a
  // later one both of its chunks by our late one.
  [[nodiscard]] std::array<Pair, 2> pairs(const Places& places, int64_t step) const {
    const int64_t from = (processes_.rank() - step + R_) % R_;
    const Two keys = chunks_of(from, places.chunk);
    if (from < processes_.rank()) return {Pair{places.own[0], keys[0]}, Pair{places.own[1], keys[0]}};
    return {Pair{places.own[1], keys[0]}, Pair{places.own[1], keys[1]}};
  }

  static Qkv part(const Qkv& qkv, const Place& queries, const Place& keys) {
    const auto cut = [](const at::Tensor& x, const Chunk& chunk) { return x.narrow(1, chunk.begin, chunk.count); };
    return {cut(qkv.q, queries.local), cut(qkv.k, keys.local), cut(qkv.v, keys.local)};
  }
  static Attended part(const Attended& all, const Place& queries) {
    return techniques::narrow(all, queries.local.begin, queries.local.count);
  }
  [[nodiscard]] static Documents within(const Documents& documents, const Place& place, const Places& places,
                                        at::Device device) {
    return techniques::documents_within(documents, place.whole, places.B, places.S, device);
  }

  [[nodiscard]] Attended attend_to_own(const Qkv& qkv, const Documents& documents, const Places& places) const {
    std::vector<at::Tensor> outs, log_sum_exps;
    for (const Place& place : places.own) {
      Attended one = core_->forward(part(qkv, place, place), within(documents, place, places, qkv.q.device()), true);
      outs.push_back(one.out.to(techniques::sum_type(one.out)));
      log_sum_exps.push_back(std::move(one.log_sum_exp));
    }
    Attended sum{at::cat(outs, 1), at::cat(log_sum_exps, 2)};
    add_rectangles({places.own[1], places.own[0]}, qkv, documents, places, sum);
    return sum;
  }

  void add_rectangles(const Pair& pair, const Qkv& qkv, const Documents& documents, const Places& places,
                      const Attended& sum) const {
    const Qkv of_pair = part(qkv, pair.queries, pair.keys);
    const Attended of_queries = part(sum, pair.queries);
    for (const Rectangle& seen :
         techniques::rectangles(documents, pair.queries.whole, pair.keys.whole, places.B, places.S)) {
      Attended to = seen.of_queries(of_queries);
      techniques::merge(to, core_->forward(seen.of(of_pair.q, of_pair.k, of_pair.v), documents, /*causal=*/false));
    }
  }

  void add_own_gradients(const at::Tensor& grad_out, const Qkv& qkv, const Attended& attended,
                         const Documents& documents, const Places& places, const Qkv& to) const {
    for (const Place& place : places.own) {
      const Qkv grads = core_->backward(grad_out.narrow(1, place.local.begin, place.local.count).contiguous(),
                                        part(qkv, place, place), part(attended, place),
                                        within(documents, place, places, qkv.q.device()), /*causal=*/true);
      add(grads, part(to, place, place));
    }
    add_gradients({places.own[1], places.own[0]}, grad_out, qkv, attended, documents, places, to);
  }

  void add_gradients(const Pair& pair, const at::Tensor& grad_out, const Qkv& qkv, const Attended& attended,
                     const Documents& documents, const Places& places, const Qkv& to) const {
    const Qkv of_pair = part(qkv, pair.queries, pair.keys), sums = part(to, pair.queries, pair.keys);
    const Attended of_queries = part(attended, pair.queries);
    const at::Tensor grad = grad_out.narrow(1, pair.queries.local.begin, pair.queries.local.count);
    for (const Rectangle& seen :
         techniques::rectangles(documents, pair.queries.whole, pair.keys.whole, places.B, places.S)) {
      add(core_->backward(seen.of_queries(grad), seen.of(of_pair.q, of_pair.k, of_pair.v), seen.of_queries(of_queries),
                          documents, /*causal=*/false),
          seen.of(sums.q, sums.k, sums.v));
    }
  }
  static void add(const Qkv& grads, const Qkv& to) {
    at::Tensor(to.q).add_(grads.q), at::Tensor(to.k).add_(grads.k), at::Tensor(to.v).add_(grads.v);
  }

  model::SharedCore core_;
  parallel::Communicator processes_;
  int64_t R_;
};

}  // namespace

model::SharedCore ring(model::SharedCore core, parallel::Communicator processes) {
  if (processes.is_alone()) return core;
  return std::make_shared<Ring>(std::move(core), std::move(processes));
}

}  // namespace longfold::parallelize
