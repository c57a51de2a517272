#include "longfold/data/tokenizer.h"

#include <algorithm>
#include <array>

#include "longfold/base/error.h"
#include "longfold/base/fnv.h"
#include "longfold/base/text.h"

namespace longfold::data {
namespace {

using base::UserError;

constexpr std::string_view kSpecial = "[UNK] [CLS] [SEP] [PAD] [MASK]";
constexpr std::string_view kCodons =
    "GGC GCC ATC GAC GAA ATG GTG CTG GTC GCG GAT AAA GGT AAG GAG ACC AAC GTT ATT GCA CTC CGC GCT CAG CCG TTC GTA TCG "
    "GGA AAT TAC CTT TTG ACG TCC GGG AGC CCC ACA ACT TCT TTA CGT TAT CAA CGG TTT CAC CCT CCA TGG ATA TCA TGC AGT AGA "
    "CAT TGT CTA AGG TAA CGA TGA TAG";
constexpr std::string_view kBases = "ACGT";

constexpr int8_t kAmbiguous = 4;
constexpr int8_t kNoNucleotide = -1;

// Letter -> 0-3 for A C G T (and U), kAmbiguous, or kNoNucleotide.
constexpr std::array<int8_t, 256> letter_codes() {
  std::array<int8_t, 256> codes{};
  codes.fill(kNoNucleotide);
  const auto set = [&](char upper, int8_t code) {
    codes[static_cast<unsigned char>(upper)] = code;
    codes[static_cast<unsigned char>(upper - 'A' + 'a')] = code;
  };
  for (size_t i = 0; i < kBases.size(); ++i) set(kBases[i], static_cast<int8_t>(i));
  set('U', 3);
  for (const char letter : std::string_view("RYSWKMBDHVN")) set(letter, kAmbiguous);
  return codes;
}
constexpr std::array<int8_t, 256> kLetterCodes = letter_codes();

int8_t code_of(char letter) {
  return kLetterCodes[static_cast<unsigned char>(letter)];
}

std::vector<std::string> words(std::initializer_list<std::string_view> texts) {
  std::vector<std::string> found;
  for (std::string_view text : texts) {
    while (!text.empty()) {
      const size_t end = std::min(text.find(' '), text.size());
      found.emplace_back(text.substr(0, end));
      text.remove_prefix(std::min(end + 1, text.size()));
    }
  }
  return found;
}

std::string hash_of(const std::vector<std::string>& vocabulary) {
  base::Fnv1a64 hash;
  for (const std::string& text : vocabulary) hash.update(text.c_str(), text.size() + 1);
  return hash.text();
}

}  // namespace

Tokenizer::Tokenizer(std::string name, std::vector<std::string> vocabulary)
    : name_(std::move(name)), vocabulary_(std::move(vocabulary)), hash_(hash_of(vocabulary_)) {
  const auto required = [&](std::string_view text) {
    if (const auto found = id(text)) return *found;
    throw UserError("tokenizer '" + name_ + "': expected the table to have " + std::string(text));
  };
  pad_ = required("[PAD]");
  unknown_ = required("[UNK]");
  letters_ = static_cast<int64_t>(vocabulary_.back().size());
}

bool Tokenizer::in_loss(int64_t id) const {
  return id != pad_ && id != unknown_;
}

std::optional<int64_t> Tokenizer::id(std::string_view text) const {
  const auto found = std::find(vocabulary_.begin(), vocabulary_.end(), text);
  if (found == vocabulary_.end()) return std::nullopt;
  return found - vocabulary_.begin();
}

std::string Tokenizer::decode(std::span<const int64_t> ids) const {
  std::string text;
  for (const int64_t id : ids) {
    if (id < 0 || id >= vocab_size()) {
      throw UserError("tokenizer '" + name_ + "': expected an id below " + std::to_string(vocab_size()) + ", got " +
                      std::to_string(id));
    }
    text += vocabulary_[static_cast<size_t>(id)];
  }
  return text;
}

std::vector<std::string> tokenizer_names() {
  return {"genslm69", "nucleotide"};
}

Tokenizer make_tokenizer(std::string_view name) {
  if (name == "genslm69") return Tokenizer("genslm69", words({kSpecial, kCodons}));
  if (name == "nucleotide") return Tokenizer("nucleotide", words({kSpecial, "A C G T"}));
  const std::vector<std::string> known = tokenizer_names();
  const std::string near = base::nearest(name, known);
  throw UserError("unknown tokenizer '" + std::string(name) + "'" +
                  (near.empty() ? "" : ", did you mean '" + near + "'?") + " (one of: " + base::join(known, ", ") +
                  ")");
}

std::optional<size_t> find_non_nucleotide(std::string_view bases) {
  const auto found = std::find_if(bases.begin(), bases.end(), [](char c) { return code_of(c) == kNoNucleotide; });
  if (found == bases.end()) return std::nullopt;
  return static_cast<size_t>(found - bases.begin());
}

Encoder::Encoder(const Tokenizer& tokenizer, int64_t frame)
    : letters_(tokenizer.letters_per_token()),
      frame_(frame),
      unknown_id_(static_cast<int32_t>(tokenizer.id("[UNK]").value())),
      to_skip_(frame) {
  if (frame < 0 || frame >= letters_) {
    throw UserError("expected a frame from 0 to " + std::to_string(letters_ - 1) + " for tokenizer '" +
                    tokenizer.name() + "' (" + std::to_string(letters_) + " letters a token), got " +
                    std::to_string(frame));
  }
  id_of_code_.assign(size_t{1} << (2 * letters_), unknown_id_);
  for (size_t code = 0; code < id_of_code_.size(); ++code) {
    std::string text;
    for (int64_t i = letters_ - 1; i >= 0; --i) text += kBases[(code >> (2 * i)) & 3];
    if (const auto id = tokenizer.id(text)) id_of_code_[code] = static_cast<int32_t>(*id);
  }
}

void Encoder::encode(std::string_view bases, std::vector<int32_t>& ids, std::vector<bool>* masked) {
  counts_.bases += static_cast<int64_t>(bases.size());
  for (const char letter : bases) {
    const int8_t code = code_of(letter);
    if (code == kNoNucleotide) throw UserError(std::string("expected a nucleotide, got '") + letter + "'");
    counts_.ambiguous += code == kAmbiguous;
    if (to_skip_ > 0) {
      --to_skip_;
      continue;
    }
    has_ambiguous_ |= code == kAmbiguous;
    has_lower_ |= letter >= 'a';
    code_ = code_ * 4 + (code & 3);
    if (++filled_ < letters_) continue;
    ids.push_back(has_ambiguous_ ? unknown_id_ : id_of_code_[static_cast<size_t>(code_)]);
    if (masked != nullptr) masked->push_back(has_lower_);
    ++counts_.tokens;
    counts_.unknown += has_ambiguous_;
    filled_ = 0;
    code_ = 0;
    has_ambiguous_ = false;
    has_lower_ = false;
  }
}

Encoder::Counts Encoder::finish() {
  Counts counts = counts_;
  counts.truncated = counts.bases - counts.tokens * letters_;
  counts_ = {};
  to_skip_ = frame_;
  filled_ = 0;
  code_ = 0;
  has_ambiguous_ = false;
  has_lower_ = false;
  return counts;
}

}  // namespace longfold::data
