#include "longfold/base/json.h"

#include <set>
#include <vector>

#include "longfold/base/error.h"
#include "longfold/base/text.h"

namespace longfold::base {

using Json = nlohmann::ordered_json;

namespace {
constexpr int kDeepest = 64;  // printing and comparing recurse
}  // namespace

Json parse_object(std::string_view text, const std::string& where, const std::string& what) {
  std::vector<std::set<std::string>> keys;
  const auto check = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > kDeepest) throw UserError(where + what + " is nested too deeply");
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second) {
      throw UserError(where + what + " has two entries named '" + printable(parsed.get<std::string>(), kShownName) +
                      "'");
    }
    return true;
  };
  try {
    Json json = Json::parse(text, check);
    if (!json.is_object()) throw UserError(where + what + " is no JSON object");
    return json;
  } catch (const Json::exception&) {
    throw UserError(where + what + " is no JSON");
  }
}

std::string shown(const Json& json) {
  if (json.is_structured()) return json.is_array() ? "a list" : "an object";
  return printable(json.dump(), kShownName);
}

}  // namespace longfold::base
