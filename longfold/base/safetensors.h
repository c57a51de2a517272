// The safetensors format: named tensors as plain bytes behind a JSON header. Knows dtypes by name and size only.
//
// u64 header length (little endian) · JSON header, padded with spaces to a multiple of 8 · tensors without holes or
// overlap. A reader trusts nothing in the header: every offset, size and name is checked against the file first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "longfold/base/files.h"

namespace longfold::base {

// Bytes of one element of "F32", "BF16", "I64", ...; nothing for a dtype that the format does not know.
[[nodiscard]] std::optional<uint64_t> safetensors_element_size(std::string_view dtype);

struct TensorBytes {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  std::span<const std::byte> data;
};

// Whole or not there (AtomicFile); tensors are stored in the given order, which keeps the bytes reproducible.
// std::invalid_argument if a tensor contradicts itself or a name comes twice, RunError if the disk fails.
void write_safetensors(const std::filesystem::path& path, std::span<const TensorBytes> tensors);

struct TensorEntry {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  uint64_t begin = 0;  // byte range behind the header
  uint64_t end = 0;
};

// An open file whose header has been checked. Every failure is a UserError that names the file and the tensor.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);

  [[nodiscard]] const std::vector<TensorEntry>& tensors() const { return tensors_; }  // in file order
  [[nodiscard]] const TensorEntry* find(std::string_view name) const;
  void read(const TensorEntry& tensor, std::span<std::byte> into) const;  // exactly its size

 private:
  std::filesystem::path path_;
  FileHandle file_;
  uint64_t data_begin_ = 0;
  std::vector<TensorEntry> tensors_;
};

}  // namespace longfold::base
