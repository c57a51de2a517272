#include "longfold/data/readers/formats.h"

#include <gtest/gtest.h>

#include <string>

namespace longfold::data {
namespace {

using namespace std::string_view_literals;

struct Case {
  std::string_view bytes;
  std::string_view name;
};

TEST(Formats, AreKnownByTheirFirstBytes) {
  const std::string tar = std::string("genome.fa").append(248, '\0') + "ustar";
  for (const Case& given : {
           Case{"\xfd\x37zXZ\0\0\4"sv, "xz data"},
           Case{"\x28\xb5\x2f\xfd\x24\x0e"sv, "zstd data"},
           Case{"\x5a\x2a\x4d\x18"sv, "zstd data"},
           Case{"BZh91AY&SY"sv, "bzip2 data"},
           Case{"\x1f\x8b\x08"sv, "gzip data"},
           Case{"PK\3\4\x14"sv, "a zip archive"},
           Case{tar, "a tar archive"},
           Case{"BAM\1\0\0"sv, "a BAM file"},
           Case{"@HD\tVN:1.6\n"sv, "a SAM file"},
           Case{"@SRR1.1 1\nACGT\n+\nIIII\n"sv, "FASTQ"},
           Case{"\x43\x27\x41\x1a\0\0\0\0"sv, "a 2bit file"},
           Case{"\x1a\x41\x27\x43\0\0\0\0"sv, "a 2bit file"},
           Case{"LOCUS       NC_001416   48502 bp\n"sv, "a GenBank file"},
           Case{"ID   X56734; SV 1; linear;\n"sv, "an EMBL file"},
           Case{"##gff-version 3\n"sv, "a GFF file"},
           Case{"#!genome-build GRCh38\r\n1\thavana\tgene\t1\t2\t.\t+\t.\tx\n"sv,
                "a table (GFF, GTF, BED or the like)"},
           Case{"chr1\t10\t20\n"sv, "a table (GFF, GTF, BED or the like)"},
           Case{"##fileformat=VCFv4.2\n"sv, "a file of variants (VCF)"},
           Case{"# STOCKHOLM 1.0\n"sv, "a Stockholm alignment"},
           Case{"<!DOCTYPE html>\n"sv, "a web page (HTML)"},
           Case{"<HTML>\n"sv, "a web page (HTML)"},
           Case{"<?xml version=\"1.0\"?>"sv, "XML"},
           Case{"{\"error\": \"not found\"}"sv, "JSON"},
           Case{"{\\rtf1\\ansi"sv, "formatted text (RTF)"},
           Case{"version https://git-lfs.github.com/spec/v1\n"sv, "a Git LFS pointer instead of the file"},
           Case{"\xff\xfe>\0a\0"sv, "text in UTF-16"},
           Case{"\xfe\xff\0>\0a"sv, "text in UTF-16"},
           Case{">\0a\0"sv, "text in UTF-16"},
           Case{"\0>\0a"sv, "text in UTF-16"},
           Case{"\xff\xfe\0\0>\0\0\0"sv, "text in UTF-32"},
           Case{"MMIDIDX\0\0"sv, "the index of a data set"},
           Case{"acgtNNNU\r\n"sv, "a sequence without a header"},
       }) {
    const std::optional<Format> found = recognise(given.bytes);
    ASSERT_TRUE(found) << given.name;
    EXPECT_EQ(found->name, given.name);
    EXPECT_FALSE(found->filter.empty() && found->advice.empty()) << given.name << ": there must be a way out";
    EXPECT_EQ(found->filter.empty(), found->filter.find('%') == std::string_view::npos) << given.name;
  }
}

TEST(Formats, WhatIsFastaOrUnknownHasNoName) {
  for (const std::string_view bytes : {">a\nACGT\n"sv, ""sv, "hello\n"sv, "#"sv, "# a comment\n>a\n"sv, "\x1f"sv,
                                       "\0\0"sv, "; a comment\n>a\nACGT\n"sv, "a\tb\n"sv,
                                       "\x7f"
                                       "ELF"sv}) {
    EXPECT_FALSE(recognise(bytes)) << bytes;
  }
}

}  // namespace
}  // namespace longfold::data
