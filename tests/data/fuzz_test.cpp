#include "tests/data/fuzz.h"

#include <gtest/gtest.h>

#include "longfold/data/token_index.h"
#include "tests/data/genbank_text.h"
#include "tests/data/gzip_bytes.h"
#include "tests/spoil.h"

namespace longfold::data {
namespace {

constexpr int kCases = 2000;

void run(void (*fuzz)(const uint8_t*, size_t), const std::vector<std::string>& seeds,
         const std::vector<std::string>& words) {
  for_each_spoiled(seeds, words, kCases, [&](const std::string& input) {
    fuzz(reinterpret_cast<const uint8_t*>(input.data()), input.size());
  });
}

TEST(Fuzz, Fasta) {
  const std::string text = ">one two\nACGT\r\nacgtn\n\n>b\rACGU\n";
  run(fuzz_fasta, {text, gzip_member(text), bgzf_blocks(text, 9) + bgzf_end()},
      {">", "\r", "\n", " ", "\xef\xbb\xbf", "@"});
}

TEST(Fuzz, GenBank) {
  const std::string text =
      genbank_record("atgaaacgcattagcaccaccattaccaccaccatcaccattaccacaggtaacggtgcgggctga",
                     {"CDS|complement(join(1..9,20..40,J1.1:1..4))", "/gene=\"a\"", "/codon_start=2", "/note=\"long",
                      "text\"", "CDS|<1..66", "/transl_table=4", "/pseudo"},
                     "NC_1", "circular");
  run(fuzz_genbank, {text, gzip_member(text), text + text},
      {"join(", "complement(", ")", "..", "9999999", "\"", "/", "\n//\n", "\nORIGIN\n", "\nFEATURES\n", "LOCUS", "<",
       "     CDS"});
}

TEST(Fuzz, Gff) {
  const std::string text =
      "##gff-version 3\nc\t.\tgene\t1\t30\t.\t+\t.\tID=g;pseudo=true\nc\t.\tCDS\t1\t9\t.\t-\t0\tID=x;Parent=g\n"
      "c\t.\tCDS\t20\t30\t.\t-\t1\tID=x;Is_circular=true\n##FASTA\n>c\nACGTACGTACGTACGTACGTACGTACGTAC\n";
  run(fuzz_gff, {text, gzip_member(text)},
      {"\t", "\n", ";", "=", "Parent=g", "ID=", "%", "%zz", "999999999999", "##FASTA\n", ">", "Is_circular=true"});
}

TEST(Fuzz, Index) {
  const std::vector<int32_t> lengths{3, 0, 5, 1};
  std::vector<std::string> seeds;
  for (const TokenDtype dtype : {TokenDtype::kU16, TokenDtype::kI32, TokenDtype::kU8}) {
    const std::vector<char> bytes = index_bytes(dtype, lengths);
    seeds.emplace_back(bytes.begin(), bytes.end());
  }
  run(fuzz_index, seeds, {std::string(8, '\0'), std::string(8, '\xff'), "MMIDIDX", std::string("\1\0\0\0", 4)});
}

}  // namespace
}  // namespace longfold::data
