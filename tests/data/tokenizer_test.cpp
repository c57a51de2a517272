#include "longfold/data/tokenizer.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/data/scratch.h"

namespace longfold::data {
namespace {

std::vector<int32_t> encode(const Tokenizer& tokenizer, std::string_view bases, int64_t frame = 0) {
  std::vector<int32_t> ids;
  Encoder encoder(tokenizer, frame);
  encoder.encode(bases, ids);
  return ids;
}

TEST(Tokenizer, CodonTableIsThatOfGenSlm) {
  const Tokenizer tokenizer = make_tokenizer("genslm69");
  EXPECT_EQ(tokenizer.vocab_size(), 69);
  EXPECT_EQ(tokenizer.letters_per_token(), 3);
  const std::vector<std::string> first = {"[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "GGC", "GCC", "ATC"};
  EXPECT_TRUE(std::equal(first.begin(), first.end(), tokenizer.vocabulary().begin()));
  EXPECT_EQ(tokenizer.id("ATG"), 10);
  EXPECT_EQ(tokenizer.id("TAA"), 65);
  EXPECT_EQ(tokenizer.id("TAG"), 68);
  std::set<std::string> codons;
  for (const std::string& text : tokenizer.vocabulary()) {
    if (text.find_first_not_of("ACGT") == std::string::npos) codons.insert(text);
  }
  EXPECT_EQ(codons.size(), 64u);
}

// A hash that changes means that data sets and checkpoints written before no longer fit.
TEST(Tokenizer, HashesArePinned) {
  EXPECT_EQ(make_tokenizer("genslm69").hash(), "fnv1a64:8fb5978bb52e78fc");
  EXPECT_EQ(make_tokenizer("nucleotide").hash(), "fnv1a64:bf7d87afe1a7606d");
  EXPECT_NE(Tokenizer("a", {"[UNK]", "[PAD]", "AC", "G"}).hash(), Tokenizer("a", {"[UNK]", "[PAD]", "A", "CG"}).hash());
}

TEST(Tokenizer, UnknownNameListsTheKnownOnes) {
  EXPECT_EQ(message_of([] { (void)make_tokenizer("genslm"); }),
            "unknown tokenizer 'genslm', did you mean 'genslm69'? (one of: genslm69, nucleotide)");
  EXPECT_EQ(message_of([] { (void)make_tokenizer("bytes"); }),
            "unknown tokenizer 'bytes' (one of: genslm69, nucleotide)");
}

TEST(Tokenizer, TableNeedsPadAndUnknown) {
  EXPECT_EQ(message_of([] { Tokenizer("mine", {"[UNK]", "A"}); }),
            "tokenizer 'mine': expected the table to have [PAD]");
}

TEST(Tokenizer, DecodesWhatItEncoded) {
  const Tokenizer codons = make_tokenizer("genslm69");
  const std::string bases = "ATGGGCTTTTAGCAC";
  std::vector<int64_t> ids;
  for (const int32_t id : encode(codons, bases)) ids.push_back(id);
  EXPECT_EQ(ids, (std::vector<int64_t>{10, 5, 51, 68, 52}));
  EXPECT_EQ(codons.decode(ids), bases);
  EXPECT_EQ(message_of([&] { (void)codons.decode(std::vector<int64_t>{5, 69}); }),
            "tokenizer 'genslm69': expected an id below 69, got 69");
  EXPECT_EQ(encode(make_tokenizer("nucleotide"), "ACGT"), (std::vector<int32_t>{5, 6, 7, 8}));
}

TEST(Encoder, ReadsUAsTAndLowerCaseAsUpper) {
  const Tokenizer codons = make_tokenizer("genslm69");
  EXPECT_EQ(encode(codons, "augUUUggC"), encode(codons, "ATGTTTGGC"));
}

TEST(Encoder, FramesSkipBases) {
  const Tokenizer codons = make_tokenizer("genslm69");
  EXPECT_EQ(encode(codons, "CATGGGCA", 1), (std::vector<int32_t>{10, 5}));
  EXPECT_EQ(encode(codons, "CCATGGGCA", 2), (std::vector<int32_t>{10, 5}));
  EXPECT_EQ(message_of([&] { Encoder(codons, 3); }),
            "expected a frame from 0 to 2 for tokenizer 'genslm69' (3 letters a token), got 3");
}

TEST(Encoder, PiecesMakeNoDifference) {
  const Tokenizer codons = make_tokenizer("genslm69");
  const std::string bases = "ACGTNACGGTTACGCATRAAC";
  for (int64_t frame = 0; frame < 3; ++frame) {
    const std::vector<int32_t> whole = encode(codons, bases, frame);
    for (size_t size = 1; size < bases.size(); ++size) {
      std::vector<int32_t> ids;
      Encoder encoder(codons, frame);
      for (size_t at = 0; at < bases.size(); at += size) encoder.encode(std::string_view(bases).substr(at, size), ids);
      EXPECT_EQ(ids, whole) << "frame " << frame << ", pieces of " << size;
    }
  }
}

TEST(Encoder, CountsEveryBase) {
  Encoder encoder(make_tokenizer("genslm69"), 1);
  std::vector<int32_t> ids;
  encoder.encode("NACGNNTAAGC", ids);  // N | ACG NNT AAG | C
  EXPECT_EQ(ids, (std::vector<int32_t>{38, 0, 18}));
  const Encoder::Counts counts = encoder.finish();
  EXPECT_EQ(counts.bases, 11);
  EXPECT_EQ(counts.ambiguous, 3);
  EXPECT_EQ(counts.tokens, 3);
  EXPECT_EQ(counts.unknown, 1);
  EXPECT_EQ(counts.truncated, 2);
}

TEST(Encoder, RecordsDoNotLeakIntoEachOther) {
  Encoder encoder(make_tokenizer("genslm69"), 1);
  std::vector<int32_t> ids;
  encoder.encode("CATGGN", ids);
  EXPECT_EQ(encoder.finish().truncated, 3);
  ids.clear();
  encoder.encode("CATG", ids);
  EXPECT_EQ(ids, (std::vector<int32_t>{10}));
  EXPECT_EQ(encoder.finish().bases, 4);
}

TEST(Encoder, TellsNucleotidesFromOtherLetters) {
  EXPECT_EQ(find_non_nucleotide("ACGTUacgtuRYSWKMBDHVNryswkmbdhvn"), std::nullopt);
  for (const char other : std::string("EFIJLOPQXZ*-.0 9\t\r>;@[`{/\x7f\xc3")) {
    EXPECT_EQ(find_non_nucleotide(std::string("AC") + other + "GT"), 2u) << "'" << other << "'";
  }
}

}  // namespace
}  // namespace longfold::data
