#include "longfold/data/packing.h"

#include <gtest/gtest.h>

#include <random>

namespace longfold::data {
namespace {

using Rows = std::vector<std::vector<size_t>>;

TEST(Packing, TheLongestComeFirstAndFillWhatIsLeft) {
  EXPECT_EQ(pack(std::vector<int64_t>{3, 6, 4}, 10), (Rows{{1, 2}, {0}}));
  EXPECT_EQ(pack(std::vector<int64_t>{5, 5, 5}, 10), (Rows{{0, 1}, {2}}));
  EXPECT_EQ(pack(std::vector<int64_t>{7, 8, 2, 3}, 10), (Rows{{1, 2}, {0, 3}}));  // 2 fits both, and fills the first
  EXPECT_EQ(pack(std::vector<int64_t>{}, 10), Rows{});
}

TEST(Packing, EveryWindowIsThereOnceAndRowsAreAlmostFull) {
  std::mt19937_64 random(1);
  std::vector<int64_t> tokens;
  for (int i = 0; i < 5000; ++i) tokens.push_back(1 + static_cast<int64_t>(random() % 700));
  const Rows rows = pack(tokens, 2048);
  std::vector<int> seen(tokens.size(), 0);
  int64_t all = 0;
  for (const auto& row : rows) {
    int64_t sum = 0;
    for (const size_t i : row) ++seen[i], sum += tokens[i];
    EXPECT_LE(sum, 2048);
    all += sum;
  }
  EXPECT_EQ(seen, std::vector<int>(tokens.size(), 1));
  EXPECT_GT(static_cast<double>(all), 0.99 * 2048 * static_cast<double>(rows.size()));
}

}  // namespace
}  // namespace longfold::data
