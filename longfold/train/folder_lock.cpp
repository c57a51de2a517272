#include "longfold/train/folder_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "longfold/base/error.h"
#include "longfold/base/files.h"

namespace longfold::train {
namespace {

namespace fs = std::filesystem;

std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) return "this machine";
  return name.data();
}

std::string this_process() {
  return "process " + std::to_string(::getpid()) + " on " + host_name();
}

// The file's first line; "" for a file that is new, or was cut off.
std::string holder_in(int descriptor) {
  std::array<char, 512> text{};
  const ssize_t count = ::pread(descriptor, text.data(), text.size(), 0);
  const std::string_view read(text.data(), count > 0 ? static_cast<size_t>(count) : 0);
  const size_t end = read.find('\n');
  return end == std::string_view::npos ? "" : std::string(read.substr(0, end));
}

bool write_holder(int descriptor) {
  const std::string line = this_process() + "\n";
  return ::ftruncate(descriptor, 0) == 0 &&
         ::pwrite(descriptor, line.data(), line.size(), 0) == static_cast<ssize_t>(line.size());
}

bool means_no_locks(int error) {
  return error == ENOSYS || error == ENOLCK || error == EOPNOTSUPP || error == EINVAL;
}

std::string quoted(const fs::path& path) {
  std::string text = "'";
  return text.append(path.string()).append("'");
}

std::string cannot(const char* what, const fs::path& file, int error) {
  return std::string("cannot ") + what + " " + quoted(file) + ": " + std::strerror(error);
}

std::string in_use(const fs::path& folder, const std::string& holder) {
  return quoted(folder) + " is in use by " + (holder.empty() ? "another process" : holder);
}

std::vector<fs::path> missing_folders(const fs::path& folder) {
  std::vector<fs::path> missing;
  std::error_code ignored;  // make_folder says what is wrong
  for (fs::path path = folder; !path.empty() && !fs::exists(path, ignored); path = path.parent_path()) {
    missing.push_back(path);
  }
  return missing;
}

}  // namespace

FolderLock::FolderLock(fs::path folder, Flock flock)
    : folder_(std::move(folder)), file_(folder_ / "lock"), flock_(flock != nullptr ? flock : ::flock) {
  std::vector<fs::path> missing = missing_folders(folder_);
  base::make_folder(folder_);
  made_ = std::move(missing);
  const std::string refusal = acquire();
  if (!refusal.empty()) {
    release();
    throw base::UserError(refusal);
  }
}

std::string FolderLock::acquire() {
  std::error_code ignored;
  constexpr int kAttempts = 100;  // each means that another run released the lock between our open and our flock
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    descriptor_ = ::open(file_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    const bool created = descriptor_ >= 0;
    if (!created && errno == EEXIST) descriptor_ = ::open(file_.c_str(), O_RDWR | O_CLOEXEC);
    if (descriptor_ < 0 && errno == ENOENT && fs::is_directory(folder_, ignored)) continue;
    if (descriptor_ < 0) return cannot("write", file_, errno);

    const int error = flock_(descriptor_, LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
    const bool no_locks = means_no_locks(error);
    const std::string holder = holder_in(descriptor_);
    if (error == 0 && !is_ours()) {
      close();
      continue;
    }
    if (error == 0 || (no_locks && created)) {
      if (!holder.empty() && !holder.ends_with(" on " + host_name())) left_by_ = holder;
      return write_holder(descriptor_) ? "" : cannot("write", file_, errno);
    }
    close();
    if (error == EWOULDBLOCK)
      return in_use(folder_, holder) + ": wait for it, or choose another folder with --train.output";
    if (!no_locks) return cannot("lock", file_, error);
    return in_use(folder_, holder) + ", or that one was killed: this file system cannot tell (" + std::strerror(error) +
           "); if it is not running, remove " + quoted(file_);
  }
  return in_use(folder_, "processes that take turns");
}

bool FolderLock::is_ours() const {
  struct stat ours{}, named{};
  if (descriptor_ < 0 || ::fstat(descriptor_, &ours) != 0 || ::stat(file_.c_str(), &named) != 0) return false;
  return ours.st_ino == named.st_ino && ours.st_dev == named.st_dev;
}

void FolderLock::ensure() {
  if (is_ours()) return;
  close();
  const std::string refusal = acquire();
  if (!refusal.empty()) throw base::RunError(refusal);
}

void FolderLock::release() {
  if (is_ours()) ::unlink(file_.c_str());  // while it is locked: who opened it before tries again
  close();
  std::error_code ignored;  // a folder with something in it stays
  for (const fs::path& path : made_) fs::remove(path, ignored);
  made_.clear();
}

void FolderLock::close() {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = -1;
}

}  // namespace longfold::train
