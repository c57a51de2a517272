#include "longfold/techniques/temporary_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string>
#include <utility>

#include "longfold/base/error.h"
#include "longfold/base/text.h"

namespace longfold::techniques {
namespace {

int64_t whole_pages(int64_t bytes) {
  static const int64_t page = ::sysconf(_SC_PAGESIZE);
  return (bytes + page - 1) / page * page;
}

// Calls call(bytes done, how many, where in the file) until all are moved; 0, or the error number.
template <class Call>
int move_all(int64_t bytes, int64_t offset, Call&& call) {
  constexpr int64_t kMost = int64_t{1} << 30;
  for (int64_t done = 0; done < bytes;) {
    const ssize_t moved = call(done, static_cast<size_t>(std::min(bytes - done, kMost)), offset + done);
    if (moved < 0 && errno == EINTR) continue;
    if (moved <= 0) return moved < 0 ? errno : ENODATA;
    done += moved;
  }
  return 0;
}

}  // namespace

TemporaryFile::TemporaryFile(std::filesystem::path folder) : folder_(std::move(folder)) {
  std::error_code ignored;
  std::filesystem::create_directories(folder_, ignored);
  descriptor_ = ::open(folder_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (descriptor_ < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
    std::string name = (folder_ / "longfold-XXXXXX").string();
    descriptor_ = ::mkostemp(name.data(), O_CLOEXEC);
    if (descriptor_ >= 0) ::unlink(name.c_str());
  }
  if (descriptor_ < 0) {
    throw base::UserError("cannot make a file for what waits by [memory] in '" + folder_.string() +
                          "': " + std::strerror(errno) + " (memory.folder names another folder)");
  }
}

TemporaryFile::~TemporaryFile() {
  ::close(descriptor_);
}

void TemporaryFile::fail(const char* what, int64_t bytes, const char* why) const {
  throw base::RunError(std::string("cannot ") + what + " " + base::format_bytes(bytes) +
                       " of what waits by [memory] in '" + folder_.string() + "': " + why +
                       " (memory.folder names another folder)");
}

void TemporaryFile::write(const void* data, int64_t bytes, int64_t offset) const {
  const int error = move_all(bytes, offset, [&](int64_t done, size_t count, int64_t at) {
    return ::pwrite(descriptor_, static_cast<const std::byte*>(data) + done, count, at);
  });
  if (error != 0) fail("write", bytes, std::strerror(error));
  // Pages that wait in the system's cache would be memory after all.
  ::sync_file_range(descriptor_, offset, bytes, SYNC_FILE_RANGE_WRITE);
}

void TemporaryFile::read(void* data, int64_t bytes, int64_t offset) const {
  const int error = move_all(bytes, offset, [&](int64_t done, size_t count, int64_t at) {
    return ::pread(descriptor_, static_cast<std::byte*>(data) + done, count, at);
  });
  if (error != 0) fail("read", bytes, std::strerror(error));
  ::posix_fadvise(descriptor_, offset, bytes, POSIX_FADV_DONTNEED);
}

void* TemporaryFile::map_more(int64_t bytes) {
  const int64_t size = whole_pages(bytes);
  // Without room for it a later write to the memory would end the process.
  if (const int error = ::posix_fallocate(descriptor_, mapped_, size); error != 0) {
    fail("reserve", bytes, std::strerror(error));
  }
  void* begin = ::mmap(nullptr, static_cast<size_t>(size), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor_, mapped_);
  if (begin == MAP_FAILED) fail("map", bytes, std::strerror(errno));
  offsets_.emplace(begin, mapped_);
  mapped_ += size;
  return begin;
}

void TemporaryFile::unmap(void* begin, int64_t bytes) {
  offsets_.erase(begin);
  ::munmap(begin, static_cast<size_t>(whole_pages(bytes)));
}

void TemporaryFile::let_go(void* begin, int64_t bytes) const {
  const auto size = whole_pages(bytes);
  ::madvise(begin, static_cast<size_t>(size), MADV_DONTNEED);  // what was changed is the file's, and dirty
  ::sync_file_range(descriptor_, offsets_.at(begin), size, SYNC_FILE_RANGE_WRITE);
}

}  // namespace longfold::techniques
