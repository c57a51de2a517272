#include "longfold/data/sidecar.h"

#include <nlohmann/json.hpp>

#include "longfold/base/error.h"
#include "longfold/base/fields.h"
#include "longfold/base/files.h"
#include "longfold/base/text.h"

namespace longfold::data {
namespace {

using base::UserError;
using nlohmann::ordered_json;

constexpr const char* kFormat = "longfold tokens";
constexpr int64_t kVersion = 1;
constexpr size_t kShownReason = 200;  // of what the JSON library says, which quotes the file

// Of a sequence only what is not as it is for a whole record.
ordered_json entry_of(const SequenceInfo& sequence) {
  ordered_json entry = base::to_json(sequence);
  const ordered_json plain = base::to_json(SequenceInfo());
  for (const auto& [key, value] : plain.items()) {
    if (key != "name" && key != "frame" && entry[key] == value) entry.erase(key);
  }
  return entry;
}

template <class T>
void read_entries(const ordered_json& json, const char* key, const std::string& path, std::vector<T>& entries) {
  const ordered_json& list = json.at(key);
  if (!list.is_array()) throw UserError("'" + path + "' is damaged: expected a list of " + key);
  entries.resize(list.size());
  for (size_t i = 0; i < entries.size(); ++i) {
    base::from_json(list[i], entries[i], "'" + path + "': ", std::string(key) + "[" + std::to_string(i) + "].");
  }
}

}  // namespace

std::string sidecar_text(const Tokenizer& tokenizer, const Sidecar& sidecar) {
  ordered_json sequences = ordered_json::array();
  ordered_json left_out = ordered_json::array();
  for (const SequenceInfo& sequence : sidecar.sequences) sequences.push_back(entry_of(sequence));
  for (const LeftOut& one : sidecar.info.left_out) left_out.push_back(base::to_json(one));
  ordered_json json{
      {"format", kFormat},
      {"version", kVersion},
      {"tokenizer", {{"name", tokenizer.name()}, {"hash", tokenizer.hash()}, {"vocabulary", tokenizer.vocabulary()}}},
      {"sources", sidecar.info.sources},
      {"frame", sidecar.info.frame},
      {"counts", base::to_json(sidecar.info.counts)},
      {"taking", base::to_json(sidecar.info.taking)},
      {"content_hash", sidecar.content_hash},
      {"sequences", sequences},
      {"left_out", left_out}};
  if (!sidecar.mask_hash.empty()) json["mask_hash"] = sidecar.mask_hash;
  // Headers are bytes of any encoding; JSON is UTF-8.
  return json.dump(1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

bool read_sidecar(const std::string& path, Tokenizer& tokenizer, Sidecar& sidecar) {
  try {
    const ordered_json json = ordered_json::parse(base::read_file(path));
    if (json.at("format") != kFormat || json.at("version") != kVersion) {
      const auto shown = [&](const char* key) { return base::printable(json.at(key).dump(), base::kShownName); };
      throw UserError("'" + path + "': expected format \"" + kFormat + "\" version " + std::to_string(kVersion) +
                      ", got " + shown("format") + " version " + shown("version"));
    }
    const ordered_json& table = json.at("tokenizer");
    const bool by_hand = json.size() == 3;  // format, version, tokenizer; longfold prepare writes all keys
    const bool built_in = by_hand && !table.contains("vocabulary");
    tokenizer = built_in ? make_tokenizer(table.at("name").get<std::string>())
                         : Tokenizer(table.at("name"), table.at("vocabulary"));
    if ((!by_hand || table.contains("hash")) && table.at("hash") != tokenizer.hash()) {
      throw UserError("'" + path + "': expected tokenizer hash " + tokenizer.hash() + " for its table, got " +
                      base::printable(table.at("hash").dump(), base::kShownName));
    }
    if (by_hand) return true;
    sidecar.info.sources = json.at("sources");
    sidecar.info.frame = json.at("frame");
    base::from_json(json.at("counts"), sidecar.info.counts, "'" + path + "': ", "counts.");
    sidecar.content_hash = json.at("content_hash");
    read_entries(json, "sequences", path, sidecar.sequences);
    sidecar.mask_hash = json.value("mask_hash", "");
    if (!json.contains("taking")) return false;  // of a version that took whole records only
    base::from_json(json.at("taking"), sidecar.info.taking, "'" + path + "': ", "taking.");
    read_entries(json, "left_out", path, sidecar.info.left_out);
  } catch (const nlohmann::json::exception& error) {
    throw UserError("'" + path + "' is damaged: " + base::printable(error.what(), kShownReason));
  }
  return false;
}

}  // namespace longfold::data
