// A file without a name, which is gone when nobody has it open any more.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>

namespace longfold::techniques {

class TemporaryFile {
 public:
  // In `folder`, which is made where it is missing. base::UserError where there can be none.
  explicit TemporaryFile(std::filesystem::path folder);
  ~TemporaryFile();
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  // base::RunError that names the folder.
  void write(const void* data, int64_t bytes, int64_t offset) const;
  void read(void* data, int64_t bytes, int64_t offset) const;
  // Makes the file longer by that, all zeros, and maps it: what is written there is in the file.
  [[nodiscard]] void* map_more(int64_t bytes);
  // Of memory that map_more() gave.
  void unmap(void* begin, int64_t bytes);
  // Begins to write its pages, which need not stay in memory.
  void let_go(void* begin, int64_t bytes) const;

 private:
  [[noreturn]] void fail(const char* what, int64_t bytes, const char* why) const;

  std::filesystem::path folder_;
  int descriptor_;
  int64_t mapped_ = 0;
  std::map<void*, int64_t> offsets_;  // of what is mapped
};

}  // namespace longfold::techniques
