#include "longfold/base/safetensors.h"

#include <gtest/gtest.h>
#include <array>
#include <cstring>

#include "longfold/base/error.h"
#include "longfold/base/files.h"
#include "tests/scratch.h"

namespace longfold::base {
namespace {

using namespace std::string_literals;

std::string file_of(const std::string& header, const std::string& data) {
  const uint64_t length = header.size();
  std::string bytes(sizeof length, '\0');
  std::memcpy(bytes.data(), &length, sizeof length);
  return bytes + header + data;
}

// The message with which a file of these bytes is refused, without the path in front; "" if it is read.
std::string refusal(const std::string& bytes) {
  const ScratchFolder folder;
  const auto path = folder / "x.safetensors";
  write_file(path, bytes);
  try {
    const SafetensorsFile file(path);
  } catch (const UserError& error) {
    const std::string where = "'" + path.string() + "': ", message = error.what();
    EXPECT_TRUE(message.starts_with(where)) << message;
    return message.substr(std::min(where.size(), message.size()));
  }
  return "";
}

std::string entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return "\"" + name + R"(":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

TEST(Safetensors, LiteralBytes) {
  const ScratchFolder folder;
  const auto path = folder / "x.safetensors";
  const std::array<float, 2> a{1.0F, -2.0F};
  const int64_t b = 258;
  const std::vector<TensorBytes> tensors{{"a", "F32", {2, 1}, std::as_bytes(std::span(a))},
                                         {"b", "I64", {}, std::as_bytes(std::span(&b, 1))},
                                         {"empty", "BF16", {0, 7}, {}}};
  write_safetensors(path, tensors);
  EXPECT_EQ(read_file(path),
            "\xd0\0\0\0\0\0\0\0"s
            R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
            R"("b":{"dtype":"I64","shape":[],"data_offsets":[8,16]},)"
            R"("empty":{"dtype":"BF16","shape":[0,7],"data_offsets":[16,16]}}      )"
            "\0\0\x80\x3f\0\0\0\xc0"s
            "\x02\x01\0\0\0\0\0\0"s);
}

TEST(Safetensors, ReadsWhatItWrote) {
  const ScratchFolder folder;
  const auto path = folder / "x.safetensors";
  const std::array<float, 6> a{1, 2, 3, 4, 5, 6};
  const std::array<uint8_t, 3> b{7, 8, 9};
  const std::vector<TensorBytes> tensors{{"b", "U8", {3}, std::as_bytes(std::span(b))},
                                         {"a", "F32", {2, 3}, std::as_bytes(std::span(a))}};
  write_safetensors(path, tensors);
  const SafetensorsFile file(path);
  ASSERT_EQ(file.tensors().size(), 2);
  EXPECT_EQ(file.find("c"), nullptr);
  ASSERT_NE(file.find("a"), nullptr);
  EXPECT_EQ(file.find("a")->shape, (std::vector<int64_t>{2, 3}));
  std::array<float, 6> read{};
  file.read(*file.find("a"), std::as_writable_bytes(std::span(read)));
  EXPECT_EQ(read, a);
  EXPECT_THROW(file.read(*file.find("b"), std::as_writable_bytes(std::span(read))), std::invalid_argument);
}

TEST(Safetensors, WriterRefusesContradictions) {
  const ScratchFolder folder;
  const auto path = folder / "x.safetensors";
  const std::array<float, 2> a{};
  const auto bytes = std::as_bytes(std::span(a));
  const std::vector<TensorBytes> wrong_size{{"a", "F32", {3}, bytes}};
  const std::vector<TensorBytes> twice{{"a", "F32", {2}, bytes}, {"a", "F32", {2}, bytes}};
  EXPECT_THROW(write_safetensors(path, wrong_size), std::invalid_argument);
  EXPECT_THROW(write_safetensors(path, twice), std::invalid_argument);
}

TEST(SafetensorsRefuses, ShortFile) {
  EXPECT_EQ(refusal("1234567"), "too short for a safetensors file");
}

TEST(SafetensorsRefuses, TruncatedHeader) {
  EXPECT_EQ(refusal(file_of("{}", "").substr(0, 9)), "truncated: expected a header of 2 bytes, got 1");
}

TEST(SafetensorsRefuses, TruncatedData) {
  EXPECT_EQ(refusal(file_of("{" + entry("a", "F32", "[2]", "[0,8]") + "}", "1234567")),
            "tensor 'a': expected data_offsets within the 7 bytes of data, got [0,8] (a truncated file?)");
}

TEST(SafetensorsRefuses, HugeHeader) {
  EXPECT_EQ(refusal("\xff\xff\xff\xff\xff\xff\xff\xff{}"s),
            "expected a header of at most 100 MB, got 18446744073709551615 bytes");
  EXPECT_EQ(refusal("\x01\xe1\xf5\x05\0\0\0\0{}"s), "expected a header of at most 100 MB, got 100000001 bytes");
}

TEST(SafetensorsRefuses, Hole) {
  EXPECT_EQ(
      refusal(file_of("{" + entry("a", "U8", "[1]", "[0,1]") + "," + entry("b", "U8", "[1]", "[2,3]") + "}", "123")),
      "tensor 'b': expected its data to begin at byte 1, got 2 (hole)");
  EXPECT_EQ(refusal(file_of("{" + entry("a", "U8", "[1]", "[0,1]") + "}", "123")), "expected 1 bytes of data, got 3");
}

TEST(SafetensorsRefuses, Overlap) {
  EXPECT_EQ(
      refusal(file_of("{" + entry("a", "U8", "[2]", "[0,2]") + "," + entry("b", "U8", "[2]", "[1,3]") + "}", "123")),
      "tensor 'b': expected its data to begin at byte 2, got 1 (overlap)");
}

TEST(SafetensorsRefuses, UnknownDtype) {
  EXPECT_EQ(refusal(file_of("{" + entry("a", "F33", "[1]", "[0,1]") + "}", "1")), "tensor 'a': unknown dtype 'F33'");
}

TEST(SafetensorsRefuses, ShapeThatIsNotItsBytes) {
  EXPECT_EQ(refusal(file_of("{" + entry("a", "F32", "[2]", "[0,4]") + "}", "1234")),
            "tensor 'a': expected 8 bytes for F32 [2], got 4");
}

TEST(SafetensorsRefuses, ShapeThatOverflows) {
  const std::string shape = "[4611686018427387904,4]";  // times 4 bytes: 2^66
  EXPECT_EQ(refusal(file_of("{" + entry("a", "F32", shape, "[0,0]") + "}", "")),
            "tensor 'a': expected at most 2^64 bytes for F32 " + shape + ", got 0");
}

TEST(SafetensorsRefuses, OffsetsBackwardsOrHuge) {
  EXPECT_NE(refusal(file_of("{" + entry("a", "U8", "[1]", "[1,0]") + "}", "1")), "");
  EXPECT_NE(refusal(file_of("{" + entry("a", "U8", "[1]", "[18446744073709551615,0]") + "}", "1")), "");
  EXPECT_NE(refusal(file_of("{" + entry("a", "U8", "[1]", "[-1,0]") + "}", "1")), "");
}

TEST(SafetensorsRefuses, NotJson) {
  EXPECT_EQ(refusal(file_of("{\"a\"", "")), "the header is no JSON");
  EXPECT_EQ(refusal(file_of("[1]", "")), "the header is no JSON object");
  EXPECT_EQ(refusal(file_of(R"({"a":{"dtype":"U8"}})", "")),
            R"(tensor 'a': expected dtype, shape and data_offsets, got {"dtype":"U8"})");
}

TEST(SafetensorsRefuses, DuplicateNames) {
  const std::string a = entry("a", "U8", "[1]", "[0,1]");
  EXPECT_EQ(refusal(file_of("{" + a + "," + a + "}", "1")), "the header has two entries named 'a'");
}

}  // namespace
}  // namespace longfold::base
