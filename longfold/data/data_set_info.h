// What a data set says of itself beside its tokens: where the sequences come from and how they were made.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace longfold::data {

struct SequenceInfo {
  std::string name = {};  // the first word of the record's header; of a coding sequence its locus tag or the like
  int64_t frame = 0;      // reading frame within what was taken
  // Empty where the sequence is a whole record:
  std::string record = {};    // that it is of
  std::string location = {};  // within the record, in GenBank's words
  std::string locus_tag = {};
  std::string protein_id = {};
  int64_t table = 0;     // genetic code of a coding sequence, NCBI's number
  int64_t window = 0;    // first base of the window within what was taken
  bool reverse = false;  // the reverse complement of that

  friend bool operator==(const SequenceInfo&, const SequenceInfo&) = default;
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("name", self.name, "");
    visit("frame", self.frame, "");
    visit("record", self.record, "");
    visit("location", self.location, "");
    visit("locus_tag", self.locus_tag, "");
    visit("protein_id", self.protein_id, "");
    visit("table", self.table, "");
    visit("window", self.window, "");
    visit("reverse", self.reverse, "");
  }
};

// How a data set was made, as `longfold prepare` counted it. A record is what is taken as a sequence: a record of the
// input, a coding sequence, a window of one, a reverse complement.
struct PrepareCounts {
  int64_t records = 0;
  int64_t bases = 0;
  int64_t tokens = 0;
  int64_t ambiguous = 0;  // bases that are IUPAC ambiguity codes
  int64_t unknown = 0;    // tokens that became [UNK] for that
  int64_t skipped = 0;    // records too short for a token
  int64_t truncated = 0;  // bases before the frame, or in a partial codon at a record's end
  friend bool operator==(const PrepareCounts&, const PrepareCounts&) = default;
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("records", self.records, "records read");
    visit("bases", self.bases, "letters read");
    visit("tokens", self.tokens, "tokens written");
    visit("ambiguous", self.ambiguous, "letters that are IUPAC ambiguity codes");
    visit("unknown", self.unknown, "tokens that are [UNK]");
    visit("skipped", self.skipped, "records too short for a token");
    visit("truncated", self.truncated, "letters outside every token: before the frame or in a partial codon");
  }
};

// What was taken of the inputs, and what was not: counts of all of them, also in a part of a split.
struct Taking {
  std::string take = "records";
  bool keep_partial = false;
  int64_t window = 0;
  int64_t stride = 0;
  bool reverse_complement = false;
  bool drop_duplicates = false;
  bool soft_mask = false;
  int64_t duplicates = 0;
  int64_t coding = 0;
  int64_t pseudo = 0;
  int64_t remote = 0;
  int64_t partial = 0;
  int64_t broken = 0;
  std::string part = {};
  std::string split_by = {};
  double val = 0;
  double test = 0;
  int64_t split_seed = 0;
  int64_t across = 0;

  friend bool operator==(const Taking&, const Taking&) = default;
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("take", self.take, "records or cds");
    visit("keep_partial", self.keep_partial, "coding sequences too of which an end is not there");
    visit("window", self.window, "tokens of a sequence at most; 0 for no windows");
    visit("stride", self.stride, "tokens from one window to the next");
    visit("reverse_complement", self.reverse_complement, "each sequence a second time, of the other strand");
    visit("drop_duplicates", self.drop_duplicates, "");
    visit("soft_mask", self.soft_mask, "PREFIX.mask says which tokens have lower-case bases");
    visit("duplicates", self.duplicates, "left out: the same as one before, or as its reverse complement");
    visit("coding", self.coding, "coding sequences found");
    visit("pseudo", self.pseudo, "of them left out: of a gene that makes no protein");
    visit("remote", self.remote, "of them left out: partly in another record");
    visit("partial", self.partial, "of them left out: an end is not in the record");
    visit("broken", self.broken, "of them left out: cannot be read");
    visit("part", self.part, "train, val or test");
    visit("split_by", self.split_by, "record, contig, position or cluster");
    visit("val", self.val, "fraction for validation");
    visit("test", self.test, "fraction for tests");
    visit("split_seed", self.split_seed, "");
    visit("across", self.across, "left out: lies on both sides of a border of a split by position");
  }
};

// A coding sequence that was left out.
struct LeftOut {
  std::string kind = {};  // "pseudo", "remote", "partial" or "broken"
  std::string record = {};
  std::string name = {};
  std::string location = {};
  std::string why = {};

  friend bool operator==(const LeftOut&, const LeftOut&) = default;
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("kind", self.kind, "");
    visit("record", self.record, "");
    visit("name", self.name, "");
    visit("location", self.location, "");
    visit("why", self.why, "");
  }
};

struct TokenFileInfo {
  std::vector<std::string> sources = {};
  std::string
      frame;  // "0", "1", "2" or "all"; empty, like the rest but counts.tokens, if not `longfold prepare` wrote it
  PrepareCounts counts = {};
  Taking taking = {};
  std::vector<LeftOut> left_out = {};
};

}  // namespace longfold::data
