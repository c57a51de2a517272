// Bytes as a file, for readers that take a path. It is on no disk.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <system_error>

namespace longfold {

class InputFile {
 public:
  InputFile(const uint8_t* bytes, size_t size) : file_(::memfd_create("input", MFD_CLOEXEC)) {
    for (size_t done = 0; done < size;) {
      const ssize_t count = ::write(file_, bytes + done, size - done);
      if (count <= 0) throw std::system_error(errno, std::generic_category(), "memfd_create");
      done += static_cast<size_t>(count);
    }
  }
  ~InputFile() { ::close(file_); }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  [[nodiscard]] std::string path() const { return "/proc/self/fd/" + std::to_string(file_); }

 private:
  int file_;
};

}  // namespace longfold
