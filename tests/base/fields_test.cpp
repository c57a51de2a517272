#include "longfold/base/fields.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace longfold::base {
namespace {

struct Inner {
  int64_t steps = 10;
  double rate = 0.5;
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("steps", self.steps, "how many");
    visit("rate", self.rate, "how fast");
  }
};
struct Outer {
  std::string name = "x";
  bool on = false;
  Bytes limit;
  Inner inner;
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("name", self.name, "what");
    visit("on", self.on, "whether");
    visit("limit", self.limit, "how much");
    visit("inner", self.inner, "the rest");
  }
};

std::string message_of(const auto& action) {
  try {
    action();
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(Fields, JsonRoundTrip) {
  Outer config;
  config.inner.steps = 7;
  config.limit = Bytes{1536};
  Outer read;
  from_json(to_json(config), read, "");
  EXPECT_EQ(to_json(read).dump(), R"({"name":"x","on":false,"limit":1536,"inner":{"steps":7,"rate":0.5}})");
}

TEST(Fields, UnknownKeyNamesTheNearest) {
  Outer config;
  EXPECT_EQ(message_of([&] { from_json({{"inner", {{"step", 3}}}}, config, "r.toml: "); }),
            "r.toml: unknown key 'inner.step', did you mean 'steps'?");
}

TEST(Fields, WrongTypeNamesKeyAndValue) {
  Outer config;
  EXPECT_EQ(message_of([&] { from_json({{"inner", {{"steps", "many"}}}}, config, "r.toml: "); }),
            "r.toml: expected inner.steps to be a whole number, got \"many\"");
  EXPECT_EQ(message_of([&] { from_json({{"inner", {{"steps", 1.5}}}}, config, ""); }),
            "expected inner.steps to be a whole number, got 1.5");
}

TEST(Fields, EveryRefusalNamesItsKey) {
  const auto from = [](const nlohmann::ordered_json& json) {
    return message_of([&] {
      Outer config;
      from_json(json, config, "r.toml: ");
    });
  };
  const std::string size = "r.toml: expected limit to be a size such as 512MiB or 1.5GiB, got ";
  EXPECT_EQ(from({{"limit", "banana"}}), size + "\"banana\"");
  EXPECT_EQ(from({{"limit", -1}}), size + "-1");
  EXPECT_EQ(from({{"limit", true}}), size + "true");
  EXPECT_EQ(from({{"inner", 3}}), "r.toml: expected inner to be a section, got 3");
  EXPECT_EQ(from(3), "r.toml: expected a section, got 3");
  EXPECT_EQ(from({{"inner", {{"steps", uint64_t{1} << 63}}}}),
            "r.toml: expected inner.steps to be a whole number, got 9223372036854775808");
  Outer config;
  EXPECT_EQ(message_of([&] { set_field(config, "limit", "banana"); }),
            "expected limit to be a size such as 512MiB or 1.5GiB, got 'banana'");
}

TEST(Fields, NumbersMustBeFinite) {
  Outer config;
  const double infinity = std::numeric_limits<double>::infinity();
  const auto from = [&](double rate) {
    return message_of([&] { from_json({{"inner", {{"rate", rate}}}}, config, ""); });
  };
  EXPECT_EQ(from(infinity), "expected inner.rate to be a finite number, got inf");
  EXPECT_EQ(from(-infinity), "expected inner.rate to be a finite number, got -inf");
  EXPECT_EQ(from(std::nan("")), "expected inner.rate to be a finite number, got nan");
  for (const std::string text : {"inf", "-inf", "nan", "1e999", "infinity"}) {
    EXPECT_EQ(message_of([&] { set_field(config, "inner.rate", text); }),
              "expected inner.rate to be a finite number, got '" + text + "'");
  }
}

TEST(Fields, SetsOneOptionFromText) {
  Outer config;
  set_field(config, "inner.rate", "0.25");
  set_field(config, "limit", "2KiB");
  set_field(config, "on", "true");
  EXPECT_EQ(config.inner.rate, 0.25);
  EXPECT_EQ(config.limit.count, 2048);
  EXPECT_TRUE(config.on);
  EXPECT_EQ(message_of([&] { set_field(config, "inner.steps", "3x"); }),
            "expected inner.steps to be a whole number, got '3x'");
  EXPECT_EQ(message_of([&] { set_field(config, "iner.steps", "3"); }),
            "unknown option 'iner.steps', did you mean 'inner'?");
}

}  // namespace
}  // namespace longfold::base
