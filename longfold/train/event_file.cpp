#include "longfold/train/event_file.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "longfold/base/error.h"

namespace longfold::train {
namespace {

constexpr std::array<uint32_t, 256> kCrcOfByte = [] {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) != 0 ? 0x82f63b78u : 0u);
    table[i] = value;
  }
  return table;
}();

// TFRecord turns a CRC, so that one of bytes that hold a CRC is not weak.
uint32_t masked(uint32_t crc) {
  return std::rotr(crc, 15) + 0xa282ead8u;
}

template <class Word>
void put_word(std::string& to, Word word) {
  for (size_t i = 0; i < sizeof word; ++i) to += static_cast<char>(word >> (8 * i) & 0xff);
}

// The parts of protobuf that an Event takes.
enum WireType : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

void put_varint(std::string& to, uint64_t value) {
  for (; value >= 0x80; value >>= 7) to += static_cast<char>((value & 0x7f) | 0x80);
  to += static_cast<char>(value);
}
void put_key(std::string& to, uint32_t field, WireType type) {
  put_varint(to, field << 3 | type);
}
void put_number(std::string& to, uint32_t field, uint64_t value) {
  put_key(to, field, kVarint);
  put_varint(to, value);
}
void put_bytes(std::string& to, uint32_t field, std::string_view bytes) {
  put_key(to, field, kBytes);
  put_varint(to, bytes.size());
  to += bytes;
}
void put_double(std::string& to, uint32_t field, double value) {
  put_key(to, field, kFixed64);
  put_word(to, std::bit_cast<uint64_t>(value));
}
void put_float(std::string& to, uint32_t field, float value) {
  put_key(to, field, kFixed32);
  put_word(to, std::bit_cast<uint32_t>(value));
}

// An Event of now, to which its content is added.
std::string event_at(int64_t step) {
  std::string event;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  put_double(event, 1, std::chrono::duration<double>(now).count());
  put_number(event, 2, static_cast<uint64_t>(step));
  return event;
}

std::string file_name() {
  std::array<char, 256> host{};
  if (::gethostname(host.data(), host.size() - 1) != 0) std::strcpy(host.data(), "host");
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return "events.out.tfevents." + std::to_string(std::chrono::duration_cast<std::chrono::seconds>(now).count()) + "." +
         host.data() + "." + std::to_string(::getpid());
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char byte : bytes) crc = (crc >> 8) ^ kCrcOfByte[(crc ^ static_cast<unsigned char>(byte)) & 0xff];
  return ~crc;
}

EventFile::EventFile(const std::filesystem::path& folder, int64_t done) : path_(folder / file_name()) {
  base::make_folder(folder);
  file_.reset(std::fopen(path_.c_str(), "ab"));
  if (!file_) throw base::UserError("cannot write '" + path_.string() + "': " + std::strerror(errno));
  std::string version = event_at(0);
  put_bytes(version, 3, "brain.Event:2");
  append(version);
  constexpr uint64_t kStart = 1;
  std::string log;
  put_number(log, 1, kStart);
  std::string start = event_at(done + 1);
  put_bytes(start, 7, log);
  append(start);
}

void EventFile::write(int64_t step, const Scalars& scalars) {
  std::string summary;
  for (const auto& [tag, number] : scalars) {
    if (!number) continue;
    std::string value;
    put_bytes(value, 1, tag);
    put_float(value, 2, static_cast<float>(*number));
    put_bytes(summary, 1, value);
  }
  std::string event = event_at(step);
  put_bytes(event, 5, summary);
  append(event);
}

void EventFile::append(std::string_view event) {
  std::string record;
  put_word(record, uint64_t{event.size()});
  put_word(record, masked(crc32c(record)));
  record += event;
  put_word(record, masked(crc32c(event)));
  if (std::fwrite(record.data(), 1, record.size(), file_.get()) != record.size() || std::fflush(file_.get()) != 0) {
    throw base::RunError("cannot write '" + path_.string() + "': " + std::strerror(errno));
  }
}

void EventFile::flush() {
  if (::fsync(::fileno(file_.get())) == 0) return;
  throw base::RunError("cannot write '" + path_.string() + "': " + std::strerror(errno));
}

}  // namespace longfold::train
