#include "longfold/train/event_file.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>

#include "longfold/base/files.h"
#include "tests/scratch.h"

namespace longfold::train {
namespace {

// A reader of its own: records with both checksums, and fields by number and wire type.
uint64_t little_endian(std::string_view bytes, size_t at, size_t count) {
  uint64_t value = 0;
  for (size_t i = count; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes.at(at + i));
  return value;
}

uint32_t crc_bit_by_bit(std::string_view bytes) {
  uint32_t crc = 0xffffffff;
  for (const char byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int i = 0; i < 8; ++i) crc = (crc & 1) != 0 ? (crc >> 1) ^ 0x82f63b78 : crc >> 1;
  }
  crc = ~crc;
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8;
}

std::vector<std::string> records_in(const std::string& file) {
  std::vector<std::string> records;
  for (size_t at = 0; at < file.size();) {
    const uint64_t length = little_endian(file, at, 8);
    EXPECT_EQ(little_endian(file, at + 8, 4), crc_bit_by_bit(file.substr(at, 8)));
    records.push_back(file.substr(at + 12, length));
    EXPECT_EQ(little_endian(file, at + 12 + length, 4), crc_bit_by_bit(records.back()));
    at += 16 + length;
  }
  return records;
}

struct Field {
  uint64_t number = 0;  // of a varint and the fixed ones
  std::string bytes;
};

std::multimap<uint64_t, Field> fields_of(const std::string& message) {
  std::multimap<uint64_t, Field> fields;
  size_t at = 0;
  const auto varint = [&] {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = static_cast<unsigned char>(message.at(at++));
      value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < message.size()) {
    const uint64_t key = varint();
    Field field;
    switch (key & 7) {
      case 0:
        field.number = varint();
        break;
      case 1:
        field.number = little_endian(message, at, 8), at += 8;
        break;
      case 2:
        field.number = varint(), field.bytes = message.substr(at, field.number), at += field.number;
        break;
      case 5:
        field.number = little_endian(message, at, 4), at += 4;
        break;
      default:
        ADD_FAILURE() << "wire type " << (key & 7);
        return fields;
    }
    fields.emplace(key >> 3, field);
  }
  return fields;
}

std::string only_file_in(const std::filesystem::path& folder) {
  const std::filesystem::path path = std::filesystem::directory_iterator(folder)->path();
  EXPECT_EQ(path.filename().string().find("events.out.tfevents."), 0);
  return base::read_file(path);
}

TEST(EventFile, ChecksumsAreCastagnoli) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(crc32c(""), 0u);
}

TEST(EventFile, HoldsWhatTensorBoardReads) {
  const ScratchFolder folder;
  {
    EventFile file(folder / "events", 6);
    file.write(7, {{"loss/train", 4.25}, {"loss/held_out", std::nullopt}, {"memory/live", 5e9}});
    file.write(300, {{"loss/train", std::nan("")}});
    file.flush();
  }
  const std::vector<std::string> records = records_in(only_file_in(folder / "events"));
  ASSERT_EQ(records.size(), 4);
  EXPECT_EQ(fields_of(records[0]).find(3)->second.bytes, "brain.Event:2");

  const auto start = fields_of(records[1]);
  EXPECT_EQ(start.find(2)->second.number, 7) << "the first step of this run";
  EXPECT_EQ(fields_of(start.find(7)->second.bytes).find(1)->second.number, 1) << "START";

  const auto event = fields_of(records[2]);
  EXPECT_GT(std::bit_cast<double>(event.find(1)->second.number), 1.7e9) << "seconds since 1970";
  EXPECT_EQ(event.find(2)->second.number, 7);
  std::map<std::string, float> values;
  const auto summary = fields_of(event.find(5)->second.bytes);
  for (const auto& [field, value] : summary) {
    EXPECT_EQ(field, 1);
    const auto parts = fields_of(value.bytes);
    values[parts.find(1)->second.bytes] = std::bit_cast<float>(static_cast<uint32_t>(parts.find(2)->second.number));
  }
  EXPECT_EQ(values, (std::map<std::string, float>{{"loss/train", 4.25f}, {"memory/live", 5e9f}}));
  EXPECT_EQ(fields_of(records[3]).find(2)->second.number, 300);
}

}  // namespace
}  // namespace longfold::train
