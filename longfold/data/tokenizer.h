// Nucleotides to token ids and back. Two tables are built in; ids 0-4 are the same in both:
//
//   0 [UNK]  1 [CLS]  2 [SEP]  3 [PAD]  4 [MASK]
//
//   genslm69    ids 5-68 are the 64 codons in the order of the GenSLM tokenizer; 3 letters a token
//   nucleotide  5 A  6 C  7 G  8 T; 1 letter a token
//
// U is read as T, lower case as upper case. A token with an IUPAC ambiguity code (R Y S W K M B D H V N) becomes [UNK].
// No token is added at the ends of a record.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace longfold::data {

// What an id means: a name and a table. A data set carries its table, so this can also be one that is not built in.
class Tokenizer {
 public:
  Tokenizer(std::string name, std::vector<std::string> vocabulary);

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const std::vector<std::string>& vocabulary() const { return vocabulary_; }  // id -> text
  [[nodiscard]] int64_t vocab_size() const { return static_cast<int64_t>(vocabulary_.size()); }
  [[nodiscard]] int64_t letters_per_token() const { return letters_; }
  // "fnv1a64:" and 16 hex digits: FNV-1a of the texts, each closed by a zero byte. Tells tables apart; not
  // cryptographic.
  [[nodiscard]] const std::string& hash() const { return hash_; }
  [[nodiscard]] int64_t pad() const { return pad_; }  // the id of [PAD]
  [[nodiscard]] bool in_loss(int64_t id) const;       // false for [PAD] and [UNK], which no loss counts
  [[nodiscard]] std::optional<int64_t> id(std::string_view text) const;
  [[nodiscard]] std::string decode(std::span<const int64_t> ids) const;  // UserError for an id outside the table

  friend bool operator==(const Tokenizer&, const Tokenizer&) = default;

 private:
  std::string name_;
  std::vector<std::string> vocabulary_;
  std::string hash_;
  int64_t letters_ = 1;
  int64_t pad_ = 0;
  int64_t unknown_ = 0;
};

[[nodiscard]] std::vector<std::string> tokenizer_names();
[[nodiscard]] Tokenizer make_tokenizer(std::string_view name);  // UserError that names the known ones

// What is wrong with the first letter of `bases` that is no nucleotide and no ambiguity code: its index.
[[nodiscard]] std::optional<size_t> find_non_nucleotide(std::string_view bases);

// Encodes one record that arrives in pieces, from base `frame` on (0 <= frame < letters_per_token).
class Encoder {
 public:
  struct Counts {
    int64_t bases = 0;      // all that came
    int64_t ambiguous = 0;  // of them, IUPAC ambiguity codes
    int64_t tokens = 0;
    int64_t unknown = 0;  // of them, [UNK]
    // Bases in no token: those before the frame and a partial codon at the end. bases == tokens * letters + truncated.
    int64_t truncated = 0;
  };

  Encoder(const Tokenizer& tokenizer, int64_t frame);
  // Appends the ids that are complete to `ids`, and to `masked` whether a letter of theirs is lower case. Every letter
  // must be one that find_non_nucleotide lets pass.
  void encode(std::string_view bases, std::vector<int32_t>& ids, std::vector<bool>* masked = nullptr);
  [[nodiscard]] Counts finish();  // the counts of the record; the encoder is then ready for the next one

 private:
  int64_t letters_;
  int64_t frame_;
  int32_t unknown_id_;
  std::vector<int32_t> id_of_code_;  // base-4 number of a token's letters -> id
  Counts counts_;
  int64_t to_skip_;
  int64_t filled_ = 0;
  int32_t code_ = 0;
  bool has_ambiguous_ = false;
  bool has_lower_ = false;
};

}  // namespace longfold::data
