#include "longfold/base/safetensors.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "longfold/base/error.h"
#include "longfold/base/files.h"
#include "longfold/base/json.h"

namespace longfold::base {
namespace {

static_assert(std::endian::native == std::endian::little, "headers and tensors are little endian");

using Json = nlohmann::ordered_json;

constexpr uint64_t kLargestHeader = 100'000'000;

struct DtypeSize {
  std::string_view name;
  uint64_t size;
};
constexpr std::array<DtypeSize, 15> kDtypes{{{"BOOL", 1},
                                             {"U8", 1},
                                             {"I8", 1},
                                             {"F8_E4M3", 1},
                                             {"F8_E5M2", 1},
                                             {"U16", 2},
                                             {"I16", 2},
                                             {"F16", 2},
                                             {"BF16", 2},
                                             {"U32", 4},
                                             {"I32", 4},
                                             {"F32", 4},
                                             {"U64", 8},
                                             {"I64", 8},
                                             {"F64", 8}}};

std::string format_shape(std::span<const int64_t> shape) {
  return Json(std::vector(shape.begin(), shape.end())).dump();
}

// Nothing on overflow.
std::optional<uint64_t> bytes_of(std::string_view dtype, std::span<const int64_t> shape) {
  std::optional<uint64_t> bytes = safetensors_element_size(dtype);
  for (const int64_t size : shape) {
    uint64_t product = 0;
    if (!bytes || size < 0 || __builtin_mul_overflow(*bytes, static_cast<uint64_t>(size), &product)) return {};
    bytes = product;
  }
  return bytes;
}

bool is_count(const Json& json) {
  return json.is_number_integer() &&
         (json.is_number_unsigned() ? json.get<uint64_t>() <= uint64_t{std::numeric_limits<int64_t>::max()}
                                    : json.get<int64_t>() >= 0);
}

TensorEntry parse_entry(const std::string& name, const Json& json, uint64_t data_size, const std::string& where) {
  const std::string tensor = where + "tensor '" + name + "': ";
  const auto is_counts = [](const Json& list) { return list.is_array() && std::ranges::all_of(list, is_count); };
  if (!json.is_object() || json.size() != 3 || !json.contains("dtype") || !json["dtype"].is_string() ||
      !json.contains("shape") || !is_counts(json["shape"]) || !json.contains("data_offsets") ||
      !is_counts(json["data_offsets"]) || json["data_offsets"].size() != 2) {
    throw UserError(tensor + "expected dtype, shape and data_offsets, got " + json.dump().substr(0, 200));
  }
  TensorEntry entry{.name = name,
                    .dtype = json["dtype"],
                    .shape = json["shape"].get<std::vector<int64_t>>(),
                    .begin = json["data_offsets"][0],
                    .end = json["data_offsets"][1]};
  if (!safetensors_element_size(entry.dtype)) throw UserError(tensor + "unknown dtype '" + entry.dtype + "'");
  if (entry.begin > entry.end || entry.end > data_size) {
    throw UserError(tensor + "expected data_offsets within the " + std::to_string(data_size) + " bytes of data, got " +
                    json["data_offsets"].dump() + " (a truncated file?)");
  }
  const std::optional<uint64_t> bytes = bytes_of(entry.dtype, entry.shape);
  if (bytes != entry.end - entry.begin) {
    throw UserError(tensor + "expected " + (bytes ? std::to_string(*bytes) : "at most 2^64") + " bytes for " +
                    entry.dtype + " " + format_shape(entry.shape) + ", got " + std::to_string(entry.end - entry.begin));
  }
  return entry;
}

void check_no_holes(std::span<const TensorEntry> sorted, uint64_t data_size, const std::string& where) {
  uint64_t end = 0;
  for (const TensorEntry& entry : sorted) {
    if (entry.begin != end) {
      throw UserError(where + "tensor '" + entry.name + "': expected its data to begin at byte " + std::to_string(end) +
                      ", got " + std::to_string(entry.begin) + (entry.begin < end ? " (overlap)" : " (hole)"));
    }
    end = entry.end;
  }
  if (end != data_size) {
    throw UserError(where + "expected " + std::to_string(end) + " bytes of data, got " + std::to_string(data_size));
  }
}

}  // namespace

std::optional<uint64_t> safetensors_element_size(std::string_view dtype) {
  const auto found = std::ranges::find(kDtypes, dtype, &DtypeSize::name);
  if (found == kDtypes.end()) return {};
  return found->size;
}

void write_safetensors(const std::filesystem::path& path, std::span<const TensorBytes> tensors) {
  Json header = Json::object();
  header["__metadata__"] = {{"format", "pt"}};
  uint64_t end = 0;
  for (const TensorBytes& tensor : tensors) {
    if (bytes_of(tensor.dtype, tensor.shape) != tensor.data.size() || header.contains(tensor.name)) {
      throw std::invalid_argument("[write_safetensors] '" + tensor.name + "' comes twice, or " + tensor.dtype + " " +
                                  format_shape(tensor.shape) + " is not " + std::to_string(tensor.data.size()) +
                                  " bytes");
    }
    header[tensor.name] = {
        {"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {end, end + tensor.data.size()}}};
    end += tensor.data.size();
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  if (text.size() > kLargestHeader) throw std::invalid_argument("[write_safetensors] the header is above 100 MB");
  const uint64_t length = text.size();
  AtomicFile file(path);
  file.write(&length, sizeof length);
  file.write(text);
  for (const TensorBytes& tensor : tensors) file.write(tensor.data.data(), tensor.data.size());
  file.commit();
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : path_(path) {
  const std::string where = "'" + path.string() + "': ";
  file_.reset(std::fopen(path.c_str(), "rb"));
  if (!file_) throw UserError("cannot read '" + path.string() + "': " + std::strerror(errno));
  std::error_code code;
  const uint64_t file_size = std::filesystem::file_size(path, code);
  uint64_t length = 0;
  if (code || std::fread(&length, sizeof length, 1, file_.get()) != 1) {
    throw UserError(where + "too short for a safetensors file");
  }
  if (length > kLargestHeader) {
    throw UserError(where + "expected a header of at most 100 MB, got " + std::to_string(length) + " bytes");
  }
  if (length > file_size - sizeof length) {
    throw UserError(where + "truncated: expected a header of " + std::to_string(length) + " bytes, got " +
                    std::to_string(file_size - sizeof length));
  }
  std::string text(length, '\0');
  if (std::fread(text.data(), 1, length, file_.get()) != length) throw UserError(where + "the header cannot be read");
  data_begin_ = sizeof length + length;
  const uint64_t data_size = file_size - data_begin_;
  const Json header = parse_object(text, where, "the header");
  for (const auto& [name, json] : header.items()) {
    if (name != "__metadata__") tensors_.push_back(parse_entry(name, json, data_size, where));
  }
  std::ranges::stable_sort(tensors_, {}, [](const TensorEntry& e) { return std::pair(e.begin, e.end); });
  check_no_holes(tensors_, data_size, where);
}

const TensorEntry* SafetensorsFile::find(std::string_view name) const {
  const auto found = std::ranges::find(tensors_, name, &TensorEntry::name);
  return found == tensors_.end() ? nullptr : &*found;
}

void SafetensorsFile::read(const TensorEntry& tensor, std::span<std::byte> into) const {
  if (into.size() != tensor.end - tensor.begin) {
    throw std::invalid_argument("[safetensors] expected room for " + std::to_string(tensor.end - tensor.begin) +
                                " bytes of '" + tensor.name + "', got " + std::to_string(into.size()));
  }
  size_t done = 0;  // pread: a file position shared between readers would be state
  while (done < into.size()) {
    const ssize_t count = ::pread(::fileno(file_.get()), into.data() + done, into.size() - done,
                                  static_cast<off_t>(data_begin_ + tensor.begin + done));
    if (count <= 0) {
      throw UserError("'" + path_.string() + "': tensor '" + tensor.name +
                      "' cannot be read: " + (count == 0 ? "the file ends early" : std::strerror(errno)));
    }
    done += static_cast<size_t>(count);
  }
}

}  // namespace longfold::base
