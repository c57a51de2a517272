// What `longfold prepare` takes of records: coding sequences, windows, both strands, no duplicates, parts of a split.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "longfold/data/preparation/sequence_key.h"
#include "longfold/data/prepare.h"
#include "longfold/data/readers/nucleotides.h"
#include "tests/data/genbank_text.h"
#include "tests/data/scratch.h"

namespace longfold::data {
namespace {

namespace fs = std::filesystem;

std::string write_text(const fs::path& path, std::string_view text) {
  put(path, text);
  return path;
}

// "name bases" of each sequence.
std::vector<std::string> sequences(const std::string& prefix) {
  const TokenFile file(prefix);
  std::vector<std::string> found;
  for (int64_t i = 0; i < file.num_sequences(); ++i) {
    found.push_back(file.sequence(i).name + " " + file.tokenizer().decode(to_vector(file.tokens(i))));
  }
  return found;
}

std::string random_bases(size_t count, uint32_t seed) {
  std::string bases;
  for (size_t i = 0; i < count; ++i) {
    seed = seed * 1664525 + 1013904223;
    bases += "ACGT"[seed >> 30];
  }
  return bases;
}

const std::string kBases = "ATGAAACGCTAAGGGATGTGATAACCCTTATTTCAT";  // 36: two genes forward, one back

TEST(TakeCds, LeavesOutWhatIsNotKnownAndSaysWhy) {
  const fs::path folder = fresh_folder();
  const std::string input =
      write_text(folder / "x.gbk", genbank_record(kBases, {"CDS|1..12",
                                                           "/locus_tag=\"a\"",
                                                           "/protein_id=\"P1\"",
                                                           "/transl_table=11",  //
                                                           "CDS|complement(28..36)",
                                                           "/locus_tag=\"b\"",  //
                                                           "CDS|1..12",
                                                           "/locus_tag=\"c\"",
                                                           "/pseudo",  //
                                                           "CDS|<1..12",
                                                           "/locus_tag=\"d\"",
                                                           "/codon_start=3",  //
                                                           "CDS|join(1..3,J00194.1:100..202)",
                                                           "/locus_tag=\"e\"",  //
                                                           "CDS|1..11",
                                                           "/locus_tag=\"f\"",  //
                                                           "CDS|16..24",
                                                           "/locus_tag=\"g\"",  //
                                                           "CDS|16..24",
                                                           "/locus_tag=\"h\"",
                                                           "/transl_table=4",  //
                                                           "CDS|30..40",
                                                           "/locus_tag=\"i\"",  //
                                                           "CDS|order(1..3,7..12)",
                                                           "/locus_tag=\"j\"",  //
                                                           "CDS|5^6",
                                                           "/locus_tag=\"k\"",  //
                                                           "CDS|16..24",
                                                           "/locus_tag=\"l\"",
                                                           "/transl_except=(pos:19..21,aa:Sec)",  //
                                                           "CDS|1..12",
                                                           "/locus_tag=\"m\"",
                                                           "/transl_table=7",  //
                                                           "CDS|1..12",
                                                           "/codon_start=4"}));
  const PrepareReport report = prepare({.inputs = {input}, .output = folder / "x", .take = "cds"});
  EXPECT_EQ(sequences(folder / "x"),
            (std::vector<std::string>{"a ATGAAACGCTAA", "b ATGAAATAA", "h ATGTGATAA", "l ATGTGATAA"}));
  const TokenFile file((folder / "x").string());
  EXPECT_EQ(
      file.sequence(0),
      (SequenceInfo{
          .name = "a", .record = "NC_1.1", .location = "1..12", .locus_tag = "a", .protein_id = "P1", .table = 11}));
  EXPECT_EQ(file.sequence(1).location, "complement(28..36)");
  std::vector<std::string> why;
  for (const LeftOut& one : file.info().left_out) why.push_back(one.name + " " + one.kind + ": " + one.why);
  EXPECT_EQ(why, (std::vector<std::string>{
                     "c pseudo: its gene makes no protein", "d partial: an end of it is not in the record",
                     "e remote: a part of it is in another record", "f broken: 11 bases are no whole number of codons",
                     "g broken: codon 2 of 3 is a stop", "i broken: 30..40 is not within its linear record of 36 bases",
                     "j broken: order() does not say that its parts are joined", "k broken: a place between two bases",
                     "m broken: genetic code 7 is none of NCBI's", " broken: /codon_start=4 is none from 1 to 3"}));
  const Taking& taking = file.info().taking;
  EXPECT_EQ((std::vector<int64_t>{taking.coding, taking.pseudo, taking.remote, taking.partial, taking.broken}),
            (std::vector<int64_t>{14, 1, 1, 1, 7}));
  EXPECT_EQ(taking, report.info.taking);

  (void)prepare({.inputs = {input}, .output = folder / "y", .take = "cds", .keep_partial = true});
  EXPECT_EQ(sequences(folder / "y").at(2), "d GAAACGCTA") << "from codon_start on, to its last whole codon";
}

TEST(TakeCds, GffFindsItsGenomeInsideOrBeside) {
  const fs::path folder = fresh_folder();
  const std::string table =
      "##gff-version 3\nc\t.\tregion\t1\t36\t.\t+\t.\tIs_circular=true\nc\t.\tCDS\t1\t12\t.\t+\t0\tID=a;Name=one\n"
      "c\t.\tCDS\t28\t36\t.\t-\t0\tID=b\nc\t.\tCDS\t34\t39\t.\t+\t0\tID=w\nc\t.\tCDS\t30\t40\t.\t+\t1\tID=d;partial="
      "true\n";
  const std::string fasta = ">c desc\n" + kBases + "\n>other\nACGT\n";
  const std::string alone = write_text(folder / "alone.gff3", table);
  const std::string whole = write_text(folder / "whole.gff3", table + "##FASTA\n" + fasta);
  const std::string genome = write_text(folder / "genome.fa", fasta);
  const std::vector<std::string> expected{"one ATGAAACGCTAA", "b ATGAAATAA", "w CATATG"};
  (void)prepare({.inputs = {whole}, .output = folder / "x", .take = "cds"});
  EXPECT_EQ(sequences(folder / "x"), expected);
  for (const std::vector<std::string>& inputs : {std::vector{alone, genome}, std::vector{genome, alone}}) {
    (void)prepare({.inputs = inputs, .output = folder / "x", .take = "cds"});
    EXPECT_EQ(sequences(folder / "x"), expected);
  }
  const auto message = [&](const std::vector<std::string>& inputs, const std::string& take) {
    return message_of([&] { (void)prepare({.inputs = inputs, .output = folder / "z", .take = take}); });
  };
  EXPECT_EQ(message({alone}, "cds"), alone +
                                         ":2: expected the sequence 'c' in a ##FASTA part or in a FASTA file beside "
                                         "it, got none of that name");
  EXPECT_EQ(message({genome}, "cds"),
            "'" + genome + "' has no coding sequences: expected GenBank, or GFF3 beside it, for --take cds");
  EXPECT_EQ(message({alone}, "records"), "'" + alone +
                                             "' has no sequences (no ##FASTA part): give the FASTA file of its " +
                                             "genome instead, or both with --take cds");
  (void)prepare({.inputs = {whole}, .output = folder / "x"});
  EXPECT_EQ(sequences(folder / "x"), (std::vector<std::string>{"c " + kBases, "other ACG"}));
}

TEST(TakeRecords, GenBankIsReadAsItsFasta) {
  const fs::path folder = fresh_folder();
  const std::string bases = random_bases(1000, 1);
  const std::string input =
      write_text(folder / "x.gbk", genbank_record(bases, {"CDS|1..66"}) + genbank_record("acgacg", {}, "NC_2"));
  const PrepareReport report = prepare({.inputs = {input}, .output = folder / "x", .frame = "all"});
  EXPECT_EQ(report.info.counts.records, 2);
  EXPECT_EQ(report.info.counts.bases, 1006);
  EXPECT_EQ(report.num_sequences, 6);
  EXPECT_EQ(sequences(folder / "x")[1], "NC_1.1 " + bases.substr(1, 999));
  EXPECT_EQ(sequences(folder / "x")[3], "NC_2.1 ACGACG");
}

TEST(Windows, CoverEachSequenceAndTheOtherStrand) {
  const fs::path folder = fresh_folder();
  const std::string input = write_text(folder / "x.fa", ">a\nAAACCCGGGTTTAC\n>b\nACG\n");
  (void)prepare({.inputs = {input}, .output = folder / "x", .window = 2, .stride = 1});
  EXPECT_EQ(sequences(folder / "x"), (std::vector<std::string>{"a AAACCC", "a CCCGGG", "a GGGTTT", "b ACG"}))
      << "two bases at the end are no token";
  EXPECT_EQ(TokenFile((folder / "x").string()).sequence(1).window, 3);
  (void)prepare({.inputs = {input}, .output = folder / "y", .window = 3, .reverse_complement = true});
  EXPECT_EQ(sequences(folder / "y"),
            (std::vector<std::string>{"a AAACCCGGG", "a CCCGGGTTT", "a TTT", "a GTA", "b ACG", "b CGT"}));
  EXPECT_TRUE(TokenFile((folder / "y").string()).sequence(1).reverse);
  EXPECT_EQ(TokenFile((folder / "y").string()).info().taking.stride, 3);
}

TEST(Duplicates, AreTheSameSequenceOnEitherStrand) {
  EXPECT_EQ(sequence_key("ACGTT"), sequence_key("aacgu"));
  EXPECT_NE(sequence_key("ACGTT"), sequence_key("ACGTA"));
  EXPECT_NE(sequence_key("ACGT"), sequence_key("ACGTA"));
  const fs::path folder = fresh_folder();
  const std::string input = write_text(folder / "x.fa", ">a\nATGAAA\n>b\nTTTCAT\n>c\naugaaa\n>d\nATGAAC\n");
  const PrepareReport report = prepare({.inputs = {input}, .output = folder / "x", .drop_duplicates = true});
  EXPECT_EQ(sequences(folder / "x"), (std::vector<std::string>{"a ATGAAA", "d ATGAAC"}));
  EXPECT_EQ(report.info.taking.duplicates, 2);
  (void)prepare({.inputs = {input}, .output = folder / "x"});
  EXPECT_EQ(sequences(folder / "x").size(), 4u) << "only where it is asked for";
}

struct Fasta {
  std::string text;
  std::set<std::string> names;
};

Fasta many_records(int64_t count) {
  Fasta made;
  for (int64_t i = 0; i < count; ++i) {
    const std::string bases = random_bases(60, static_cast<uint32_t>(i));
    const std::string name = "r" + std::to_string(i);
    made.names.insert(name);
    made.text += ">" + name + "\n" + bases + "\n";
    if (i % 5 == 0) made.text += ">twin" + name + "\n" + reverse_complement(bases) + "\n";
  }
  return made;
}

std::string first_word(const std::string& text) {
  return text.substr(0, text.find(' '));
}

TEST(Splits, ByRecordHaveNothingInCommon) {
  const fs::path folder = fresh_folder();
  const Fasta made = many_records(300);
  const std::string input = write_text(folder / "x.fa", made.text);
  const PrepareOptions options{
      .inputs = {input}, .output = folder / "x", .reverse_complement = true, .split = {.val = 0.2, .test = 0.1}};
  const PrepareReport report = prepare(options);
  EXPECT_EQ(report.info.taking.duplicates, 60) << "dropped before the split";
  std::set<std::string> names, keys;
  std::vector<size_t> sizes;
  for (const char* part : {"train", "val", "test"}) {
    const std::string prefix = folder / (std::string("x-") + part);
    std::set<std::string> of_part;
    for (const std::string& sequence : sequences(prefix)) of_part.insert(first_word(sequence));
    for (const std::string& name : of_part) EXPECT_TRUE(names.insert(name).second) << name << " is in two parts";
    sizes.push_back(of_part.size());
    EXPECT_EQ(TokenFile(prefix).info().taking.part, part);
    EXPECT_EQ(TokenFile(prefix).num_sequences(), 2 * std::ssize(of_part)) << "both strands in the same part";
  }
  EXPECT_EQ(names.size(), 300u);
  EXPECT_NEAR(static_cast<double>(sizes[1]), 60, 25);
  EXPECT_NEAR(static_cast<double>(sizes[2]), 30, 20);

  // Other records beside them change nothing, nor does their order; another seed does.
  std::vector<std::string> before = sequences(folder / "x-test");
  const std::string more = write_text(folder / "y.fa", many_records(400).text);
  PrepareOptions again = options;
  again.inputs = {more};
  (void)prepare(again);
  const std::vector<std::string> after = sequences(folder / "x-test");
  for (const std::string& one : before) EXPECT_NE(std::ranges::find(after, one), after.end()) << one;
  again.split.seed = 1;
  (void)prepare(again);
  EXPECT_NE(sequences(folder / "x-test"), after);
}

TEST(Splits, ByContigAndByClusterKeepTogether) {
  const fs::path folder = fresh_folder();
  std::string text, clusters;
  for (int contig = 0; contig < 40; ++contig) {
    const std::string name = "NC_" + std::to_string(contig);
    std::string bases;
    std::vector<std::string> features;
    for (int gene = 0; gene < 3; ++gene) {
      std::string body = random_bases(27, static_cast<uint32_t>(3 * contig + gene));
      for (size_t at = 0; at < body.size(); at += 3) body[at] = 'C';  // no stops
      const std::string tag = name + "_" + std::to_string(gene);
      features.push_back("CDS|" + std::to_string(bases.size() + 1) + ".." + std::to_string(bases.size() + 27));
      features.push_back("/locus_tag=\"" + tag + "\"");
      clusters += tag + "\tcluster" + std::to_string((3 * contig + gene) % 30) + "\n";
      bases += body;
    }
    text += genbank_record(bases, features, name);
  }
  const std::string input = write_text(folder / "x.gbk", text);
  const std::string file = write_text(folder / "clusters.tsv", "# name\tcluster\n" + clusters);
  for (const std::string by : {"contig", "cluster"}) {
    PrepareOptions options{.inputs = {input}, .output = folder / by, .take = "cds"};
    options.split = {.by = by, .val = 0.3, .test = 0.3, .clusters = by == "cluster" ? file : "", .seed = 3};
    const PrepareReport report = prepare(options);
    std::map<std::string, std::string> where;
    int64_t count = 0;
    for (const PreparedSet& set : report.sets) {
      for (const std::string& sequence : sequences(set.prefix)) {
        const std::string name = first_word(sequence);
        const size_t tag = clusters.find(name + "\t");
        const std::string group = by == "contig"
                                      ? name.substr(0, name.rfind('_'))
                                      : clusters.substr(tag, clusters.find('\n', tag) - tag).substr(name.size());
        EXPECT_EQ(where.try_emplace(group, set.prefix).first->second, set.prefix) << group;
        ++count;
      }
    }
    EXPECT_EQ(count, 120);
    EXPECT_EQ(report.sets.size(), 3u);
  }
  PrepareOptions options{.inputs = {input}, .output = folder / "z", .take = "cds"};
  options.split = {.by = "cluster", .val = 0.3, .clusters = write_text(folder / "few.tsv", "NC_0_0 a\n")};
  EXPECT_EQ(
      message_of([&] { (void)prepare(options); }),
      "'" + options.split.clusters +
          "': expected a cluster for 'NC_0_1', got none (a sequence that is like no other is a cluster of its own)");
  options.split.clusters = write_text(folder / "two.tsv", "a x\na y\n");
  EXPECT_EQ(message_of([&] { (void)prepare(options); }),
            options.split.clusters + ":2: 'a' is in cluster 'x' already, got 'y'");
}

TEST(Splits, ByPositionCutRecordsAndLeaveOutGenesOnABorder) {
  const fs::path folder = fresh_folder();
  const std::string bases = random_bases(300, 7);
  const std::string fasta = write_text(folder / "x.fa", ">a\n" + bases + "\n");
  PrepareOptions options{.inputs = {fasta}, .output = folder / "x"};
  options.split = {.by = "position", .val = 0.2, .test = 0.1};
  (void)prepare(options);
  EXPECT_EQ(sequences(folder / "x-train"), std::vector<std::string>{"a " + bases.substr(0, 210)});
  EXPECT_EQ(sequences(folder / "x-val"), std::vector<std::string>{"a " + bases.substr(210, 60)});
  EXPECT_EQ(sequences(folder / "x-test"), std::vector<std::string>{"a " + bases.substr(270, 30)});
  EXPECT_EQ(TokenFile((folder / "x-val").string()).sequence(0).location, "211..270");

  std::string plain = random_bases(300, 8);
  for (size_t at = 0; at < plain.size(); at += 3) plain[at] = 'C';  // no stops
  options.inputs = {
      write_text(folder / "x.gbk", genbank_record(plain, {"CDS|1..6", "CDS|205..210", "CDS|208..213", "CDS|211..216",
                                                          "CDS|complement(280..285)", "CDS|join(1..3,298..300)"}))};
  options.take = "cds";
  const PrepareReport report = prepare(options);
  EXPECT_EQ(report.info.taking.across, 2);
  EXPECT_EQ(report.info.taking.coding, 6);
}

TEST(Splits, WhatCannotBeIsNamed) {
  const fs::path folder = fresh_folder();
  const std::string input = write_text(folder / "x.fa", ">a\nATGAAA\n");
  const auto message = [&](const SplitOptions& split) {
    PrepareOptions options{.inputs = {input}, .output = folder / "x"};
    options.split = split;
    return message_of([&] { (void)prepare(options); });
  };
  EXPECT_EQ(message({.by = "gene", .val = 0.1}),
            "unknown --split-by 'gene' (one of: record, contig, position, cluster)");
  EXPECT_EQ(message({.val = 1}), "expected --val to be a fraction in [0, 1), got 1.000000");
  EXPECT_EQ(message({.val = 0.5, .test = 0.5}),
            "expected --val and --test to leave something to train on, got 0.500000 and 0.500000");
  EXPECT_EQ(message({.by = "contig"}), "expected a fraction for --val or --test beside --split-by, got none");
  EXPECT_EQ(message({.by = "cluster", .val = 0.1}),
            "expected --clusters FILE and --split-by cluster together, got one of them");
  const std::string few = message({.val = 0.5});
  EXPECT_EQ(few.substr(0, 35), "nothing of 1 sequences fell to '" + folder.string().substr(0, 3));
  EXPECT_EQ(names_in(folder), std::vector<std::string>{"x.fa"});
  const auto refused = [&](PrepareOptions options) {
    options.inputs = {input};
    options.output = folder / "x";
    return message_of([&] { (void)prepare(options); });
  };
  EXPECT_EQ(refused({.take = "genes"}), "unknown --take 'genes' (one of: records, cds)");
  EXPECT_EQ(refused({.frame = "1", .take = "cds"}),
            "expected --frame 0 with --take cds (a coding sequence begins with a codon), got 1");
  EXPECT_EQ(refused({.keep_partial = true}), "expected --keep-partial with --take cds only");
  EXPECT_EQ(refused({.stride = 3}), "expected --stride with --window only");
  EXPECT_EQ(refused({.window = -1}), "expected --window and --stride to be from 0 to 2147483647, got -1 and 0");
  EXPECT_EQ(refused({.frame = "all", .window = 3}), "expected --frame 0 with --window, got all");
}

TEST(SoftMask, IsThatOfLowerCaseLetters) {
  const fs::path folder = fresh_folder();
  const std::string input = write_text(folder / "x.fa", ">a\nACGacGTTTTTt\nAC\n>b\naCG\n");
  (void)prepare({.inputs = {input}, .output = folder / "x", .reverse_complement = true, .soft_mask = true});
  const TokenFile file((folder / "x").string());
  EXPECT_EQ(file.masked(0, 0, 4), (std::vector<bool>{false, true, false, true}));
  EXPECT_EQ(file.masked(1, 0, 4), (std::vector<bool>{true, false, false, true})) << "GTa AAA AAC gtC";
  EXPECT_EQ(file.masked(2, 0, 1), std::vector<bool>{true});
  file.check_content();
  const std::string genbank = write_text(folder / "x.gbk", genbank_record("acgacg", {}));
  EXPECT_EQ(message_of([&] { (void)prepare({.inputs = {genbank}, .output = folder / "y", .soft_mask = true}); }),
            "'" + genbank +
                "' is GenBank, whose bases are lower case whatever they are: expected FASTA or GFF3 for "
                "--soft-mask");
}

}  // namespace
}  // namespace longfold::data
