#include "longfold/base/files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <system_error>
#include <vector>

#include "longfold/base/error.h"

namespace longfold::base {
namespace {

std::string reason() {
  return std::strerror(errno);
}

void sync_folder(const std::filesystem::path& folder) {
  const FileHandle handle(std::fopen(folder.empty() ? "." : folder.c_str(), "r"));
  if (!handle || ::fsync(::fileno(handle.get())) != 0) {
    throw RunError("cannot flush folder '" + folder.string() + "' to the disk: " + reason());
  }
}

// Where the system has no files without a name (NFS has none) the name is taken away at once.
int open_nameless(const std::filesystem::path& folder) {
  const int file = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (file >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL && errno != ENOENT)) return file;
  std::string name = folder / "longfold.part-XXXXXX";
  const int named = ::mkostemp(name.data(), O_CLOEXEC);
  if (named >= 0) ::unlink(name.c_str());
  return named;
}

}  // namespace

std::string read_file(const std::filesystem::path& path) {
  const FileHandle file(std::fopen(path.c_str(), "rb"));
  if (!file) throw UserError("cannot read '" + path.string() + "': " + reason());
  std::string text;
  char buffer[1 << 16];
  while (const size_t count = std::fread(buffer, 1, sizeof buffer, file.get())) text.append(buffer, count);
  if (std::ferror(file.get())) throw UserError("cannot read '" + path.string() + "': " + reason());
  return text;
}

void make_folder(const std::filesystem::path& path) {
  std::error_code code;
  std::vector<std::filesystem::path> made;
  for (std::filesystem::path missing = path; !missing.empty() && !std::filesystem::exists(missing, code);
       missing = missing.parent_path()) {
    made.push_back(missing);
  }
  std::filesystem::create_directories(path, code);
  if (code) throw UserError("cannot create folder '" + path.string() + "': " + code.message());
  for (const std::filesystem::path& folder : made) sync_folder(folder.parent_path());
}

void remove_folder(const std::filesystem::path& path) {
  const std::filesystem::path doomed = path.string() + std::string(AtomicFolder::kPartial) + std::to_string(::getpid());
  std::error_code code;
  std::filesystem::remove_all(doomed, code);  // of a killed process that had our number
  if (!code) std::filesystem::rename(path, doomed, code);
  if (code) throw RunError("cannot remove '" + path.string() + "': " + code.message());
  sync_folder(path.parent_path());
  std::filesystem::remove_all(doomed, code);
  if (code) throw RunError("cannot remove '" + doomed.string() + "': " + code.message());
}

void remove_file(const std::filesystem::path& path) {
  if (::unlink(path.c_str()) != 0) {
    if (errno == ENOENT) return;
    throw RunError("cannot remove '" + path.string() + "': " + reason());
  }
  sync_folder(path.parent_path());
}

AtomicFile::AtomicFile(std::filesystem::path path)
    : path_(std::move(path)), temporary_(path_.string() + ".part-" + std::to_string(::getpid())) {
  file_.reset(std::fopen(temporary_.c_str(), "wb"));
  if (!file_) throw UserError("cannot write '" + path_.string() + "': " + reason());
}

AtomicFile::~AtomicFile() {
  if (!file_) return;
  file_.reset();
  std::error_code ignored;  // the sibling may be gone already; there is nobody left to tell
  std::filesystem::remove(temporary_, ignored);
}

void AtomicFile::write(const void* bytes, size_t count) {
  if (count > 0 && std::fwrite(bytes, 1, count, file_.get()) != count) {  // an empty tensor may be at nullptr
    throw RunError("cannot write '" + path_.string() + "': " + reason());
  }
}

void AtomicFile::flush() {
  if (std::fflush(file_.get()) != 0 || ::fsync(::fileno(file_.get())) != 0) {
    throw RunError("cannot write '" + path_.string() + "': " + reason());
  }
}

void AtomicFile::commit() {
  flush();
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) {
    throw RunError("cannot write '" + path_.string() + "': " + reason());
  }
  file_.reset();
  sync_folder(path_.parent_path());
}

void write_file(const std::filesystem::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

NamelessFile::NamelessFile(const std::filesystem::path& folder) : folder_(folder.empty() ? "." : folder) {
  const int file = open_nameless(folder_);
  if (file < 0) fail();
  file_.reset(::fdopen(file, "w+b"));
  if (file_) return;
  const int error = errno;
  ::close(file);
  errno = error;
  fail();
}

void NamelessFile::write(const void* bytes, size_t count) {
  if (count > 0 && std::fwrite(bytes, 1, count, file_.get()) != count) fail();
}

void NamelessFile::rewind() {
  if (std::fflush(file_.get()) != 0 || std::fseek(file_.get(), 0, SEEK_SET) != 0) fail();
}

size_t NamelessFile::read(void* bytes, size_t count) {
  const size_t got = std::fread(bytes, 1, count, file_.get());
  if (got < count && std::ferror(file_.get())) fail();
  return got;
}

void NamelessFile::clear() {
  rewind();
  if (::ftruncate(::fileno(file_.get()), 0) != 0) fail();
}

void NamelessFile::fail() const {
  throw RunError("cannot write a temporary file in folder '" + folder_.string() + "': " + reason());
}

AtomicFolder::AtomicFolder(std::filesystem::path path)
    : path_(std::move(path)), temporary_(path_.string() + std::string(kPartial) + std::to_string(::getpid())) {
  std::error_code code;
  std::filesystem::remove_all(temporary_, code);  // of a killed process that had our number
  if (!code) std::filesystem::create_directory(temporary_, code);
  if (code) throw RunError("cannot create folder '" + path_.string() + "': " + code.message());
}

AtomicFolder::~AtomicFolder() {
  std::error_code ignored;  // after commit there is nothing to remove
  std::filesystem::remove_all(temporary_, ignored);
}

void AtomicFolder::commit() {
  sync_folder(temporary_);
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) {
    throw RunError("cannot write '" + path_.string() + "': " + reason());
  }
  sync_folder(path_.parent_path());
}

}  // namespace longfold::base
