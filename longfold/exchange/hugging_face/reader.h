// Reading config.json key by key.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "longfold/base/error.h"
#include "longfold/base/json.h"

namespace longfold::exchange {

// One object, whose keys are read by name and type. Every failure is a UserError that names the key, after `where`.
class Reader {
 public:
  static constexpr int64_t kLargest = std::numeric_limits<int32_t>::max();  // so that no product of two overflows

  Reader(const nlohmann::ordered_json& json, std::string where) : json_(json), where_(std::move(where)) {}

  [[noreturn]] void refuse(std::string_view key, const std::string& expected) const {
    const nlohmann::ordered_json* value = find(key);
    const std::string name = where_ + std::string(key);
    if (value == nullptr) throw base::UserError(name + " is missing, expected " + expected);
    throw base::UserError(name + " is " + base::shown(*value) + ", expected " + expected);
  }
  // Null counts as absent.
  [[nodiscard]] const nlohmann::ordered_json* find(std::string_view key) const {
    const auto found = json_.find(std::string(key));
    return found == json_.end() || found->is_null() ? nullptr : &*found;
  }
  [[nodiscard]] std::string text(std::string_view key, const std::string& expected) const {
    const nlohmann::ordered_json* value = find(key);
    if (value == nullptr || !value->is_string()) refuse(key, expected);
    return value->get<std::string>();
  }
  [[nodiscard]] double number(std::string_view key) const {
    const nlohmann::ordered_json* value = find(key);
    if (value == nullptr || !value->is_number() || !std::isfinite(value->get<double>())) refuse(key, "a number");
    return value->get<double>();
  }
  void read(std::string_view key, int64_t& into) const {
    const nlohmann::ordered_json* value = find(key);
    const bool is_whole = value != nullptr && value->is_number_integer();
    const double size = is_whole ? value->get<double>() : 0;  // an unsigned one may be above int64
    if (!is_whole || size < 1 || size > static_cast<double>(kLargest)) {
      refuse(key, "a whole number from 1 to " + std::to_string(kLargest));
    }
    into = value->get<int64_t>();
  }
  void read(std::string_view key, double& into) const { into = number(key); }
  void read(std::string_view key, bool& into) const {
    const nlohmann::ordered_json* value = find(key);
    if (value == nullptr || !value->is_boolean()) refuse(key, "true or false");
    into = value->get<bool>();
  }

 private:
  const nlohmann::ordered_json& json_;
  std::string where_;
};

}  // namespace longfold::exchange
