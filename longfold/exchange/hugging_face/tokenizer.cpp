#include "longfold/exchange/hugging_face/tokenizer.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "longfold/base/error.h"
#include "longfold/base/json.h"
#include "longfold/base/text.h"

namespace longfold::exchange {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kUnknown = "[UNK]";
// Their names for what a table may have.
constexpr std::array kSpecial{std::pair{"unk_token", "[UNK]"}, std::pair{"cls_token", "[CLS]"},
                              std::pair{"sep_token", "[SEP]"}, std::pair{"pad_token", "[PAD]"},
                              std::pair{"mask_token", "[MASK]"}};

bool is_letter(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

bool is_of_letters(std::string_view text) {
  return std::ranges::all_of(text, is_letter);
}

bool is_of_bases(std::string_view text) {
  return text.find_first_not_of("ACGT") == std::string_view::npos;
}

// Texts stand for themselves there, wherever they are in a sequence; what no sequence gives an id must not match one.
void require_same_ids(const std::string& name, std::span<const std::string> vocabulary, int64_t letters) {
  const std::string where = "the tokenizer '" + name + "' cannot be a tokenizer.json: ";
  std::set<std::string_view> seen;
  for (const std::string& text : vocabulary) {
    const std::string shown = "'" + base::printable(text, base::kShownName) + "'";
    if (text.empty()) throw base::UserError(where + "it has an id without a text");
    if (!seen.insert(text).second) throw base::UserError(where + "it has two ids for " + shown);
    if (std::ssize(text) == letters && is_of_letters(text) && !is_of_bases(text)) {
      throw base::UserError(where + "its " + shown +
                            " is no sequence of A, C, G and T, and would be found in one there");
    }
  }
  if (!seen.contains(kUnknown)) throw base::UserError(where + "it has no [UNK]");
}

Json sequence(const char* id, int type) {
  return {{"Sequence", {{"id", id}, {"type_id", type}}}};
}

}  // namespace

Json tokenizer_json(const std::string& name, std::span<const std::string> vocabulary, int64_t letters) {
  require_same_ids(name, vocabulary, letters);
  Json added = Json::array(), table = Json::object(), replacements = Json::array();
  for (size_t id = 0; id < vocabulary.size(); ++id) {
    table[vocabulary[id]] = id;
    if (is_of_letters(vocabulary[id])) continue;
    added.push_back({{"id", id},
                     {"content", vocabulary[id]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  for (const auto& [from, to] : {std::pair{"a", "A"}, {"c", "C"}, {"g", "G"}, {"t", "T"}, {"u", "T"}, {"U", "T"}}) {
    replacements.push_back({{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}});
  }
  return {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", added},
      {"normalizer", {{"type", "Sequence"}, {"normalizers", replacements}}},
      // Whole tokens stay, what is over at the end is removed.
      {"pre_tokenizer",
       {{"type", "Split"},
        {"pattern", {{"Regex", "[\\s\\S]{" + std::to_string(letters) + "}"}}},
        {"behavior", "Removed"},
        {"invert", true}}},
      // Nothing at the ends. Spelt out as transformers writes it when it saves one that has none.
      {"post_processor",
       {{"type", "TemplateProcessing"},
        {"single", Json::array({sequence("A", 0)})},
        {"pair", Json::array({sequence("A", 0), sequence("B", 1)})},
        {"special_tokens", Json::object()}}},
      {"decoder", {{"type", "Fuse"}}},
      {"model", {{"type", "WordLevel"}, {"vocab", table}, {"unk_token", kUnknown}}},
  };
}

Json tokenizer_config_json(std::span<const std::string> vocabulary, int64_t longest) {
  Json json{{"tokenizer_class", "PreTrainedTokenizerFast"},
            {"model_input_names", {"input_ids", "attention_mask"}},
            {"model_max_length", longest},
            {"clean_up_tokenization_spaces", false}};
  for (const auto& [key, text] : kSpecial) {
    if (std::ranges::find(vocabulary, text) != vocabulary.end()) json[key] = text;
  }
  return json;
}

std::optional<std::vector<std::string>> vocabulary_of_tokenizer(std::string_view text) {
  Json json;
  try {
    json = base::parse_object(text, "", "the file");
  } catch (const base::UserError&) {
    return {};  // whoever asks says that it is none of ours
  }
  const Json model = json.value("model", Json());
  const Json table = model.is_object() ? model.value("vocab", Json()) : Json();
  if (!table.is_object() || table.empty()) return {};
  std::vector<std::string> vocabulary(table.size());
  for (const auto& [word, id] : table.items()) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= vocabulary.size()) return {};
    vocabulary[id.get<uint64_t>()] = word;
  }
  // Ours is the one that is written again as it stands, in whatever order; how to cut and pad is the caller's.
  json["truncation"] = json["padding"] = nullptr;
  try {
    const Json ours = tokenizer_json("", vocabulary, std::ssize(vocabulary.back()));
    if (nlohmann::json(ours) != nlohmann::json(json)) return {};
  } catch (const base::UserError&) {
    return {};
  }
  return vocabulary;
}

}  // namespace longfold::exchange
