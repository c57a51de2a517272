#include "longfold/data/readers/fasta.h"

#include <gtest/gtest.h>

#include "longfold/base/text.h"
#include "tests/data/gzip_bytes.h"
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

// Old Macs and what was written on them.
TEST(Fasta, ACarriageReturnAloneEndsALine) {
  EXPECT_EQ(read_text(">one some words\rACGT\racgt\r\r>two\rGG\r"), kTwo);
  EXPECT_EQ(read_text(">one some words\rACGT\nacgt\r\n>two \r\n\rGG"), kTwo);
  EXPECT_EQ(read_text(">a desc\rACGACG\nACG\n"), (std::vector<Record>{{"a desc", "ACGACGACG"}}));
  EXPECT_EQ(read_text(">a\nACGACG\n>b desc\rTTTTTT\r\n>c\nGGGGGG\n"),
            (std::vector<Record>{{"a", "ACGACG"}, {"b desc", "TTTTTT"}, {"c", "GGGGGG"}}));
  EXPECT_EQ(read_text(">a\r"), (std::vector<Record>{{"a", ""}}));
}

TEST(Fasta, EveryLineEndCountsOnce) {
  const fs::path path = fresh_folder() / "x.fa";
  put(path, ">a\rAC\r\nAC\nAC\n\rAC\r\rAC");
  FastaReader reader(path.string());
  FastaEvent event;
  std::vector<int64_t> lines;
  while (reader.next(event)) lines.push_back(event.line);
  EXPECT_EQ(lines, (std::vector<int64_t>{1, 2, 3, 4, 6, 8}));
}

TEST(Fasta, AByteOrderMarkIsSkipped) {
  EXPECT_EQ(read_text("\xef\xbb\xbf>one some words\nACGTacgt\n>two\nGG\n"), kTwo);
  // of files that were joined
  EXPECT_EQ(read_text("\xef\xbb\xbf>one some words\nACGTacgt\n\xef\xbb\xbf>two\r\nGG\n"), kTwo);
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

    put(path, ">a\n" + first + " \r" + bases + "\r>b\n" + first);
    EXPECT_TRUE(read(path) == (std::vector<Record>{{"a", first + bases}, {"b", first}})) << shift;

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
  const std::string bases = random_bases(200'000);
  const std::string text = ">a\n" + bases + "\n>b\nGG\n";
  const std::vector<Record> once = {{"a", bases}, {"b", "GG"}};
  EXPECT_TRUE(read_text(gzip_member(text)) == once);
  EXPECT_TRUE(read_text(bgzf_blocks(text) + bgzf_end()) == once);
  const std::vector<Record> twice = read_text(gzip_member(text) + gzip_member(text));
  ASSERT_EQ(twice.size(), 4u);
  EXPECT_TRUE(twice[2] == once[0] && twice[3] == once[1]);
}

TEST(Fasta, NoCutOfABgzfFilePasses) {
  const std::string whole = bgzf_blocks(">a\n" + random_bases(100'000) + "\n") + bgzf_end();
  for (size_t size = 1; size < whole.size(); size += size + 200 < whole.size() ? 97 : 1) {
    EXPECT_NE(message_of([&] { read_text(whole.substr(0, size)); }), "") << size << " of " << whole.size();
  }
}

TEST(Fasta, OddEndsOfCompressedFilesAreAWarning) {
  const fs::path path = fresh_folder() / "x.fa.gz";
  put(path, gzip_member(">a\nACGT\n") + "garbage");
  FastaReader reader(path.string());
  FastaEvent event;
  while (reader.next(event)) EXPECT_EQ(reader.warning(), "");
  EXPECT_EQ(reader.warning(), "'" + path.string() + "': ignored 7 bytes after the end of its gzip data, as gzip does");
}

// The message without the folder.
std::string refusal(std::string_view bytes) {
  const fs::path path = fresh_folder() / "x";
  put(path, bytes);
  std::string message = message_of([&] { read(path); });
  const std::string folder = path.parent_path().string() + "/";
  for (size_t at = message.find(folder); at != std::string::npos; at = message.find(folder)) {
    message.erase(at, folder.size());
  }
  return message;
}

TEST(Fasta, WhatIsNoFastaIsNamed) {
  EXPECT_EQ(refusal("hello\n"), "'x' is not FASTA: expected '>' at line 1, got 'h'");
  EXPECT_EQ(refusal("\n\r\n  hello\n"), "'x' is not FASTA: expected '>' at line 3, got byte 0x20");
  EXPECT_EQ(refusal("\x7f"
                    "ELF"),
            "'x' is not FASTA: expected '>' at line 1, got byte 0x7f");
  EXPECT_EQ(refusal(""), "'x' is empty: expected FASTA records");
  EXPECT_EQ(refusal("\n \r\n\n"), "'x' is empty: expected FASTA records");
  EXPECT_EQ(refusal(gzip_member("")), "'x' is empty: expected FASTA records");
}

TEST(Fasta, WhatWasGivenInsteadIsNamedWithTheWayOut) {
  const std::string to_prepare = " | longfold prepare - -o PREFIX";
  const std::string xz("\xfd\x37zXZ\0\0\4", 8);
  EXPECT_EQ(refusal(xz), "'x' is xz data, not FASTA: type xz -dc 'x'" + to_prepare);
  EXPECT_EQ(refusal(gzip_member(xz)),
            "'x' holds xz data inside gzip, not FASTA: type gzip -dc 'x' | xz -dc -" + to_prepare);
  EXPECT_EQ(refusal(gzip_member(gzip_member(">a\nACGT\n"))),
            "'x' holds gzip data inside gzip, not FASTA: type gzip -dc 'x' | gzip -dc -" + to_prepare);
  const std::string tar = std::string("genome.fa").append(248, '\0') + "ustar";  // in pieces as from a slow pipe
  EXPECT_EQ(refusal(gzip_member(tar.substr(0, 6)) + gzip_member(tar.substr(6))),
            "'x' holds a tar archive inside gzip, not FASTA: type gzip -dc 'x' | tar -xOf -" + to_prepare +
                " (where it holds more than FASTA, add the names of the files)");
  EXPECT_EQ(refusal("ACGT\nAC\n"),
            "'x' is a sequence without a header, not FASTA: type sed '1i >NAME' 'x'" + to_prepare);
  EXPECT_EQ(refusal(std::string_view(">\0a\0\n\0A\0\n\0", 10)),
            "'x' is text in UTF-16, not FASTA: type iconv -f UTF-16LE -t UTF-8 'x'" + to_prepare);
  EXPECT_EQ(refusal("\n\n   <!doctype html><html>"),
            "'x' is a web page (HTML), not FASTA: the download has probably failed: look into it, then fetch it again");
  EXPECT_EQ(refusal("PK\3\4zip"), "'x' is a zip archive, not FASTA: type unzip -p 'x'" + to_prepare +
                                      " (where it holds more than FASTA, add a name or pattern such as '*.fna')");
  EXPECT_EQ(refusal(gzip_member("PK\3\4zip")),
            "'x' holds a zip archive inside gzip, not FASTA: save it, decompressed, as "
            "FILE, then type unzip -p FILE" +
                to_prepare);
}

TEST(Fasta, OtherLineEndsInAHeaderAreNamedWithTheWayOut) {
  for (const std::string end : {"\v", "\f", "\xc2\x85", "\xe2\x80\xa8", "\xe2\x80\xa9"}) {
    const std::string message = refusal(">a\nACG\n>b desc" + end + "ACGT\nACG\n");
    EXPECT_EQ(message, "'x': expected lines that end in LF, CRLF or CR, got another line end, " + base::printable(end) +
                           ", in the header at line 3: type LC_ALL=C sed -E "
                           "'s/\\v|\\f|\\xc2\\x85|\\xe2\\x80[\\xa8\\xa9]/\\n/g' 'x' | longfold prepare - -o PREFIX");
  }
  EXPECT_EQ(read_text(">a\x01gi|1 b\xc3\xa9\nAC\n")[0].header, "a\x01gi|1 b\xc3\xa9") << "NCBI joins headers so";
}

TEST(Fasta, CommentLinesAreNamedWithTheWayOut) {
  const std::string expected = "'x': expected FASTA without comments, got a line that begins with ";
  EXPECT_EQ(refusal("; made by hand\n>a\nACGT\n"),
            expected + "';', line 1: type grep -v '^;' 'x' | longfold prepare - -o PREFIX");
  EXPECT_EQ(refusal("# made by hand\n>a\nACGT\n"),
            expected + "'#', line 1: type grep -v '^#' 'x' | longfold prepare - -o PREFIX");
  EXPECT_EQ(refusal(">a\nACGT\n#more\nACGT\n"),
            expected + "'#', line 3: type grep -v '^#' 'x' | longfold prepare - -o PREFIX");
  EXPECT_EQ(read_text(">a\nAC;#\n")[0].bases, "AC;#") << "within a line they are for the consumer";
}

TEST(Fasta, UnreadableFilesAreNamed) {
  EXPECT_EQ(message_of([] { FastaReader("/nowhere/x.fa"); }), "cannot read '/nowhere/x.fa': No such file or directory");
  const fs::path folder = fresh_folder();
  EXPECT_EQ(message_of([&] { read(folder); }), "cannot read '" + folder.string() + "': Is a directory");
}

}  // namespace
}  // namespace longfold::data
