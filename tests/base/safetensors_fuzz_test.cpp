// Safetensors files, spoiled: refused, or read as what they say. The format has no checksum, so that a changed byte of
// data is read as it is (checkpoints have checksums: tests/train/checkpoint_fuzz_test.cpp); nothing else may change.
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <vector>

#include "longfold/base/error.h"
#include "longfold/base/safetensors.h"
#include "tests/base/fuzz.h"
#include "tests/fuzz/input_file.h"
#include "tests/scratch.h"
#include "tests/spoil.h"

namespace longfold::base {
namespace {

struct Read {
  std::string name, dtype, bytes;
  std::vector<int64_t> shape;
  friend bool operator==(const Read&, const Read&) = default;
};

// Nothing if it is refused.
std::optional<std::vector<Read>> read_all(const std::string& bytes) {
  const InputFile input(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  try {
    const SafetensorsFile file(input.path());
    std::vector<Read> all;
    for (const TensorEntry& entry : file.tensors()) {
      Read& one = all.emplace_back(entry.name, entry.dtype, std::string(entry.end - entry.begin, '\0'), entry.shape);
      file.read(entry, std::as_writable_bytes(std::span(one.bytes)));
    }
    return all;
  } catch (const UserError&) {
    return {};
  }
}

std::string example() {
  std::vector<float> floats(300);
  std::iota(floats.begin(), floats.end(), 0.5f);
  const std::vector<int64_t> numbers{1, -2, 3};
  const std::vector<TensorBytes> tensors{{"blocks.0.weight", "F32", {30, 10}, std::as_bytes(std::span(floats))},
                                         {"count", "I64", {3}, std::as_bytes(std::span(numbers))},
                                         {"none", "F16", {0, 4}, {}}};
  const ScratchFolder folder;
  write_safetensors(folder / "x.safetensors", tensors);
  return read_file(folder / "x.safetensors");
}

size_t header_end(const std::string& bytes) {
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  return sizeof length + length;
}

TEST(SafetensorsFuzz, NoCutIsRead) {
  const std::string bytes = example();
  ASSERT_EQ(read_all(bytes).value().size(), 3u);
  for_each_cut(bytes, 1, [](const std::string& cut, size_t size) { EXPECT_FALSE(read_all(cut)) << size; });
}

TEST(SafetensorsFuzz, AFlippedBitOfTheHeaderIsRefusedOrChangesAWordAlone) {
  const std::string bytes = example(), header = bytes.substr(0, header_end(bytes)), data = bytes.substr(header.size());
  const std::vector<Read> right = read_all(bytes).value();
  for_each_flip(header, 0, 1, [&](const std::string& spoiled, size_t at) {
    const auto read = read_all(spoiled + data);
    if (!read) return;
    // What is left is another name, dtype of the same size, or shape of the same product: whoever asks for a tensor by
    // name, dtype and shape is told.
    ASSERT_EQ(read->size(), right.size()) << at;
    int different = 0;
    for (size_t i = 0; i < right.size(); ++i) {
      EXPECT_EQ((*read)[i].bytes, right[i].bytes) << at;
      different += (*read)[i] != right[i];
    }
    EXPECT_LE(different, 1) << at;
  });
}

TEST(SafetensorsFuzz, AFlippedBitOfTheDataIsReadAsItIs) {
  const std::string bytes = example();
  const std::vector<Read> right = read_all(bytes).value();
  const size_t begin = header_end(bytes);
  for_each_flip(bytes, begin, kSpoiledEvery, [&](const std::string& spoiled, size_t at) {
    const auto read = read_all(spoiled);
    ASSERT_TRUE(read) << at;
    std::string data;
    for (size_t i = 0; i < right.size(); ++i) {
      data += (*read)[i].bytes;
      EXPECT_TRUE((*read)[i].name == right[i].name && (*read)[i].shape == right[i].shape) << at;
    }
    EXPECT_EQ(data, spoiled.substr(begin)) << at;
  });
}

TEST(SafetensorsFuzz, WhateverTheBytes) {
  for_each_spoiled({example(), example().substr(0, 400)},
                   {"{", "}", "[", "]", "\"", ",", ":", "0", "99999999999999999999", "-1", "1e9", "\"F32\"", "\"BOOL\"",
                    "null", "\"data_offsets\":[0,0]", "\\ud800", "\xff", "{\"a\":{\"a\":{}}}", std::string(8, '\0')},
                   20'000, [](const std::string& bytes) {
                     fuzz_safetensors(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
                   });
}

}  // namespace
}  // namespace longfold::base
