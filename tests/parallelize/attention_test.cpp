// Attention of tokens that several processes share is that of one process, forward and backward.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>

#include "longfold/parallel/mesh.h"
#include "longfold/parallel/sequence_layout.h"
#include "longfold/parallelize/ring.h"
#include "longfold/parallelize/ulysses.h"
#include "tests/parallel/test_world.h"

namespace longfold::parallelize {
namespace {

using model::Attended;
using model::Documents;
using model::Qkv;
using parallel::Axis;
using parallel::SequenceLayout;

constexpr int64_t kRows = 2, kDim = 16;

struct Case {
  int64_t heads, keys;
  std::vector<int64_t> documents;  // of kRows rows of 48 tokens
};

std::vector<Case> cases(int64_t ulysses) {
  const std::vector<int64_t> packed{0, 1, 13, 24, 40, 48, 49, 60, 96};
  std::vector<Case> all;
  for (const auto& documents : {std::vector<int64_t>{}, packed}) {
    all.push_back({2 * ulysses, 2 * ulysses, documents});
    all.push_back({2 * ulysses, ulysses, documents});
    all.push_back({2 * ulysses, 1, documents});
  }
  return all;
}

double largest_difference(const at::Tensor& got, const at::Tensor& expected) {
  return ((got - expected).abs().max() / expected.abs().max()).item<double>();
}

void expect_as_in_one_process(int64_t ring_degree, int64_t ulysses_degree) {
  const parallel::Mesh mesh(parallel::test_world(),
                            parallel::degrees_for(parallel::test_world().size(), ring_degree, ulysses_degree, 1));
  constexpr int64_t S = 48;
  const SequenceLayout layout(S, ring_degree, ulysses_degree);
  ASSERT_EQ(layout.padded_length(), S);
  const model::SharedCore plain = model::attention_core(model::AttentionEngine::kLongfold);
  const model::SharedCore shared = ulysses(ring(plain, mesh.along(Axis::kRing)), mesh.along(Axis::kUlysses));
  for (const Case& tested : cases(ulysses_degree)) {
    at::manual_seed(5);
    const auto random = [&](int64_t heads) { return at::randn({kRows, S, heads, kDim}, at::kDouble); };
    const Qkv qkv{random(tested.heads), random(tested.keys), random(tested.keys)};
    const at::Tensor grad_out = random(tested.heads);
    Documents documents;
    if (!tested.documents.empty()) documents.begins = at::tensor(tested.documents, at::kLong);
    const Attended exact = plain->forward(qkv, documents, true);
    const Qkv exact_grads = plain->backward(grad_out, qkv, exact, documents, true);

    const auto local = [&](const at::Tensor& x) { return layout.local(x, mesh.in_sequence(), 0).contiguous(); };
    const Qkv own{local(qkv.q), local(qkv.k), local(qkv.v)};
    const Attended got = shared->forward(own, documents, true);
    const Qkv grads = shared->backward(local(grad_out), own, got, documents, true);
    const std::string name = "ring " + std::to_string(ring_degree) + " ulysses " + std::to_string(ulysses_degree) +
                             " heads " + std::to_string(tested.heads) + " keys " + std::to_string(tested.keys) +
                             (tested.documents.empty() ? "" : " packed");
    EXPECT_LT(largest_difference(got.out, local(exact.out)), 1e-13) << name;
    EXPECT_LT(largest_difference(got.log_sum_exp, local(exact.log_sum_exp.transpose(1, 2)).transpose(1, 2)), 1e-13)
        << name;
    EXPECT_LT(largest_difference(grads.q, local(exact_grads.q)), 1e-12) << name;
    EXPECT_LT(largest_difference(grads.k, local(exact_grads.k)), 1e-12) << name;
    EXPECT_LT(largest_difference(grads.v, local(exact_grads.v)), 1e-12) << name;
    const Attended again = shared->forward(own, documents, true);
    const Qkv grads_again = shared->backward(local(grad_out), own, got, documents, true);
    EXPECT_TRUE(at::equal(again.out, got.out) && at::equal(grads_again.k, grads.k)) << name << ", twice";
  }
}

TEST(SharedAttention, IsThatOfOneProcess) {
  const int64_t P = parallel::test_world().size();
  for (int64_t ulysses_degree = 1; ulysses_degree <= P; ++ulysses_degree) {
    if (P % ulysses_degree == 0) expect_as_in_one_process(P / ulysses_degree, ulysses_degree);
  }
}

}  // namespace
}  // namespace longfold::parallelize
