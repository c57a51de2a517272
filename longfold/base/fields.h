// One declaration per option. A config struct lists its members once,
//
//   struct OptimizerConfig {
//     double learning_rate = 1e-3;
//     template <class Self, class Visitor>
//     static void fields(Self& self, Visitor&& visit) {
//       visit("learning_rate", self.learning_rate, "peak learning rate, reached after the warm-up");
//     }
//   };
//
// and gets its JSON form, its parser with checked keys and types, the setting of one option from the command line, and
// its help. A member is bool, int64_t, double, std::string, Bytes, or a struct with fields() of its own (a section).
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "longfold/base/error.h"
#include "longfold/base/text.h"

namespace longfold::base {

template <class T>
concept Section = requires(T& value) { T::fields(value, [](std::string_view, auto&, std::string_view) {}); };

template <class T>
constexpr const char* type_words() {
  if constexpr (std::is_same_v<T, bool>)
    return "true or false";
  else if constexpr (std::is_same_v<T, int64_t>)
    return "a whole number";
  else if constexpr (std::is_same_v<T, double>)
    return "a finite number";
  else if constexpr (std::is_same_v<T, Bytes>)
    return "a size such as 512MiB or 1.5GiB";
  else if constexpr (std::is_same_v<T, std::string>)
    return "a text";
  else
    return "a section";
}

template <class Config>
nlohmann::ordered_json to_json(const Config& config) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  Config::fields(config, [&]<class T>(std::string_view key, const T& value, std::string_view) {
    if constexpr (Section<T>)
      json[std::string(key)] = to_json(value);
    else if constexpr (std::is_same_v<T, Bytes>)
      json[std::string(key)] = value.count;
    else
      json[std::string(key)] = value;
  });
  return json;
}

template <class Config>
std::vector<std::string> field_names(const Config& config) {
  std::vector<std::string> names;
  Config::fields(config, [&](std::string_view key, const auto&, std::string_view) { names.emplace_back(key); });
  return names;
}

namespace detail {

// JSON has no word for what is not finite and would say null.
inline std::string show(const nlohmann::ordered_json& json) {
  if (!json.is_number_float() || std::isfinite(json.get<double>())) return json.dump();
  if (std::isnan(json.get<double>())) return "nan";
  return json.get<double>() > 0 ? "inf" : "-inf";
}

template <class T>
bool read_text(std::string_view text, T& value) {
  if constexpr (std::is_same_v<T, bool>) {
    value = text == "true";
    return text == "true" || text == "false";
  } else if constexpr (std::is_same_v<T, std::string>) {
    value = text;
    return true;
  } else if constexpr (std::is_same_v<T, Bytes>) {
    const std::optional<Bytes> bytes = parse_bytes(text);
    if (bytes) value = *bytes;
    return bytes.has_value();
  } else {
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
    if constexpr (std::is_same_v<T, double>) {
      if (!std::isfinite(value)) return false;
    }
    return code == std::errc{} && end == text.data() + text.size();
  }
}

template <class T>
bool read_value(const nlohmann::ordered_json& json, T& value) {
  if constexpr (std::is_same_v<T, bool>) {
    if (!json.is_boolean()) return false;
    value = json.get<bool>();
  } else if constexpr (std::is_same_v<T, int64_t>) {
    if (!json.is_number_integer()) return false;
    if (json.is_number_unsigned() && json.get<uint64_t>() > uint64_t{INT64_MAX}) return false;
    value = json.get<int64_t>();
  } else if constexpr (std::is_same_v<T, double>) {
    if (!json.is_number()) return false;
    value = json.get<double>();
    return std::isfinite(value);
  } else if constexpr (std::is_same_v<T, Bytes>) {
    if (json.is_string()) return read_text(json.get_ref<const std::string&>(), value);
    return read_value(json, value.count) && value.count >= 0;
  } else {
    if (!json.is_string()) return false;
    value = json.get<std::string>();
  }
  return true;
}

}  // namespace detail

// Reads the keys that `json` has into `config`; keys that are absent keep their value. `where` names the object in
// messages, for instance "recipe.toml: ". Throws UserError for an unknown key (with the nearest one) or a wrong type.
template <class Config>
void from_json(const nlohmann::ordered_json& json, Config& config, const std::string& where,
               const std::string& prefix = "") {
  if (!json.is_object()) {
    const std::string name = prefix.substr(0, prefix.empty() ? 0 : prefix.size() - 1);  // without the dot
    throw UserError(where + "expected " + (name.empty() ? "" : name + " to be ") + "a section, got " +
                    detail::show(json));
  }
  const std::vector<std::string> names = field_names(config);
  for (const auto& [key, unused] : json.items()) {
    if (std::find(names.begin(), names.end(), key) == names.end()) {
      throw UserError(where + "unknown key '" + prefix + key + "'" + suggestion(key, names));
    }
  }
  Config::fields(config, [&]<class T>(std::string_view key, T& value, std::string_view) {
    const auto found = json.find(std::string(key));
    if (found == json.end()) return;
    if constexpr (Section<T>) {
      from_json(*found, value, where, prefix + std::string(key) + ".");
    } else if (!detail::read_value(*found, value)) {
      throw UserError(where + "expected " + prefix + std::string(key) + " to be " + type_words<T>() + ", got " +
                      detail::show(*found));
    }
  });
}

// Sets one option from its dotted name and text, as on the command line: set_field(recipe, "optimizer.beta1", "0.9").
template <class Config>
void set_field(Config& config, std::string_view name, std::string_view text, const std::string& prefix = "") {
  const size_t dot = name.find('.');
  const std::string_view head = name.substr(0, dot);
  bool found = false;
  Config::fields(config, [&]<class T>(std::string_view key, T& value, std::string_view) {
    if (key != head) return;
    if constexpr (Section<T>) {
      if (dot == std::string_view::npos) throw UserError("option '" + prefix + std::string(key) + "' is a section");
      set_field(value, name.substr(dot + 1), text, prefix + std::string(key) + ".");
      found = true;
    } else if (dot == std::string_view::npos) {
      if (!detail::read_text(text, value)) {
        throw UserError("expected " + prefix + std::string(key) + " to be " + type_words<T>() + ", got '" +
                        std::string(text) + "'");
      }
      found = true;
    }
  });
  if (!found) {
    throw UserError("unknown option '" + prefix + std::string(name) + "'" + suggestion(head, field_names(config)));
  }
}

// Dotted names of all options.
template <class Config>
std::vector<std::string> option_names(const Config& config, const std::string& prefix = "") {
  std::vector<std::string> names;
  Config::fields(config, [&]<class T>(std::string_view key, const T& value, std::string_view) {
    std::string name = prefix + std::string(key);
    if constexpr (Section<T>) {
      const std::vector<std::string> inner = option_names(value, name + ".");
      names.insert(names.end(), inner.begin(), inner.end());
    } else {
      names.push_back(std::move(name));
    }
  });
  return names;
}

// One line per option: name, default, help.
template <class Config>
std::string describe(const Config& config, const std::string& prefix = "") {
  std::string text;
  Config::fields(config, [&]<class T>(std::string_view key, const T& value, std::string_view help) {
    const std::string name = prefix + std::string(key);
    if constexpr (Section<T>) {
      text += describe(value, name + ".");
    } else {
      nlohmann::ordered_json shown;
      if constexpr (std::is_same_v<T, Bytes>)
        shown = format_bytes(value.count);
      else
        shown = value;
      std::string line = "  --" + name + " " + shown.dump();
      line.resize(std::max<size_t>(line.size() + 1, 44), ' ');
      text += line + std::string(help) + "\n";
    }
  });
  return text;
}

}  // namespace longfold::base
