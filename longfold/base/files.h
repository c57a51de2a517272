// Files that are either whole or not there.
#pragma once

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace longfold::base {

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using FileHandle = std::unique_ptr<std::FILE, CloseFile>;

// The whole file. Throws UserError with the system's reason if it cannot be read.
[[nodiscard]] std::string read_file(const std::filesystem::path& path);

// Creates the folder and its parents, on the disk too. Throws UserError with the system's reason.
void make_folder(const std::filesystem::path& path);

// Removes a file, if there is one, on the disk too. RunError.
void remove_file(const std::filesystem::path& path);

// Removes a folder that is whole or not there: it first takes a name with AtomicFolder::kPartial in it, on the disk
// too. RunError.
void remove_folder(const std::filesystem::path& path);

// A file that appears under its name only when it is complete: bytes go to a temporary sibling, `commit` flushes it to
// the disk and renames it. Without `commit` the destructor removes the sibling and what stood there before is
// untouched.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);  // UserError if it cannot be created
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* bytes, size_t count);  // RunError, for instance on a full disk
  void write(std::string_view text) { write(text.data(), text.size()); }
  void flush();   // to the disk, still under the temporary name; RunError
  void commit();  // RunError

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  FileHandle file_;
};

void write_file(const std::filesystem::path& path, std::string_view text);

// A file without a name, for what does not fit in memory: it is gone when the program ends, however it ends. RunError
// where the disk is full or the folder cannot be written.
class NamelessFile {
 public:
  explicit NamelessFile(const std::filesystem::path& folder);
  void write(const void* bytes, size_t count);
  void rewind();                                         // to read what was written
  [[nodiscard]] size_t read(void* bytes, size_t count);  // less than `count` at the end only
  void clear();                                          // to write anew

 private:
  [[noreturn]] void fail() const;

  std::filesystem::path folder_;
  FileHandle file_;
};

// AtomicFile for a folder: files are written into a temporary sibling, which `commit` renames. The files must have been
// committed (they are then on the disk). What a killed process leaves is a sibling whose name has kPartial in it.
class AtomicFolder {
 public:
  static constexpr std::string_view kPartial = ".part-";

  explicit AtomicFolder(std::filesystem::path path);  // RunError if it cannot be created
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  [[nodiscard]] const std::filesystem::path& temporary() const { return temporary_; }
  void commit();  // RunError, for instance if a folder of that name has come to be

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
};

}  // namespace longfold::base
