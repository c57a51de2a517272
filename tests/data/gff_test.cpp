#include "longfold/data/readers/gff.h"

#include <gtest/gtest.h>

#include "tests/data/gzip_bytes.h"
#include "tests/data/scratch.h"

namespace longfold::data {
namespace {

namespace fs = std::filesystem;

// Blanks between columns become tabs; "##" lines are kept.
std::string gff(const std::vector<std::string>& lines, const std::string& fasta = "") {
  std::string text = "##gff-version 3\n";
  for (std::string line : lines) {
    if (!line.starts_with('#')) std::replace(line.begin(), line.end(), ' ', '\t');
    text += line + "\n";
  }
  return text + (fasta.empty() ? "" : "##FASTA\n" + fasta);
}

Gff read_text(std::string_view text) {
  const fs::path path = fresh_folder() / "x.gff3";
  put(path, text);
  return read_gff(std::make_unique<ByteStream>(path.string()));
}

std::string refusal(std::string_view text) {
  const fs::path path = fresh_folder() / "x.gff3";
  put(path, text);
  const std::string message = message_of([&] { (void)read_gff(std::make_unique<ByteStream>(path.string())); });
  return message.substr(std::min(message.size(), path.string().size()));
}

CodingSequence only(const std::vector<std::string>& lines) {
  const Gff found = read_text(gff(lines));
  return found.annotations.at(0).coding.at(0);
}

TEST(Gff, PartsOfOneIdAreReadAlongTheStrand) {
  const CodingSequence forward = only({"c . gene 1 30 . + . ID=g;locus_tag=b1", "c . CDS 11 16 . + 0 ID=x;Parent=g",
                                       "c . CDS 1 6 . + 0 ID=x;Parent=g;protein_id=NP%3B1"});
  EXPECT_EQ(forward.location.text, "join(1..6,11..16)");
  EXPECT_EQ(forward.name, "b1") << "of its gene";
  const CodingSequence back =
      only({"c . CDS 1 5 . - 1 ID=x;protein_id=P%3B1", "c . CDS 11 14 . - 0 ID=x;transl_table=4"});
  EXPECT_EQ(back.location.text, "complement(join(1..5,11..14))");
  EXPECT_EQ(back.location.parts, (std::vector<Part>{{10, 14, true}, {0, 5, true}}));
  EXPECT_EQ(back.location.wrong, "the phases of its parts do not follow from each other");
  const CodingSequence right = only({"c . CDS 1 5 . - 2 ID=x;protein_id=P%3B1", "c . CDS 11 14 . - 0 ID=x"});
  EXPECT_EQ(right.location.wrong, "");
  EXPECT_EQ(right.skip, 0);
  EXPECT_EQ(only({"c . CDS 1 5 . + 2 ID=x;protein_id=P%3B1"}).skip, 2);
  EXPECT_EQ(only({"c . CDS 1 5 . + 2 ID=x;protein_id=P%3B1"}).protein_id, "P;1");
  EXPECT_EQ(only({"c . CDS 1 5 . + 0 ID=x;transl_table=4"}).table, 4);
}

TEST(Gff, PartsWithoutAnIdAreThoseOfTheirParent) {
  const Gff found =
      read_text(gff({"c . CDS 1 6 . + 0 Parent=t1,t2", "c . CDS 11 16 . + 0 Parent=t1", "c . CDS 21 26 . + 0 Parent=t2",
                     "d . CDS 1 3 . + 0 .", "d . CDS 1 3 . + 0 note=a"}));
  ASSERT_EQ(found.annotations.size(), 2u);
  ASSERT_EQ(found.annotations[0].coding.size(), 2u);
  EXPECT_EQ(found.annotations[0].coding[0].location.text, "join(1..6,11..16)");
  EXPECT_EQ(found.annotations[0].coding[1].location.text, "join(1..6,21..26)");
  EXPECT_EQ(found.annotations[0].coding[1].name, "t1,t2");
  EXPECT_EQ(found.annotations[1].coding.size(), 2u) << "each on its own";
}

TEST(Gff, OverTheOriginOfACircle) {
  const std::string region = "c . region 1 30 . + . ID=c;Is_circular=true";
  EXPECT_TRUE(read_text(gff({region})).annotations[0].circular);
  EXPECT_EQ(only({region, "c . CDS 1 4 . + 1 ID=x", "c . CDS 26 30 . + 0 ID=x"}).location.text, "join(26..30,1..4)");
  EXPECT_EQ(only({region, "c . CDS 1 4 . - 0 ID=x", "c . CDS 26 30 . - 2 ID=x"}).location.text,
            "complement(join(26..30,1..4))");
  EXPECT_EQ(only({region, "c . CDS 26 34 . + 0 ID=x"}).location.text, "26..34");
  EXPECT_EQ(
      only({region, "c . CDS 1 4 . + 1 ID=x", "c . CDS 10 15 . + 0 ID=x", "c . CDS 26 30 . + 0 ID=x"}).location.wrong,
      "several parts beside one over the origin: their order is not said");
}

TEST(Gff, WhatIsNotKnownIsSaid) {
  EXPECT_TRUE(only({"c . CDS 1 6 . + 0 ID=x;partial=true;start_range=.,1"}).location.partial);
  EXPECT_TRUE(only({"c . CDS 1 6 . + 0 ID=x;pseudo=true"}).pseudo);
  EXPECT_TRUE(
      only({"c . pseudogene 1 9 . + . ID=g", "c . mRNA 1 9 . + . ID=t;Parent=g", "c . CDS 1 6 . + 0 ID=x;Parent=t"})
          .pseudo);
  EXPECT_EQ(only({"c . CDS 1 6 . . 0 ID=x"}).location.wrong, "it has no strand");
  EXPECT_EQ(only({"c . CDS 1 6 . + . ID=x"}).location.wrong, "a part has no phase of 0, 1 or 2");
  EXPECT_EQ(only({"c . CDS 1 6 . + 0 ID=x", "c . CDS 7 9 . - 0 ID=x"}).location.wrong,
            "its parts are on both strands: their order is not said");
  EXPECT_EQ(only({"c . CDS 1 6 . + 0 ID=x", "d . CDS 7 9 . + 0 ID=x"}).location.wrong,
            "its parts are on several sequences");
  // A circle of parents ends.
  EXPECT_FALSE(only({"c . gene 1 9 . + . ID=g;Parent=g", "c . CDS 1 6 . + 0 ID=x;Parent=g"}).pseudo);
}

TEST(Gff, SequencesFollowTheFeatures) {
  const Gff found = read_text(gzip_member(gff({"c . CDS 1 6 . + 0 ID=x"}, ">c a chromosome\nACG\r\nTAC\n>d\nGG\n")));
  ASSERT_EQ(found.sequences.size(), 2u);
  EXPECT_EQ(found.sequences[0].name, "c");
  EXPECT_EQ(found.sequences[0].bases, "ACGTAC");
  EXPECT_EQ(read_text("c\t.\tCDS\t1\t6\t.\t+\t0\tID=x\n>c\nACGTAC\n").sequences.size(), 1u)
      << "the line ##FASTA is missing";
}

TEST(Gff, DamageIsNamed) {
  EXPECT_EQ(refusal("##gff-version 2\n"),
            ":1: expected ##gff-version 3, got '2': convert it, for instance by gffread -E FILE -o FILE.gff3");
  EXPECT_EQ(refusal(gff({"c . CDS 1 6 . + 0"})), ":2: expected the 9 columns of GFF3 between tabs, got 8");
  EXPECT_EQ(refusal(gff({"c . CDS 0 6 . + 0 ID=x"})),
            ":2: expected a first and a last base in columns 4 and 5, got '0' and '6'");
  EXPECT_EQ(refusal(gff({"c . CDS 7 6 . + 0 ID=x"})),
            ":2: expected a first and a last base in columns 4 and 5, got '7' and '6'");
  EXPECT_NE(refusal("c\t.\tCDS\t1\t6\t.\t+\t0\tgene_id \"x\"; y \"z\"\n").find("GTF is converted by gffread"),
            std::string::npos);
  EXPECT_EQ(refusal(gff({}, ">c\nAC-\n")).substr(0, 20), ":4:3: record 'c': ex");
  EXPECT_EQ(refusal(gff({}, ">c\nAC\n>c\nAC\n")), ":5: sequence 'c' came before");
  EXPECT_EQ(refusal(gff({}, "ACGT\n")), ":3: expected '>' and a name after ##FASTA");
}

TEST(Gff, IsKnownByItsFirstBytes) {
  EXPECT_TRUE(looks_like_gff("##gff-version 3\n"));
  EXPECT_TRUE(looks_like_gff("#!genome-build x\r\nc\t.\tCDS\t1\t6\t.\t+\t0\tID=x\n"));
  EXPECT_FALSE(looks_like_gff("chr1\t10\t20\n"));
  EXPECT_FALSE(looks_like_gff(">c\nACGT\n"));
  EXPECT_FALSE(looks_like_gff(""));
  EXPECT_FALSE(looks_like_gff("# a comment"));
}

TEST(Gff, BitFlipsAndCutsNeverCrash) {
  std::vector<std::string> lines{"c . region 1 3000 . + . ID=c;Is_circular=true"};
  for (int i = 0; i < 100; ++i) {
    const std::string id = std::to_string(i);
    lines.push_back("c . gene 1 30 . + . ID=g" + id + ";locus_tag=b" + id);
    lines.push_back("c . CDS 11 16 . + 0 ID=x" + id + ";Parent=g" + id + ";partial=true");
  }
  std::string fasta = ">c\n";
  for (int i = 0; i < 50; ++i) fasta += "ACGTACGTACGTACGTACGTACGTACGTACGTACGTACGTACGTACGTACGTACGTACGT\n";
  const std::string text = gff(lines, fasta);
  const std::string packed = gzip_member(text);
  int64_t refused = 0;
  for (size_t at = 0; at < text.size(); at += 97) {
    std::string damaged = text;
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << (at % 8)));
    refused += message_of([&] { (void)read_text(damaged); }).empty() ? 0 : 1;
    (void)message_of([&] { (void)read_text(std::string_view(text).substr(0, at)); });
  }
  EXPECT_GT(refused, 0);
  for (size_t at = 12; at < packed.size(); at += 97) {
    std::string damaged = packed;
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << (at % 8)));
    EXPECT_NE(message_of([&] { (void)read_text(damaged); }), "") << at;
    EXPECT_NE(message_of([&] { (void)read_text(std::string_view(packed).substr(0, at)); }), "") << at;
  }
}

}  // namespace
}  // namespace longfold::data
