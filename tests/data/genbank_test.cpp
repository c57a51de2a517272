#include "longfold/data/readers/genbank.h"

#include <gtest/gtest.h>

#include "longfold/base/files.h"
#include "longfold/data/prepare.h"
#include "tests/data/genbank_text.h"
#include "tests/data/gzip_bytes.h"
#include "tests/data/scratch.h"

namespace longfold::data {
namespace {

namespace fs = std::filesystem;

std::vector<AnnotatedRecord> read(const fs::path& path) {
  GenBankReader reader(std::make_unique<ByteStream>(path.string()));
  std::vector<AnnotatedRecord> records;
  AnnotatedRecord record;
  while (reader.next(record)) records.push_back(record);
  return records;
}

std::vector<AnnotatedRecord> read_text(std::string_view text) {
  const fs::path path = fresh_folder() / "x.gbk";
  put(path, text);
  return read(path);
}

// The message without the folder.
std::string refusal(std::string_view text) {
  const fs::path path = fresh_folder() / "x.gbk";
  put(path, text);
  const std::string message = message_of([&] { (void)read(path); });
  return message.starts_with(path.string()) ? message.substr(path.string().size()) : message;
}

const std::string kBases = "atgaaacgcattagcaccaccattaccaccaccatcaccattaccacaggtaacggtgcgggctgaATGTAA";

TEST(GenBank, ReadsRecordsAndTheirCodingSequences) {
  const std::string text =
      genbank_record(kBases,
                     {"source|1..72", "gene|1..66", "/locus_tag=\"b1\"", "CDS|1..66", "/gene=\"thrL\"",
                      "/locus_tag=\"b1\"", "/note=\"a quote \"\"within\"\" and", "/pseudo is text here\"",
                      "/codon_start=2", "/transl_table=11", "/protein_id=\"NP_1.1\"", "CDS|complement(join(1..3,",
                      "5..6))", "/pseudo", "CDS|67..72", "/gene=\"x\"", "/transl_except=(pos:67..69,", "aa:Sec)"},
                     "NC_1", "circular") +
      "\n" + genbank_record("acgt", {}, "NC_2");
  const std::vector<AnnotatedRecord> records = read_text(text);
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].name, "NC_1.1");
  EXPECT_EQ(records[0].bases, kBases);
  EXPECT_TRUE(records[0].circular);
  EXPECT_FALSE(records[1].circular);
  EXPECT_EQ(records[1].bases, "acgt");
  ASSERT_EQ(records[0].coding.size(), 3u);
  const CodingSequence& first = records[0].coding[0];
  EXPECT_EQ(first.name, "b1");
  EXPECT_EQ(first.protein_id, "NP_1.1");
  EXPECT_EQ(first.skip, 1);
  EXPECT_EQ(first.table, 11);
  EXPECT_FALSE(first.pseudo);
  EXPECT_FALSE(first.has_exceptions);
  EXPECT_EQ(records[0].coding[1].location.text, "complement(join(1..3,5..6))");
  EXPECT_TRUE(records[0].coding[1].pseudo);
  EXPECT_EQ(records[0].coding[2].name, "x");
  EXPECT_EQ(records[0].coding[2].table, 1);
  EXPECT_TRUE(records[0].coding[2].has_exceptions);
  std::string mac;
  for (const char c : text) mac += c == '\n' ? "\r\n" : std::string(1, c);
  EXPECT_EQ(read_text("\xef\xbb\xbf" + mac)[0].coding.size(), 3u);
  EXPECT_EQ(read_text(gzip_member(text))[0].bases, kBases);
  EXPECT_EQ(read_text(bgzf_blocks(text) + bgzf_end())[1].name, "NC_2.1");
}

TEST(GenBank, DamageIsNamed) {
  const std::string good = genbank_record(kBases, {"CDS|1..66", "/gene=\"thrL\""});
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    text.replace(text.find(from), from.size(), to);
    return refusal(text);
  };
  EXPECT_EQ(with("72 bp", "73 bp"), ":11: record 'NC_1.1': expected 73 bases, as its LOCUS says, got 72");
  EXPECT_EQ(with("       61", "       62"), ":10: record 'NC_1.1': expected the line of base 61, got '62'");
  EXPECT_EQ(with("atgaaacgca", "atgaaacgcj").substr(0, 40), ":9:20: record 'NC_1.1': expected a nucle");
  EXPECT_EQ(with("\"thrL\"", "\"thrL"), ":8: expected a quote that closes /gene of 'NC_1.1'");
  EXPECT_EQ(with("//\n", ""), ":10: record 'NC_1.1' is cut: expected // at its end");
  EXPECT_EQ(with("72 bp", "72 aa"), ":1: record 'NC_1' is a protein: expected nucleotides");
  EXPECT_EQ(with(good.substr(good.find("ORIGIN"), good.size() - good.find("ORIGIN") - 3), ""),
            ":1: record 'NC_1.1' has no sequence: expected ORIGIN (NCBI gives it as \"GenBank (full)\")");
  EXPECT_EQ(refusal(good + ">one\nACGT\n"), ":12: expected a record of GenBank, which begins with LOCUS, got '>one'");
  EXPECT_EQ(refusal(good.substr(0, good.find("ORIGIN")) + good),
            ":8: record 'NC_1.1' is cut: expected // before the next LOCUS");
}

// Whatever is cut, the closing // is gone.
TEST(GenBank, NoCutPasses) {
  const std::string text = genbank_record(kBases, {"CDS|1..66"});
  for (size_t size = 1; size + 3 < text.size(); ++size) EXPECT_NE(refusal(text.substr(0, size)), "") << size;
}

const std::string kExcerpt = LONGFOLD_SOURCE_DIR "/data/ecoli-k12-excerpt.gbk.gz";

std::string unpacked(const std::string& path) {
  ByteStream stream(path);
  std::string text(1 << 20, '\0');
  size_t size = 0;
  while (const size_t count = stream.read(std::span(text).subspan(size))) size += count;
  text.resize(size);
  return text;
}

// A standard genetic code, and that of vertebrate mitochondria, as amino acids of TTT, TTC, TTA, ... GGG.
std::string translate(std::string_view bases, int64_t table) {
  const std::string standard = "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG";
  const std::string mitochondrial = "FFLLSSSSYY**CCWWLLLLPPPPHHQQRRRRIIMMTTTTNNKKSS**VVVVAAAADDEEGGGG";
  std::string protein;
  for (size_t at = 0; at + 3 <= bases.size(); at += 3) {
    size_t codon = 0;
    for (size_t i = 0; i < 3; ++i) codon = codon * 4 + std::string("TCAG").find(bases[at + i]);
    protein += (table == 2 ? mitochondrial : standard)[codon];
  }
  if (protein.ends_with('*')) protein.pop_back();
  return protein;
}

// The /translation of each coding sequence of a file without any that is left out, in order.
std::vector<std::string> translations(const std::string& text) {
  std::vector<std::string> all;
  const std::string key = "/translation=\"";
  for (size_t at = text.find(key); at != std::string::npos; at = text.find(key, at)) {
    at += key.size();
    std::string protein;
    for (; text[at] != '"'; ++at) {
      if (text[at] != ' ' && text[at] != '\n') protein += text[at];
    }
    all.push_back(protein);
  }
  return all;
}

// First codons are read as M whatever they are.
TEST(GenBank, CodingSequencesGiveTheProteinsThatTheFilesTell) {
  for (const auto& [name, count] : {std::pair("ecoli-k12-excerpt", 58), std::pair("human-mitochondrion", 13)}) {
    const std::string path = std::string(LONGFOLD_SOURCE_DIR "/data/") + name + ".gbk.gz";
    const std::string prefix = fresh_folder() / "x";
    const PrepareReport report = prepare({.inputs = {path}, .output = prefix, .take = "cds"});
    EXPECT_EQ(report.info.taking.coding, count);
    EXPECT_EQ(report.num_sequences, count);
    const std::vector<std::string> expected = translations(unpacked(path));
    ASSERT_EQ(std::ssize(expected), count);
    const TokenFile file(prefix);
    for (int64_t i = 0; i < count; ++i) {
      const std::string bases = file.tokenizer().decode(to_vector(file.tokens(i)));
      const std::string protein = translate(bases, file.sequence(i).table);
      EXPECT_EQ(protein.substr(1), expected[static_cast<size_t>(i)].substr(1)) << file.sequence(i).name;
    }
  }
}

// Whatever is damaged, the reader says so or reads on: it never crashes. What gzip guards is right or refused.
TEST(GenBank, BitFlipsAndCutsAreRefusedOrHarmless) {
  const std::string packed = base::read_file(kExcerpt);
  const std::string text = unpacked(kExcerpt).substr(0, 1 << 20);
  const std::vector<AnnotatedRecord> right = read_text(packed);
  const fs::path path = fresh_folder() / "x.gbk";
  int64_t read_whole = 0, cut_whole = 0;
  for (size_t at = 0; at < packed.size(); at += 97) {
    std::string damaged = packed;
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << (at % 8)));
    put(path, damaged);
    std::vector<AnnotatedRecord> records;
    const std::string message = message_of([&] { records = read(path); });
    if (message.empty()) {
      ++read_whole;
      ASSERT_EQ(records.size(), 1u) << at;
      EXPECT_TRUE(records[0].bases == right[0].bases && records[0].coding.size() == right[0].coding.size()) << at;
    }
    put(path, std::string_view(packed).substr(0, at));
    EXPECT_NE(message_of([&] {
                if (!read(path).empty()) ++cut_whole;
              }),
              at == 0 ? "x" : "")
        << at;
  }
  EXPECT_LE(read_whole, 2) << "of the header of gzip alone, which no checksum guards";
  EXPECT_EQ(cut_whole, 0);
  for (size_t at = 0; at < text.size(); at += 97) {
    std::string damaged = text;
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << (at % 8)));
    put(path, damaged);
    (void)message_of([&] { (void)read(path); });
  }
}

}  // namespace
}  // namespace longfold::data
