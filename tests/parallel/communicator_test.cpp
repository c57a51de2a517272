// Collectives against what they should give, computed by each process for itself.
#include "longfold/parallel/communicator.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <numeric>

#include "tests/parallel/test_world.h"

namespace longfold::parallel {
namespace {

Communicator everybody() {
  static const Communicator all = [] {
    std::vector<int64_t> ranks(static_cast<size_t>(test_world().size()));
    std::iota(ranks.begin(), ranks.end(), 0);
    return test_world().group(ranks);
  }();
  return all;
}

// What process `rank` has.
at::Tensor part_of(int64_t rank, at::IntArrayRef sizes, at::ScalarType type) {
  at::manual_seed(static_cast<uint64_t>(100 + rank));
  return (at::randn(sizes, at::kDouble) * 8).to(type);
}

constexpr at::ScalarType kTypes[] = {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf, at::kLong, at::kInt};

TEST(Communicator, AllReduceSumsInOneOrder) {
  const Communicator all = everybody();
  for (const at::ScalarType type : kTypes) {
    for (const int64_t size : {1, 3, 17, 1000, 70001}) {
      const at::Tensor x = part_of(all.rank(), {size}, type);
      all.all_reduce(x).wait();
      const bool is_16_bit = type == at::kBFloat16 || type == at::kHalf;
      at::Tensor expected = at::zeros({size}, is_16_bit ? at::kFloat : type);
      for (int64_t r = 0; r < all.size(); ++r) expected += part_of(r, {size}, type);
      EXPECT_TRUE(at::equal(x, expected.to(type))) << type << " " << size;
    }
  }
}

TEST(Communicator, GathersAndScattersInTheOrderOfRanks) {
  const Communicator all = everybody();
  const int64_t P = all.size();
  for (const at::ScalarType type : kTypes) {
    const at::Tensor out = at::empty({P, 5, 7}, type);
    all.all_gather(out, part_of(all.rank(), {5, 7}, type)).wait();
    for (int64_t r = 0; r < P; ++r) EXPECT_TRUE(at::equal(out[r], part_of(r, {5, 7}, type))) << type;

    const at::Tensor sum = at::empty({33}, type);
    all.reduce_scatter(sum, part_of(all.rank(), {P, 33}, type)).wait();
    const bool is_16_bit = type == at::kBFloat16 || type == at::kHalf;
    at::Tensor expected = at::zeros({33}, is_16_bit ? at::kFloat : type);
    for (int64_t r = 0; r < P; ++r) expected += part_of(r, {P, 33}, type)[all.rank()];
    EXPECT_TRUE(at::equal(sum, expected.to(type))) << type;
  }
}

TEST(Communicator, EveryoneGetsItsBlockFromEveryone) {
  const Communicator all = everybody();
  const int64_t P = all.size();
  const at::Tensor out = at::empty({P, 3, 1001});
  all.all_to_all(out, part_of(all.rank(), {P, 3, 1001}, at::kFloat)).wait();
  for (int64_t r = 0; r < P; ++r) EXPECT_TRUE(at::equal(out[r], part_of(r, {P, 3, 1001}, at::kFloat)[all.rank()]));
}

TEST(Communicator, BroadcastsAndShifts) {
  const Communicator all = everybody();
  const int64_t P = all.size();
  for (int64_t root = 0; root < P; ++root) {
    const at::Tensor x = part_of(all.rank(), {300}, at::kFloat);
    all.broadcast(x, root).wait();
    EXPECT_TRUE(at::equal(x, part_of(root, {300}, at::kFloat)));
  }
  for (const int64_t by : {int64_t{1}, int64_t{-1}, int64_t{2}, P}) {
    const at::Tensor out = at::empty({40});
    all.shift(out, part_of(all.rank(), {40}, at::kFloat), by).wait();
    EXPECT_TRUE(at::equal(out, part_of(((all.rank() - by) % P + P) % P, {40}, at::kFloat))) << by;
  }
}

TEST(Communicator, ManyAtOnceDoNotMixUp) {
  const Communicator all = everybody();
  std::vector<at::Tensor> sums;
  std::vector<Pending> pending;
  for (int64_t i = 0; i < 200; ++i) {
    sums.push_back(at::full({i * 37 + 1}, static_cast<double>(all.rank() + i)));
    pending.push_back(all.all_reduce(sums.back()));
  }
  for (size_t i = pending.size(); i-- > 0;) pending[i].wait();
  const int64_t P = all.size();
  for (int64_t i = 0; i < 200; ++i) {
    EXPECT_TRUE(
        at::equal(sums[static_cast<size_t>(i)], at::full({i * 37 + 1}, static_cast<double>(P * (P - 1) / 2 + P * i))));
  }
}

TEST(Communicator, RefusesWhatItWouldGetWrong) {
  const Communicator all = everybody();
  const at::Tensor strided = at::ones({4, 6}).t(), expanded = at::ones({1}).expand({6});
  EXPECT_THROW((void)all.all_reduce(strided), c10::Error);
  EXPECT_THROW((void)all.all_reduce(expanded), c10::Error);
  EXPECT_THROW((void)all.all_gather(at::empty({all.size() + 1, 3}), at::ones({3})), c10::Error);
  EXPECT_THROW((void)all.all_to_all(at::empty({all.size(), 3}, at::kDouble), at::ones({all.size(), 3})), c10::Error);
  all.all_reduce(at::empty({0})).wait();
  all.all_gather(at::empty({all.size(), 0}), at::empty({0})).wait();
}

TEST(Communicator, CountsWhatItSends) {
  const Communicator all = everybody();
  const int64_t P = all.size(), before = all.traffic().bytes_sent;
  all.all_to_all(at::empty({P, 100}), at::ones({P, 100})).wait();
  all.all_reduce(at::ones({P * 10})).wait();
  EXPECT_EQ(all.traffic().bytes_sent - before, P == 1 ? 0 : (P - 1) * 400 + 2 * (P - 1) * 40);
}

}  // namespace
}  // namespace longfold::parallel
