#include "longfold/data/fasta.h"

#include <gtest/gtest.h>
#include <htslib/bgzf.h>

#include "tests/data/scratch.h"

namespace longfold::data {
namespace {

namespace fs = std::filesystem;

struct Record {
  std::string header;
  std::string bases;
  friend bool operator==(const Record&, const Record&) = default;
};

std::vector<Record> read(const fs::path& path) {
  std::vector<Record> records;
  FastaReader reader(path.string());
  FastaEvent event;
  while (reader.next(event)) {
    if (event.kind == FastaEvent::Kind::kRecord)
      records.push_back({std::string(event.text), ""});
    else
      records.back().bases += event.text;
  }
  return records;
}

std::vector<Record> read_text(std::string_view text) {
  const fs::path path = fresh_folder() / "x.fa";
  put(path, text);
  return read(path);
}

// mode "wg" writes gzip, "w" BGZF, "wu" plain.
void compress(const fs::path& path, std::string_view text, const char* mode) {
  BGZF* file = bgzf_open(path.c_str(), mode);
  ASSERT_NE(file, nullptr);
  ASSERT_EQ(bgzf_write(file, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  ASSERT_EQ(bgzf_close(file), 0);
}

std::string random_bases(size_t count) {
  std::string bases;
  uint32_t state = 1;
  for (size_t i = 0; i < count; ++i) {
    state = state * 1664525 + 1013904223;
    bases += "ACGT"[state >> 30];
  }
  return bases;
}

const std::vector<Record> kTwo = {{"one some words", "ACGTacgt"}, {"two", "GG"}};

TEST(Fasta, ReadsManyLines) {
  EXPECT_EQ(read_text(">one some words\nACGT\nacgt\n>two\nGG\n"), kTwo);
}

TEST(Fasta, ReadsCrlfBlankLinesAndTrailingBlanks) {
  EXPECT_EQ(read_text("\r\n\n>one some words \r\nACGT\t\r\n\r\nacgt  \r\n>two\r\n\r\nGG\r\n\r\n"), kTwo);
}

TEST(Fasta, LastLineNeedsNoEnd) {
  EXPECT_EQ(read_text(">one some words\nACGT\nacgt\n>two\nGG"), kTwo);
  EXPECT_EQ(read_text(">one some words\nACGT\nacgt\n>two\nGG  "), kTwo);
  EXPECT_EQ(read_text(">a\nAC\n>b"), (std::vector<Record>{{"a", "AC"}, {"b", ""}}));
}

TEST(Fasta, KeepsEmptyRecords) {
  EXPECT_EQ(read_text(">a\n>b\n\n>\nAC\n"), (std::vector<Record>{{"a", ""}, {"b", ""}, {"", "AC"}}));
}

TEST(Fasta, PassesOnWhatStandsInsideALine) {
  EXPECT_EQ(read_text(">a\nAC GT\nA>C\n")[0].bases, "AC GTA>C");
}

TEST(Fasta, NumbersLinesAndColumns) {
  const fs::path path = fresh_folder() / "x.fa";
  put(path, "\n>a\nAC\n\nGT\n");
  FastaReader reader(path.string());
  FastaEvent event;
  ASSERT_TRUE(reader.next(event));
  EXPECT_EQ(event.line, 2);
  ASSERT_TRUE(reader.next(event));
  EXPECT_EQ(event.line, 3);
  ASSERT_TRUE(reader.next(event));
  EXPECT_EQ(event.line, 5);
  EXPECT_EQ(event.column, 1);
  EXPECT_FALSE(reader.next(event));
}

// Lines far longer than any buffer come in pieces, with blanks and line ends on every place of a buffer's edge.
TEST(Fasta, ReadsLongLinesInPieces) {
  const fs::path path = fresh_folder() / "x.fa";
  constexpr size_t kBuffer = 1 << 18;
  const std::string bases = random_bases(3 * kBuffer);
  for (size_t shift = 0; shift < 6; ++shift) {
    const std::string first = bases.substr(0, kBuffer - 6 + shift);
    put(path, ">a\n" + first + " \t\r\n" + bases + "\r\n>b\n" + first);
    FastaReader reader(path.string());
    FastaEvent event;
    std::vector<std::string> records;
    while (reader.next(event)) {
      if (event.kind == FastaEvent::Kind::kRecord) {
        records.emplace_back();
        continue;
      }
      const std::string_view line = event.line == 3 ? bases : first;
      ASSERT_EQ(line.substr(static_cast<size_t>(event.column) - 1, event.text.size()), event.text) << event.line;
      records.back() += event.text;
    }
    ASSERT_EQ(records.size(), 2u);
    EXPECT_TRUE(records[0] == first + bases) << shift;
    EXPECT_TRUE(records[1] == first) << shift;

    put(path, ">a\n" + first + "  GT\n");  // blanks inside a line are not for the reader to drop
    EXPECT_TRUE(read(path)[0].bases == first + "  GT") << shift;
  }
  const std::string blanks(2 * kBuffer, ' ');
  put(path, ">a\nAC" + blanks + "GT\n");
  EXPECT_EQ(read(path)[0].bases.find_first_not_of(' ', 2), 2 + blanks.size());
}

TEST(Fasta, ReadsHeadersAcrossBuffers) {
  const std::string long_header(600'000, 'h');
  const std::vector<Record> records = read_text(">a\nAC\n>" + long_header + "\nGT\n");
  ASSERT_EQ(records.size(), 2u);
  EXPECT_TRUE(records[1].header == long_header);
  EXPECT_EQ(records[1].bases, "GT");
  EXPECT_NE(message_of([] {
              read_text(">" + std::string(2'000'000, 'x'));
            }).find("is not FASTA: the header at line 1 has more than 1048576 characters"),
            std::string::npos);
}

TEST(Fasta, ReadsGzipOfSeveralMembersAndBgzf) {
  const fs::path folder = fresh_folder();
  const std::string bases = random_bases(200'000);
  const std::string text = ">a\n" + bases + "\n>b\nGG\n";
  compress(folder / "plain", text, "wu");
  compress(folder / "bgzf", text, "w");
  compress(folder / "gzip", text, "wg");
  const std::string gzip = base::read_file(folder / "gzip");
  EXPECT_LT(gzip.size(), text.size());
  put(folder / "members", gzip + gzip);
  const std::vector<Record> once = {{"a", bases}, {"b", "GG"}};
  EXPECT_TRUE(read(folder / "plain") == once);
  EXPECT_TRUE(read(folder / "bgzf") == once);
  EXPECT_TRUE(read(folder / "gzip") == once);
  const std::vector<Record> twice = read(folder / "members");
  ASSERT_EQ(twice.size(), 4u);
  EXPECT_TRUE(twice[2] == once[0] && twice[3] == once[1]);
}

TEST(Fasta, NoCutOfAGzipFilePasses) {
  const fs::path folder = fresh_folder();
  compress(folder / "gzip", ">a\n" + random_bases(2000) + "\n", "wg");
  const std::string whole = base::read_file(folder / "gzip");
  const std::string truncated = "cannot read '" + (folder / "cut").string() + "': the compressed file is truncated";
  for (size_t size = 2; size < whole.size(); ++size) {
    put(folder / "cut", whole.substr(0, size));
    EXPECT_EQ(message_of([&] { read(folder / "cut"); }), truncated) << size << " of " << whole.size();
  }
  put(folder / "cut", whole.substr(0, 1));
  EXPECT_NE(message_of([&] { read(folder / "cut"); }), "");
}

TEST(Fasta, NoCutOfABgzfFilePasses) {
  const fs::path folder = fresh_folder();
  compress(folder / "bgzf", ">a\n" + random_bases(100'000) + "\n", "w");
  const std::string whole = base::read_file(folder / "bgzf");
  for (size_t size = 1; size < whole.size(); size += size + 200 < whole.size() ? 97 : 1) {
    put(folder / "cut", whole.substr(0, size));
    EXPECT_NE(message_of([&] { read(folder / "cut"); }), "") << size << " of " << whole.size();
  }
}

TEST(Fasta, DamagedGzipIsAnError) {
  const fs::path folder = fresh_folder();
  compress(folder / "gzip", ">a\n" + random_bases(5000) + "\n", "wg");
  std::string bytes = base::read_file(folder / "gzip");
  bytes[bytes.size() - 6] ^= 1;  // the checksum
  put(folder / "gzip", bytes);
  EXPECT_EQ(message_of([&] { read(folder / "gzip"); }),
            "cannot read '" + (folder / "gzip").string() + "': the compressed data are damaged");
}

TEST(Fasta, WhatIsNoFastaIsNamed) {
  const auto message = [](std::string_view text) {
    const std::string found = message_of([&] { read_text(text); });
    return found.substr(std::min(found.find("' "), found.size()));
  };
  EXPECT_EQ(message("LOCUS NC_1\n"), "' is not FASTA: expected '>' at line 1, got 'L'");
  EXPECT_EQ(message("\n\n  ACGT\n"), "' is not FASTA: expected '>' at line 3, got byte 0x20");
  EXPECT_EQ(message(std::string_view("\x7f"
                                     "ELF",
                                     4)),
            "' is not FASTA: expected '>' at line 1, got byte 0x7f");
  EXPECT_EQ(message(""), "' is empty: expected FASTA records");
  EXPECT_EQ(message("\n \r\n\n"), "' is empty: expected FASTA records");
}

TEST(Fasta, UnreadableFilesAreNamed) {
  EXPECT_EQ(message_of([] { FastaReader("/nowhere/x.fa"); }), "cannot read '/nowhere/x.fa': No such file or directory");
  const fs::path folder = fresh_folder();
  EXPECT_EQ(message_of([&] { read(folder); }), "cannot read '" + folder.string() + "': Is a directory");
}

}  // namespace
}  // namespace longfold::data
