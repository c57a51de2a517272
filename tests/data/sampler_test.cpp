#include "longfold/data/sampler.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "longfold/base/fields.h"
#include "tests/data/scratch.h"

namespace longfold::data {
namespace {

// Every token of a record differs from its neighbours 1 to 3 places away, and nothing is [UNK] or [PAD].
std::vector<int32_t> record(size_t length, int32_t start = 0) {
  std::vector<int32_t> ids(length);
  for (size_t i = 0; i < length; ++i) ids[i] = 5 + (start + static_cast<int32_t>(i)) % 4;
  return ids;
}

std::vector<float> to_floats(const at::Tensor& tensor) {
  const auto* begin = tensor.const_data_ptr<float>();
  return {begin, begin + tensor.numel()};
}

std::vector<float> ones_and_zeros(std::string_view text) {
  std::vector<float> values;
  for (const char c : text) values.push_back(c == '1' ? 1.0f : 0.0f);
  return values;
}

TEST(Sampler, WholeRecord) {
  const TokenFile file(write_tokens({{5, 6, 7, 8, 5, 5, 6, 6, 7, 7}}));
  const Batch batch = Sampler(file, {.held_out = 0.35}).batch(0);
  EXPECT_EQ(batch.tokens.sizes(), (std::vector<int64_t>{1, 10}));
  EXPECT_EQ(to_vector(batch.tokens), (std::vector<int64_t>{5, 6, 7, 8, 5, 5, 6, 6, 7, 7}));
  EXPECT_EQ(to_vector(batch.labels), (std::vector<int64_t>{6, 7, 8, 5, 5, 6, 6, 7, 7, 3}));
  EXPECT_EQ(to_vector(batch.positions), (std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
  // 0.35 of 10 tokens, rounded down: tokens 7, 8 and 9 are held out, which are the labels of 6, 7 and 8.
  EXPECT_EQ(to_floats(batch.weights), ones_and_zeros("1111110000"));
  EXPECT_EQ(to_floats(batch.held_out_weights), ones_and_zeros("0000001110"));
}

TEST(Sampler, UnknownAndPadLabelsNeverCount) {
  const TokenFile file(write_tokens({{5, 0, 7, 3, 5, 0, 6, 3, 7}}));
  const Batch batch = Sampler(file, {.held_out = 0.5}).batch(0);
  EXPECT_EQ(to_floats(batch.weights), ones_and_zeros("010100000"));
  EXPECT_EQ(to_floats(batch.held_out_weights), ones_and_zeros("000001010"));
}

TEST(Sampler, WindowsSeeTheLabelBehindTheirEnd) {
  const TokenFile file(write_tokens({record(10)}));
  const Sampler sampler(file, {.sequence_length = 4});
  ASSERT_EQ(sampler.num_windows(), 3);
  std::map<int64_t, Batch> by_padding;
  for (int64_t step = 0; step < 3; ++step) {
    const Batch batch = sampler.batch(step);
    EXPECT_EQ(batch.tokens.sizes(), (std::vector<int64_t>{1, 4}));
    EXPECT_EQ(to_vector(batch.positions), (std::vector<int64_t>{0, 1, 2, 3}));
    if (to_vector(batch.tokens)[2] == 3) {
      EXPECT_EQ(to_vector(batch.tokens), (std::vector<int64_t>{5, 6, 3, 3}));
      EXPECT_EQ(to_vector(batch.labels), (std::vector<int64_t>{6, 3, 3, 3}));
      EXPECT_EQ(to_floats(batch.weights), ones_and_zeros("1000"));
    } else {
      EXPECT_EQ(to_vector(batch.tokens), (std::vector<int64_t>{5, 6, 7, 8}));
      EXPECT_EQ(to_vector(batch.labels), (std::vector<int64_t>{6, 7, 8, 5}));
      EXPECT_EQ(to_floats(batch.weights), ones_and_zeros("1111"));
    }
  }
}

// Whatever the cut, an epoch trains on every label before the held-out part once, and on no other.
TEST(Sampler, EachLabelCountsOncePerEpoch) {
  const std::vector<size_t> lengths = {23, 1, 8, 2, 40};
  std::vector<std::vector<int32_t>> records;
  std::vector<std::string> vocabulary = {"[UNK]", "[PAD]"};
  for (const size_t length : lengths) {  // every token of the set is another one
    records.emplace_back();
    for (size_t i = 0; i < length; ++i) {
      records.back().push_back(static_cast<int32_t>(vocabulary.size()));
      vocabulary.push_back("t" + std::to_string(vocabulary.size()));
    }
  }
  const TokenFile file(write_tokens(records, Tokenizer("each", vocabulary)));
  const double held_out = 0.3;
  std::multiset<int64_t> expected_train;
  std::multiset<int64_t> expected_held_out;
  for (const auto& ids : records) {
    const int64_t held = first_held_out(std::ssize(ids), held_out);
    for (int64_t i = 1; i < std::ssize(ids); ++i) {
      (i < held ? expected_train : expected_held_out).insert(ids[static_cast<size_t>(i)]);
    }
  }
  const auto collect = [](const Batch& batch, const at::Tensor& weights, std::multiset<int64_t>& found) {
    const std::vector<int64_t> labels = to_vector(batch.labels);
    const std::vector<int64_t> tokens = to_vector(batch.tokens);
    const std::vector<float> counts = to_floats(weights);
    for (size_t i = 0; i < labels.size(); ++i) {
      if (counts[i] == 0) continue;
      EXPECT_EQ(labels[i], tokens[i] + 1) << "the label is the next token of the record";
      found.insert(labels[i]);
    }
  };
  for (const auto& [length, packed] : std::vector<std::pair<int64_t, bool>>{{0, false},
                                                                            {1, false},
                                                                            {2, false},
                                                                            {3, false},
                                                                            {7, false},
                                                                            {8, false},
                                                                            {22, false},
                                                                            {23, false},
                                                                            {39, false},
                                                                            {40, false},
                                                                            {1, true},
                                                                            {3, true},
                                                                            {8, true},
                                                                            {23, true},
                                                                            {40, true},
                                                                            {100, true}}) {
    const Sampler sampler(file, {.sequence_length = length, .held_out = held_out, .seed = 3, .pack = packed});
    for (int64_t epoch = 0; epoch < 2; ++epoch) {
      std::multiset<int64_t> train;
      for (int64_t i = 0; i < sampler.num_windows(); ++i) {
        const Batch batch = sampler.batch(epoch * sampler.num_windows() + i);
        collect(batch, batch.weights, train);
      }
      EXPECT_EQ(train, expected_train) << "sequence_length " << length;
    }
    std::multiset<int64_t> found;
    for (int64_t i = 0; i < sampler.num_held_out_windows(); ++i) {
      const Batch batch = sampler.held_out_window(i);
      collect(batch, batch.held_out_weights, found);
    }
    EXPECT_EQ(found, expected_held_out) << "sequence_length " << length;
  }
}

TEST(Sampler, EachRowIsADocumentAndSoIsItsPadding) {
  const TokenFile file(write_tokens({record(10)}));
  const Sampler sampler(file, {.sequence_length = 8, .batch_size = 2});
  const std::vector<int64_t> documents = to_vector(sampler.batch(0).documents);
  EXPECT_TRUE(documents == (std::vector<int64_t>{0, 8, 10, 16}) || documents == (std::vector<int64_t>{0, 2, 8, 16}));
  EXPECT_FALSE(sampler.batch(0).packed);
}

TEST(Sampler, PackedRecordsAreDocumentsWhosePositionsRestart) {
  const TokenFile file(write_tokens({record(3), record(6, 1), record(4, 2)}));
  const Sampler sampler(file, {.sequence_length = 10, .pack = true});
  ASSERT_EQ(sampler.num_windows(), 2);  // 6 and 4 tokens fill a row, 3 are left
  for (int64_t step = 0; step < 2; ++step) {
    const Batch batch = sampler.batch(step);
    EXPECT_TRUE(batch.packed);
    if (to_vector(batch.documents) == std::vector<int64_t>{0, 6, 10}) {
      EXPECT_EQ(to_vector(batch.tokens), (std::vector<int64_t>{6, 7, 8, 5, 6, 7, 7, 8, 5, 6}));
      EXPECT_EQ(to_vector(batch.labels), (std::vector<int64_t>{7, 8, 5, 6, 7, 3, 8, 5, 6, 3}));
      EXPECT_EQ(to_vector(batch.positions), (std::vector<int64_t>{0, 1, 2, 3, 4, 5, 0, 1, 2, 3}));
      EXPECT_EQ(to_floats(batch.weights), ones_and_zeros("1111101110"));
    } else {
      EXPECT_EQ(to_vector(batch.documents), (std::vector<int64_t>{0, 3, 10}));
      EXPECT_EQ(to_vector(batch.tokens), (std::vector<int64_t>{5, 6, 7, 3, 3, 3, 3, 3, 3, 3}));
      EXPECT_EQ(to_floats(batch.weights), ones_and_zeros("1100000000"));
    }
  }
  EXPECT_EQ(message_of([&] { Sampler(file, {.pack = true}); }),
            "expected data.sequence_length to be above 0 with data.pack, got 0");
}

std::vector<std::vector<int64_t>> first_tokens(const Sampler& sampler, int64_t steps) {
  std::vector<std::vector<int64_t>> found;
  for (int64_t step = 0; step < steps; ++step)
    found.push_back(to_vector(sampler.batch(step).tokens.select(1, 0).contiguous()));
  return found;
}

class SamplerOrder : public testing::Test {
 protected:
  SamplerOrder() {
    std::vector<std::string> vocabulary = {"[UNK]", "[PAD]"};
    std::vector<int32_t> ids;
    for (int32_t i = 2; i < 103; ++i) {
      ids.push_back(i);
      vocabulary.push_back(std::to_string(i));
    }
    file_ = std::make_unique<TokenFile>(write_tokens({ids}, Tokenizer("each", vocabulary)));  // 20 windows of 5
  }
  std::unique_ptr<TokenFile> file_;
};

TEST_F(SamplerOrder, IsAFunctionOfSeedAndStep) {
  const Sampler sampler(*file_, {.sequence_length = 5, .batch_size = 3, .seed = 7});
  const Sampler again(*file_, {.sequence_length = 5, .batch_size = 3, .seed = 7});
  const auto whole = first_tokens(sampler, 20);
  for (const int64_t step : {19, 3, 0, 12}) {  // out of order, as after a resume
    EXPECT_EQ(to_vector(again.batch(step).tokens.select(1, 0).contiguous()), whole[static_cast<size_t>(step)]);
  }
  EXPECT_NE(first_tokens(Sampler(*file_, {.sequence_length = 5, .batch_size = 3, .seed = 8}), 20), whole);
}

TEST_F(SamplerOrder, DiffersBetweenEpochsAndDoesNotDependOnTheBatchSize) {
  const auto flat = [](const std::vector<std::vector<int64_t>>& steps) {
    std::vector<int64_t> all;
    for (const auto& step : steps) all.insert(all.end(), step.begin(), step.end());
    return all;
  };
  const auto ones = flat(first_tokens(Sampler(*file_, {.sequence_length = 5}), 60));
  const auto threes = flat(first_tokens(Sampler(*file_, {.sequence_length = 5, .batch_size = 3}), 20));
  EXPECT_EQ(ones, threes);
  const std::vector<int64_t> first(ones.begin(), ones.begin() + 20);
  const std::vector<int64_t> second(ones.begin() + 20, ones.begin() + 40);
  EXPECT_NE(first, second);
  EXPECT_FALSE(std::is_sorted(first.begin(), first.end()));
  const std::set<int64_t> distinct(first.begin(), first.end());
  EXPECT_EQ(distinct.size(), 20u);
}

// Pinned, because a checkpoint resumes into this order.
TEST_F(SamplerOrder, IsPinned) {
  const Sampler sampler(*file_, {.sequence_length = 5, .seed = 1});
  std::vector<int64_t> windows;
  for (int64_t step = 0; step < 6; ++step) windows.push_back((to_vector(sampler.batch(step).tokens)[0] - 2) / 5);
  EXPECT_EQ(windows, (std::vector<int64_t>{14, 11, 6, 3, 15, 19}));
}

TEST(Sampler, ConfigurationsThatDoNotFitAreNamed) {
  const std::string prefix = write_tokens({record(10), record(7)});
  const TokenFile file(prefix);
  const auto message = [&](const SamplerConfig& config) { return message_of([&] { Sampler(file, config); }); };
  EXPECT_EQ(message({.sequence_length = 11}),
            "expected data.sequence_length to be at most 10, the longest record of '" + prefix + "', got 11");
  EXPECT_EQ(message({.sequence_length = 10}), "");
  EXPECT_EQ(message({.sequence_length = -1}), "expected data.sequence_length to be 0 or more, got -1");
  EXPECT_EQ(message({.held_out = 1.0}), "expected data.held_out to be in [0, 1), got 1.000000");
  EXPECT_EQ(message({.held_out = -0.1}), "expected data.held_out to be in [0, 1), got -0.100000");
  EXPECT_EQ(message({.held_out = std::nan("")}), "expected data.held_out to be in [0, 1), got nan");
  EXPECT_EQ(message({.sequence_length = 4, .batch_size = 0}), "expected data.batch_size to be from 1 to 65536, got 0");
  EXPECT_EQ(message({.sequence_length = 4, .batch_size = 100'000'000'000}),
            "expected data.batch_size to be from 1 to 65536, got 100000000000");
  EXPECT_EQ(message_of([] { SamplerConfig().validate(); }),
            "expected data.path to be the prefix of a data set, got \"\"");
  EXPECT_EQ(message({.seed = -1}), "expected data.seed to be 0 or more, got -1");
  EXPECT_EQ(message({.batch_size = 2}),
            "expected data.batch_size 1 with data.sequence_length 0 (whole records differ in length), got 2");
}

TEST(Sampler, DataWithNothingToTrainOnIsAnError) {
  const TokenFile file(write_tokens({{5}, {6, 7}}));
  EXPECT_EQ(Sampler(file, {}).num_windows(), 1);
  EXPECT_NE(message_of([&] { Sampler(file, {.held_out = 0.5}); }).find("has no token to train on"), std::string::npos);
}

TEST(Sampler, EmptyAndSingleTokenRecordsGiveNothing) {
  const TokenFile file(write_tokens({{}, {5}, {5, 6, 7}, {}, {8}}));
  for (const auto& [length, packed] : {std::pair<int64_t, bool>{0, false}, {3, false}, {3, true}}) {
    const Sampler sampler(file, {.sequence_length = length, .pack = packed});
    ASSERT_EQ(sampler.num_windows(), 1);
    EXPECT_EQ(to_vector(sampler.batch(0).tokens), (std::vector<int64_t>{5, 6, 7}));
    EXPECT_EQ(to_floats(sampler.batch(0).weights), ones_and_zeros("110"));
    EXPECT_EQ(sampler.num_held_out_windows(), 0);
  }
}

// Three records of a billion tokens, of which the disk holds a few bytes: offsets are beyond what 32 bits say, in bytes
// and in tokens.
TEST(Sampler, WindowsBeyondFourGibibytesAreRead) {
  constexpr int64_t kLength = int64_t{1} << 30, kAt = 2 * kLength + kLength - 3;  // 3 from the end of all
  const std::string prefix = write_tokens({{5}, {5}, {5}});
  std::filesystem::resize_file(prefix + ".bin", 3 * kLength * 2);
  {
    std::fstream bin(prefix + ".bin", std::ios::in | std::ios::out | std::ios::binary);
    const std::vector<uint16_t> ids{6, 7, 8};
    bin.seekp(kAt * 2);
    bin.write(reinterpret_cast<const char*>(ids.data()), 6);
  }
  const std::vector<char> index = index_bytes(TokenDtype::kU16, std::vector<int32_t>(3, int32_t{kLength}));
  put(prefix + ".idx", {index.data(), index.size()});
  std::string sidecar = base::read_file(prefix + ".json");
  const std::string counted = "\"tokens\": 3";
  sidecar.replace(sidecar.find(counted), counted.size(), "\"tokens\": " + std::to_string(3 * kLength));
  put(prefix + ".json", sidecar);

  const TokenFile file(prefix);
  EXPECT_EQ(file.num_tokens(), 3 * kLength);
  EXPECT_EQ(to_vector(file.tokens(2, kLength - 4, 4)), (std::vector<int64_t>{0, 6, 7, 8}));
  const Sampler sampler(file, {.sequence_length = 65'536, .held_out = 3e-9});
  const Batch last = sampler.held_out_window(2);
  EXPECT_EQ(to_vector(last.tokens.slice(1, -4).contiguous()), (std::vector<int64_t>{0, 6, 7, 8}));
  EXPECT_EQ(to_vector(last.positions.slice(1, -1).contiguous())[0], 65'535);
}

TEST(Sampler, ConfigIsASection) {
  SamplerConfig config;
  base::set_field(config, "sequence_length", "128");
  base::set_field(config, "held_out", "0.1");
  EXPECT_EQ(base::to_json(config).dump(),
            R"({"path":"","sequence_length":128,"held_out":0.1,"batch_size":1,"seed":0,"tokenizer":"","mixture":"",)"
            R"("masked_weight":1.0,"pack":false})");
}

// Data sets whose tokens tell them apart: record i of set k is [5 + k, 5 + i % 4, ...].
std::string set_of(int32_t k, int32_t num_records) {
  std::vector<std::vector<int32_t>> records;
  for (int32_t i = 0; i < num_records; ++i) records.push_back({5 + k, 5 + i % 4, 5 + i / 4 % 4, 5 + i / 16 % 4});
  return write_tokens(records);
}

std::vector<std::vector<int64_t>> rows_of(const Sampler& sampler, int64_t num_steps) {
  std::vector<std::vector<int64_t>> rows;
  for (int64_t step = 0; step < num_steps; ++step) {
    const Batch batch = sampler.batch(step);
    for (int64_t row = 0; row < batch.tokens.size(0); ++row) rows.push_back(to_vector(batch.tokens[row].contiguous()));
  }
  return rows;
}

TEST(Mixture, EachDataSetHasItsShareOfEachRunAndItsOwnEpochs) {
  const TokenFile file(set_of(0, 16));
  const std::string b = set_of(1, 64), c = set_of(2, 4);
  SamplerConfig config{.sequence_length = 4, .batch_size = 4, .seed = 3, .mixture = b + " 2, " + c + " 1"};
  const Sampler sampler(file, config);
  const auto rows = rows_of(sampler, 512);
  std::map<int64_t, int64_t> counts;
  std::map<int64_t, std::map<std::vector<int64_t>, int64_t>> seen;
  for (size_t i = 0; i < rows.size(); ++i) {
    ++counts[rows[i][0]];
    ++seen[rows[i][0]][rows[i]];
    if (i + 1 == 1024) {
      EXPECT_EQ(counts, (std::map<int64_t, int64_t>{{5, 256}, {6, 512}, {7, 256}}));
    }
  }
  EXPECT_EQ(counts, (std::map<int64_t, int64_t>{{5, 512}, {6, 1024}, {7, 512}}));
  EXPECT_EQ(seen[5].size(), 16u);
  for (const auto& [row, times] : seen[5]) EXPECT_EQ(times, 32);
  EXPECT_EQ(seen[6].size(), 64u);
  for (const auto& [row, times] : seen[6]) EXPECT_EQ(times, 16);
  EXPECT_EQ(seen[7].size(), 4u);

  // A batch depends on nothing but seed and step; the order not on the size of a batch.
  EXPECT_EQ(to_vector(Sampler(file, config).batch(300).tokens), to_vector(sampler.batch(300).tokens));
  config.batch_size = 2;
  EXPECT_EQ(rows_of(Sampler(file, config), 1024), rows);
  config.seed = 4;
  EXPECT_NE(rows_of(Sampler(file, config), 1024), rows);
}

TEST(Mixture, WhatCannotBeIsNamed) {
  const TokenFile file(set_of(0, 4));
  EXPECT_EQ(parse_mixture(" a b 0.5 ,c 2"), (std::vector<MixtureEntry>{{"a b", 0.5}, {"c", 2}}));
  EXPECT_TRUE(parse_mixture(" ").empty());
  for (const char* text : {"a", "a 0", "a -1", "a x", "a 1,,b 1", "1"}) {
    EXPECT_EQ(message_of([&] { (void)parse_mixture(text); }).substr(0, 66),
              "expected data.mixture to be prefixes and weights above 0 such as \"")
        << text;
  }
  const auto message = [&](const std::string& mixture, int64_t length) {
    return message_of([&] { Sampler(file, {.sequence_length = length, .mixture = mixture}); });
  };
  EXPECT_EQ(message("a 1", 0), "expected data.sequence_length to be above 0 with data.mixture, got 0");
  const std::string codons = write_tokens({{5, 6, 7, 8}}, make_tokenizer("genslm69"));
  EXPECT_EQ(message(codons + " 1", 4), "expected the data sets of data.mixture to have the tokenizer of '" +
                                           file.prefix() + "', nucleotide, got genslm69 in '" + codons + "'");
  EXPECT_NE(message(set_of(1, 4) + " 1000000", 4).find("whose weight is 1, a window in 1024"), std::string::npos);
}

TEST(SoftMask, WeighsLabelsOfTheTrainingLossAlone) {
  const std::string prefix = fresh_folder() / "set";
  TokenFileWriter writer(prefix, make_tokenizer("nucleotide"), true);
  TokenFileInfo info{.sources = {"x"}, .frame = "0", .counts = {.tokens = 13}};
  writer.append(std::vector<int32_t>{5, 6, 7});
  writer.append_mask({true, false, true});
  writer.end_sequence({"a"});
  writer.append(std::vector<int32_t>{5, 6, 7, 8, 5, 0, 7, 8, 5, 6});
  writer.append_mask({false, false, true, true, false, true, false, true, true, false});
  writer.end_sequence({"b"});
  writer.commit(info);
  const TokenFile file(prefix);
  file.check_content();
  EXPECT_EQ(file.masked(1, 1, 4), (std::vector<bool>{false, true, true, false}));
  EXPECT_EQ(file.masked(0, 0, 3), (std::vector<bool>{true, false, true}));
  std::map<size_t, std::vector<float>> weights;
  const Sampler sampler(file, {.held_out = 0.2, .masked_weight = 0.25});
  for (int64_t step = 0; step < 2; ++step) {
    const Batch batch = sampler.batch(step);
    weights[static_cast<size_t>(batch.tokens.size(1))] = to_floats(batch.weights);
    if (batch.tokens.size(1) == 10) {
      EXPECT_EQ(to_floats(batch.held_out_weights), ones_and_zeros("0000000110"));
    }
  }
  EXPECT_EQ(weights[3], (std::vector<float>{1, 0.25, 0}));
  EXPECT_EQ(weights[10], (std::vector<float>{1, 0.25, 0.25, 1, 0, 1, 0.25, 0, 0, 0})) << "[UNK] counts nowhere";

  std::string bits = base::read_file(prefix + ".mask");
  ASSERT_EQ(bits.size(), 2u);
  put(prefix + ".mask", bits + "x");
  EXPECT_EQ(message_of([&] { (void)TokenFile(prefix); }),
            "'" + prefix + ".mask': expected 2 bytes, a bit for each token, got 3");
  bits[0] = static_cast<char>(bits[0] ^ 2);
  put(prefix + ".mask", bits);
  EXPECT_NE(message_of([&] { TokenFile(prefix).check_content(); }).find(".mask': expected content hash"),
            std::string::npos);
  const TokenFile plain(write_tokens({{5, 6, 7}}));
  EXPECT_EQ(message_of([&] { Sampler(plain, {.masked_weight = 0.5}); }),
            "data.masked_weight is 0.500000, but '" + plain.prefix() +
                "' does not say which bases are soft-masked: write it with longfold prepare --soft-mask");
}

}  // namespace
}  // namespace longfold::data
