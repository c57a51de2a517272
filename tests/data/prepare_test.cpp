#include "longfold/data/prepare.h"

#include <gtest/gtest.h>

#include "tests/data/scratch.h"

namespace longfold::data {
namespace {

namespace fs = std::filesystem;

std::string write_text(const fs::path& path, std::string_view text) {
  put(path, text);
  return path;
}

std::string decoded(const TokenFile& file, int64_t sequence) {
  return file.tokenizer().decode(to_vector(file.tokens(sequence)));
}

TEST(Prepare, PhageLambdaComesBack) {
  const fs::path folder = fresh_folder();
  const std::string input = LONGFOLD_SOURCE_DIR "/data/phage-lambda.fa.gz";
  const PrepareReport report = prepare({{input}, folder / "codons"});
  EXPECT_EQ(report.info.counts, (PrepareCounts{.records = 1, .bases = 48'502, .tokens = 16'167, .truncated = 1}));
  (void)prepare({{input}, folder / "letters", "nucleotide"});
  const TokenFile codons((folder / "codons").string());
  const TokenFile letters((folder / "letters").string());
  EXPECT_EQ(letters.num_tokens(), 48'502);
  EXPECT_EQ(codons.info().counts, report.info.counts);
  EXPECT_EQ(codons.sequence(0).name, "gi|9626243|ref|NC_001416.1|");
  const std::string genome = decoded(letters, 0);
  EXPECT_EQ(genome.substr(0, 12), "GGGCGGCGACCT");  // RefSeq NC_001416 begins so
  EXPECT_TRUE(genome.substr(0, 48'501) == decoded(codons, 0));
}

TEST(Prepare, CountsWhatItSees) {
  const fs::path folder = fresh_folder();
  const std::string a = write_text(folder / "a.fa", ">one first\nacgu\r\nNNNA\n>empty\n>short\nAC\n");
  const std::string b = write_text(folder / "b.fa", ">two\nATGATG");
  const PrepareReport report = prepare({{a, b}, folder / "x"});
  EXPECT_EQ(report.info.counts,
            (PrepareCounts{
                .records = 4, .bases = 16, .tokens = 4, .ambiguous = 3, .unknown = 1, .skipped = 2, .truncated = 4}));
  const TokenFile file((folder / "x").string());
  ASSERT_EQ(file.num_sequences(), 2);
  EXPECT_EQ(decoded(file, 0), "ACG[UNK]");
  EXPECT_EQ(decoded(file, 1), "ATGATG");
  EXPECT_EQ(file.sequence(0).name, "one");
  EXPECT_EQ(file.info().sources, (std::vector<std::string>{a, b}));
}

TEST(Prepare, AllFramesAreSequencesOfTheirOwn) {
  const fs::path folder = fresh_folder();
  const std::string input = write_text(folder / "a.fa", ">one\nACG\nTACGTA\n>two\nACG\n>three\nGGGG\n");
  const PrepareReport report = prepare({{input}, folder / "x", "genslm69", "all"});
  const TokenFile file((folder / "x").string());
  std::vector<std::string> found;
  for (int64_t i = 0; i < file.num_sequences(); ++i) {
    found.push_back(file.sequence(i).name + " " + std::to_string(file.sequence(i).frame) + " " + decoded(file, i));
  }
  EXPECT_EQ(found, (std::vector<std::string>{"one 0 ACGTACGTA", "one 1 CGTACG", "one 2 GTACGT", "two 0 ACG",
                                             "three 0 GGG", "three 1 GGG"}));
  EXPECT_EQ(report.num_sequences, 6);
  EXPECT_EQ(report.info.counts.bases, 16);
  EXPECT_EQ(report.info.counts.skipped, 0);
  EXPECT_EQ(report.info.counts.truncated, 3 * 16 - 3 * report.info.counts.tokens);
  (void)prepare({{input}, folder / "one", "genslm69", "1"});
  EXPECT_EQ(decoded(TokenFile((folder / "one").string()), 0), "CGTACG");
}

TEST(Prepare, WrongLettersAreNamedWithTheirPlace) {
  const fs::path folder = fresh_folder();
  const auto message = [&](std::string_view text) {
    const std::string path = write_text(folder / "a.fa", text);
    const std::string found = message_of([&] { (void)prepare({{path}, folder / "x"}); });
    EXPECT_EQ(found.substr(0, path.size()), path);
    return found.substr(std::min(path.size(), found.size()));
  };
  const std::string expected = "': expected a nucleotide (A C G T U or an IUPAC ambiguity code), got ";
  EXPECT_EQ(message(">one\nACG\n>two x\nAC\nACG*TT\n"), ":5:4: record 'two" + expected + "'*'");
  EXPECT_EQ(message(">one\nAC-G\n"), ":2:3: record 'one" + expected + "'-'");
  EXPECT_EQ(message(">one\nMKEL\n"), ":2:3: record 'one" + expected + "'E'");
  EXPECT_EQ(message(">one\n1 ACG\n"), ":2:1: record 'one" + expected + "'1'");
  EXPECT_EQ(message(">one\nAC G\n"), ":2:3: record 'one" + expected + "byte 0x20");
  EXPECT_EQ(names_in(folder), std::vector<std::string>{"a.fa"}) << "nothing is left behind";
}

TEST(Prepare, FailureLeavesWhatStoodThere) {
  const fs::path folder = fresh_folder();
  const std::string good = write_text(folder / "a.fa", ">one\nACGACG\n");
  const std::string bad = write_text(folder / "b.fa", ">two\nAC!\n");
  (void)prepare({{good}, folder / "x"});
  const auto before = names_in(folder);
  EXPECT_NE(message_of([&] { (void)prepare({{good, good, bad}, folder / "x"}); }), "");
  EXPECT_EQ(names_in(folder), before);
  EXPECT_EQ(TokenFile((folder / "x").string()).num_tokens(), 2);
}

TEST(Prepare, StopsInOrder) {
  const fs::path folder = fresh_folder();
  const std::string input = write_text(folder / "a.fa", ">one\nACGACG\n");
  const std::atomic<bool> stop = true;
  EXPECT_EQ(message_of<base::RunError>([&] { (void)prepare({{input}, folder / "x"}, stop); }),
            "interrupted: nothing was written");
  EXPECT_EQ(names_in(folder), std::vector<std::string>{"a.fa"});
}

TEST(Prepare, AFailureLeavesNoNewFolder) {
  const fs::path folder = fresh_folder();
  base::make_folder(folder / "old");
  const std::string bad = write_text(folder / "bad.fa", ">one\nACG!\n");
  for (const std::string& input : {(folder / "none.fa").string(), bad}) {
    EXPECT_NE(message_of([&] { (void)prepare({{input}, folder / "new" / "deep" / "x"}); }), "");
    EXPECT_NE(message_of([&] { (void)prepare({{input}, folder / "old" / "x"}); }), "");
    EXPECT_EQ(names_in(folder), (std::vector<std::string>{"bad.fa", "old"}));
    EXPECT_EQ(names_in(folder / "old"), std::vector<std::string>{});
  }
}

TEST(Prepare, AnOutputWithoutANameIsRefused) {
  const fs::path folder = fresh_folder();
  const std::string input = write_text(folder / "a.fa", ">one\nACGACG\n");
  for (const std::string& output : {std::string(), folder.string() + "/", folder.string() + "/.."}) {
    EXPECT_EQ(message_of([&] { (void)prepare({{input}, output}); }),
              "expected the output to be a prefix such as folder/name, got '" + output + "'");
  }
  EXPECT_EQ(names_in(folder), std::vector<std::string>{"a.fa"});
}

TEST(Prepare, OptionsThatDoNotFitAreNamed) {
  const fs::path folder = fresh_folder();
  const std::string input = write_text(folder / "a.fa", ">one\nAC\n");
  const auto message = [&](const std::string& tokenizer, const std::string& frame) {
    return message_of([&] { (void)prepare({{input}, folder / "x", tokenizer, frame}); });
  };
  EXPECT_EQ(message("genslm69", "3"), "expected frame 0, 1, 2 or all, got '3'");
  EXPECT_EQ(message("nucleotide", "all"),
            "expected frame 0 for tokenizer 'nucleotide', whose tokens are single letters, got all");
  EXPECT_EQ(message("genslm69", "0"),
            "no record is long enough for a token: expected at least 3 bases, got 2 bases in 1 records");
}

}  // namespace
}  // namespace longfold::data
