// Every file of a data set, spoiled: it is refused by a UserError, or gives the tokens that it had.
#include <gtest/gtest.h>

#include "tests/data/scratch.h"
#include "tests/spoil.h"

namespace longfold::data {
namespace {

using Tokens = std::vector<std::vector<int64_t>>;

std::vector<int32_t> made_up(size_t count) {
  std::vector<int32_t> ids(count);
  for (size_t i = 0; i < count; ++i) ids[i] = 5 + static_cast<int32_t>(i * i + i / 7) % 4;
  return ids;
}

class TokenFileFuzz : public testing::TestWithParam<const char*> {
 protected:
  TokenFileFuzz() {
    std::vector<std::vector<int32_t>> records;
    for (const size_t length : {400, 1, 0, 37, 900}) records.push_back(made_up(length));
    for (int i = 0; i < 40; ++i) records.push_back({5});
    prefix_ = write_tokens(records);
    right_ = read();
    file_ = prefix_ + GetParam();
  }

  [[nodiscard]] Tokens read() const {
    const TokenFile file(prefix_);
    file.check_content();
    Tokens all;
    for (int64_t i = 0; i < file.num_sequences(); ++i) all.push_back(to_vector(file.tokens(i)));
    return all;
  }

  // Whether the data set is refused if the file has these bytes; it fails if what is read is wrong.
  [[nodiscard]] bool is_refused(const std::string& bytes) const {
    put(file_, bytes);
    Tokens found;
    const std::string message = message_of([&] { found = read(); });
    if (!message.empty()) return true;
    EXPECT_EQ(found, right_);
    return false;
  }

  std::string prefix_, file_;
  Tokens right_;
};
INSTANTIATE_TEST_SUITE_P(Files, TokenFileFuzz, testing::Values(".idx", ".bin", ".json"),
                         [](const auto& file) { return std::string(file.param).substr(1); });

TEST_P(TokenFileFuzz, FlippedBits) {
  const std::string bytes = base::read_file(file_);
  EXPECT_FALSE(is_refused(bytes));
  for_each_flip(bytes, 0, file_.ends_with(".idx") ? 7 : kSpoiledEvery, [&](const std::string& spoiled, size_t at) {
    EXPECT_TRUE(is_refused(spoiled) || !file_.ends_with(".bin")) << at;
  });
}

TEST_P(TokenFileFuzz, Cuts) {
  const std::string bytes = base::read_file(file_);
  for_each_cut(bytes, kSpoiledEvery, [&](const std::string& cut, size_t size) {
    EXPECT_TRUE(is_refused(cut) || bytes.substr(size) == "\n") << size;
  });
}

TEST_P(TokenFileFuzz, WhateverTheBytesNothingWrongIsRead) {
  const std::string bytes = base::read_file(file_);
  for_each_spoiled({bytes}, {"{", "}", "\"", ",", ":", "0", "null", "\"tokens\": 9", std::string(8, '\0'), "\xff"},
                   1000, [&](const std::string& spoiled) { (void)is_refused(spoiled); });
}

}  // namespace
}  // namespace longfold::data
