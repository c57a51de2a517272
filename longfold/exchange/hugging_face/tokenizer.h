// tokenizer.json, as Hugging Face's tokenizers and transformers read it, of a table of nucleotides or codons: the same
// ids as data::Encoder gives from a record's first base on.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace longfold::exchange {

// `vocabulary`: the text of each id; a token has `letters`. UserError, in which `name` is that of the table, if no
// tokenizer.json gives the same ids.
[[nodiscard]] nlohmann::ordered_json tokenizer_json(const std::string& name, std::span<const std::string> vocabulary,
                                                    int64_t letters);

// What belongs beside it. `longest`: tokens of a sequence.
[[nodiscard]] nlohmann::ordered_json tokenizer_config_json(std::span<const std::string> vocabulary, int64_t longest);

// The vocabulary of a tokenizer.json that tokenizer_json() gave, perhaps written anew by transformers; nothing for any
// other.
[[nodiscard]] std::optional<std::vector<std::string>> vocabulary_of_tokenizer(std::string_view text);

}  // namespace longfold::exchange
