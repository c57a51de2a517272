#include "longfold/data/readers/location.h"

#include <gtest/gtest.h>

#include "longfold/data/readers/nucleotides.h"

namespace longfold::data {
namespace {

constexpr std::string_view kRecord = "AACCGGTTAC";  // 1..10

std::string bases_of(std::string_view text, bool circular = false) {
  const Location location = parse_location(text, {"NC_1.1"});
  if (!location.wrong.empty()) return location.wrong;
  std::string bases, wrong;
  return bases_at(location.parts, kRecord, circular, bases, wrong) ? bases : wrong;
}

TEST(Location, PartsAreReadInTheirOrder) {
  EXPECT_EQ(bases_of("1..4"), "AACC");
  EXPECT_EQ(bases_of("5"), "G");
  EXPECT_EQ(bases_of("complement(1..4)"), "GGTT");
  EXPECT_EQ(bases_of("join(1..3,9..10)"), "AACAC");
  EXPECT_EQ(bases_of("join(9..10,1..3)"), "ACAAC") << "the order is the author's, not that of positions";
  EXPECT_EQ(bases_of("complement(join(1..3,9..10))"), "GTGTT");
  EXPECT_EQ(bases_of("join(complement(9..10),complement(1..3))"), "GTGTT");
  EXPECT_EQ(bases_of("join(complement(1..3),complement(9..10))"), "GTTGT");
  EXPECT_EQ(bases_of("join(1..2,complement(join(3..4,9..10)),5)"), "AAGTGGG");
  EXPECT_EQ(bases_of("complement(complement(1..4))"), "AACC");
  EXPECT_EQ(bases_of("NC_1.1:1..4"), "AACC");
}

TEST(Location, GoesOverTheOriginOfACircle) {
  EXPECT_EQ(bases_of("join(9..10,1..2)"), "ACAA");
  EXPECT_EQ(bases_of("9..2", true), "ACAA");
  EXPECT_EQ(bases_of("9..12", true), "ACAA");
  EXPECT_EQ(bases_of("complement(9..2)", true), "TTGT");
  EXPECT_EQ(bases_of("9..2"), "9..2 is not within its linear record of 10 bases");
  EXPECT_EQ(bases_of("9..12"), "9..12 is not within its linear record of 10 bases");
  EXPECT_EQ(bases_of("11..12", true), "11..12 is not within its circular record of 10 bases");
  EXPECT_EQ(bases_of("2..12", true), "2..12 is not within its circular record of 10 bases") << "more than once round";
}

TEST(Location, WhatIsNotKnownIsSaid) {
  const std::vector<std::string> names{"NC_1.1"};
  for (const char* text : {"<1..4", "1..>4", "complement(<1..>4)", "join(<1,3..4)", "(1.3)..4", "1.3", "<5"}) {
    EXPECT_TRUE(parse_location(text, names).partial) << text;
    EXPECT_EQ(parse_location(text, names).wrong, "") << text;
  }
  EXPECT_TRUE(parse_location("J00194.1:100..202", names).remote);
  EXPECT_TRUE(parse_location("join(1..3,J00194.1:100..202)", names).remote);
  EXPECT_FALSE(parse_location("NC_1.1:1..3", names).remote);
  EXPECT_EQ(parse_location("5^6", names).wrong, "a place between two bases");
  EXPECT_EQ(parse_location("order(1..2,4..5)", names).wrong, "order() does not say that its parts are joined");
  for (const char* text :
       {"", "0", "0..3", "1..", "..4", "join(", "join(1..2", "join()", "complement(1..2))", "1..2,3..4",
        "one-of(1,2)..4", "gap(10)", "join(1..2,)", ":1..2", "1..2x", "-1..2", "1...4", "99999999999999999999..2"}) {
    EXPECT_EQ(parse_location(text, names).wrong, "its location cannot be read") << text;
  }
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += "join(";
  EXPECT_EQ(parse_location(deep, names).wrong, "its location cannot be read");
}

TEST(Location, TextIsThatOfGenBank) {
  EXPECT_EQ(location_text({{0, 4, false}}), "1..4");
  EXPECT_EQ(location_text({{4, 5, true}}), "complement(5)");
  EXPECT_EQ(location_text({{0, 3, false}, {8, 10, false}}), "join(1..3,9..10)");
  EXPECT_EQ(location_text({{8, 10, true}, {0, 3, true}}), "complement(join(1..3,9..10))");
  EXPECT_EQ(location_text({{8, 10, true}, {0, 3, false}}), "join(complement(9..10),1..3)");
}

TEST(Location, PartsCannotMakeMoreThanMemoryHolds) {
  std::string text = "join(1..10";
  for (int i = 0; i < 100; ++i) text += ",1..10";
  EXPECT_EQ(bases_of(text + ")"), "its parts have more than twice the bases of its record");
}

TEST(Nucleotides, ReverseComplementKeepsCaseAndCodes) {
  EXPECT_EQ(reverse_complement("ACGTUNacgtun"), "naacgtNAACGT");
  EXPECT_EQ(reverse_complement("RYSWKMBDHV"), "BDHVKMWSRY");
  EXPECT_EQ(reverse_complement(""), "");
}

}  // namespace
}  // namespace longfold::data
