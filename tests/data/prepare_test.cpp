#include "longfold/data/prepare.h"

#include <gtest/gtest.h>

#include "tests/data/gzip_bytes.h"
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

TEST(Prepare, AHeaderWithinALineIsExplained) {
  const fs::path folder = fresh_folder();
  const std::string path = write_text(folder / "a.fa", ">one\nACG>two\nACG\n");
  EXPECT_EQ(message_of([&] { (void)prepare({{path}, folder / "x"}); }),
            path +
                ":2:4: record 'one': expected a nucleotide (A C G T U or an IUPAC ambiguity code), got '>' (the text "
                "before a header is cut, or lacks its line end)");
}

TEST(Prepare, NamesAreTheFirstWord) {
  const fs::path folder = fresh_folder();
  const std::string input = write_text(folder / "a.fa", ">one\tfirst\nACG\n> two x\nACG\n>  \tthree\nACG\n> \nACG\n");
  const PrepareReport report = prepare({{input}, folder / "x"});
  const TokenFile file((folder / "x").string());
  std::vector<std::string> names;
  for (int64_t i = 0; i < file.num_sequences(); ++i) names.push_back(file.sequence(i).name);
  EXPECT_EQ(names, (std::vector<std::string>{"one", "two", "three", ""}));
  EXPECT_EQ(report.warnings, std::vector<std::string>{"1 record has no name: " + input + ":7"});
}

TEST(Prepare, LongAndControllingNamesAreCutInMessages) {
  const fs::path folder = fresh_folder();
  const auto record_in = [&](const std::string& name) {
    const std::string path = write_text(folder / "a.fa", ">" + name + "\nACG!\n");
    const std::string message = message_of([&] { (void)prepare({{path}, folder / "x"}); });
    const size_t begin = message.find("record '") + 8;
    return message.substr(begin, message.find("': expected") - begin);
  };
  EXPECT_EQ(record_in("\x1b[31mred\x07"), "\\x1b[31mred\\x07");
  EXPECT_EQ(record_in(std::string(900'000, 'n')), std::string(60, 'n') + "... (900,000 bytes)");
}

TEST(Prepare, WhatIsRepeatedIsCountedAndSaid) {
  const fs::path folder = fresh_folder();
  const std::string a = write_text(folder / "a.fa", ">one\nACG\n>two\nACG\n>one\nACG\n");
  const std::string b = write_text(folder / "b.fa", ">two\nACG\n>three\nACG\n");
  fs::create_symlink(b, folder / "link.fa");
  EXPECT_EQ(prepare({{b}, folder / "x"}).warnings, std::vector<std::string>{});
  EXPECT_EQ(prepare({{a, b}, folder / "x"}).warnings,
            std::vector<std::string>{"2 records have names that came before, the first: 'one', " + a + ":5"});
  const PrepareReport again = prepare({{b, (folder / "link.fa").string(), b}, folder / "x"});
  EXPECT_EQ(again.info.counts.records, 6);
  EXPECT_EQ(again.warnings,
            (std::vector<std::string>{
                "2 inputs are files that came before, the first: '" + (folder / "link.fa").string() +
                    "' (its records are in the data set again)",
                "4 records have names that came before, the first: 'two', " + (folder / "link.fa").string() + ":1"}));
  EXPECT_EQ(message_of([&] { (void)prepare({{"-", a, "-"}, folder / "x"}); }),
            "expected standard input (-) once, got it several times");
}

TEST(Prepare, WhatWasPassedOverIsSaid) {
  const fs::path folder = fresh_folder();
  const std::string input = write_text(folder / "a.fa.gz", gzip_member(">one\nACG\n") + "garbage");
  EXPECT_EQ(prepare({{input}, folder / "x"}).warnings,
            std::vector<std::string>{"'" + input + "': ignored 7 bytes after the end of its gzip data, as gzip does"});
}

// More than is kept in memory, of two records, so that the temporary files are used again.
TEST(Prepare, AllFramesOfLongRecordsAreWhatEachFrameGives) {
  const fs::path folder = fresh_folder();
  std::string bases;
  uint32_t state = 1;
  for (size_t i = 0; i < 4'000'000; ++i) {
    state = state * 1664525 + 1013904223;
    bases += "ACGT"[state >> 30];
  }
  const std::string input =
      write_text(folder / "a.fa", ">one\n" + bases + "\n>two\n" + bases.substr(1'000'000) + "\n>three\nACGTA\n");
  (void)prepare({{input}, folder / "all", "genslm69", "all"});
  const TokenFile all((folder / "all").string());
  ASSERT_EQ(all.num_sequences(), 9);
  for (const int64_t frame : {0, 1, 2}) {
    (void)prepare({{input}, folder / "one", "genslm69", std::to_string(frame)});
    const TokenFile one((folder / "one").string());
    for (int64_t record = 0; record < 3; ++record) {
      EXPECT_EQ(all.sequence(3 * record + frame).frame, frame);
      EXPECT_TRUE(all.tokens(3 * record + frame).equal(one.tokens(record))) << record << " " << frame;
    }
  }
  EXPECT_EQ(names_in(folder),
            (std::vector<std::string>{"a.fa", "all.bin", "all.idx", "all.json", "one.bin", "one.idx", "one.json"}));
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

TEST(Prepare, AnOutputThatIsNoPrefixIsRefused) {
  const fs::path folder = fresh_folder();
  const std::string input = write_text(folder / "a.fa", ">one\nACGACG\n");
  for (const std::string ending : {".bin", ".idx", ".json"}) {
    const std::string prefix = folder / "x";
    EXPECT_EQ(message_of([&] { (void)prepare({{input}, prefix + ending}); }),
              "expected the output to be a prefix, to which .bin, .idx and .json are added, got '" + prefix + ending +
                  "': type -o '" + prefix + "'");
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
