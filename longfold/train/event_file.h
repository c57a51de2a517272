// Numbers as TensorBoard reads them: FOLDER/events.out.tfevents.SECONDS.HOST.PROCESS, records of TFRecord, each a
// protobuf `Event`:
//
//   u64 length · u32 masked CRC-32C of these 8 bytes · Event · u32 masked CRC-32C of the Event     (little endian)
//
//   Event    double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5; SessionLog = 7
//   Summary  repeated Value { string tag = 1; float simple_value = 2 } = 1
//
// Each run of the program writes a file of its own. Its first step is in a SessionLog with status START, for which
// TensorBoard drops what older files say of that step and later ones: they are done again after a kill.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "longfold/base/files.h"

namespace longfold::train {

using Scalars = std::vector<std::pair<std::string_view, std::optional<double>>>;

class EventFile {
 public:
  EventFile(const std::filesystem::path& folder, int64_t done);  // UserError if it cannot be created
  void write(int64_t step, const Scalars& scalars);              // those that are there; RunError
  void flush();                                                  // to the disk; RunError

 private:
  void append(std::string_view event);

  std::filesystem::path path_;
  base::FileHandle file_;
};

// CRC-32C (Castagnoli), which zlib does not have.
[[nodiscard]] uint32_t crc32c(std::string_view bytes);

}  // namespace longfold::train
