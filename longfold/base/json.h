// JSON that others wrote: nothing in it is trusted.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace longfold::base {

// An object. UserError that says which of `what` it is ("the header"), after `where`: no JSON, no object, two entries
// of one name (of which the library would keep the last without a word), or nested deeper than any file of ours.
[[nodiscard]] nlohmann::ordered_json parse_object(std::string_view text, const std::string& where,
                                                  const std::string& what);

// For a message: a value as it stands there, shortened; of a list or an object only that it is one.
[[nodiscard]] std::string shown(const nlohmann::ordered_json& json);

}  // namespace longfold::base
