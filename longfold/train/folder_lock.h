// At most one run writes to an output folder. The lock is the kernel's (flock), on the file FOLDER/lock, so it ends
// with the process, however that dies, and reaches as far as the file system's locks do: every machine that mounts an
// NFS export or Lustre with locks, this machine alone where they are local. The file says who has it.
//
// Where the file system has no locks at all, the file itself is the lock: it is then left by a process that is killed,
// and the error says when to remove it.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace longfold::train {

class FolderLock {
 public:
  using Flock = int (*)(int descriptor, int operation);

  // Makes the folder, if it is not there. UserError "... is in use by process N on HOST" while another run has it.
  // `flock` null: the system's.
  explicit FolderLock(std::filesystem::path folder, Flock flock = nullptr);
  ~FolderLock() { release(); }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

  // Before writing: takes the lock anew if its file was removed meanwhile. RunError if another run has it now.
  void ensure();
  // Removes the file, and the folders that the constructor made if nothing was put into them.
  void release();
  // "process N on HOST" of a run on another machine that ended without releasing the lock, else "".
  [[nodiscard]] const std::string& left_by() const { return left_by_; }
  [[nodiscard]] const std::filesystem::path& file() const { return file_; }

 private:
  [[nodiscard]] std::string acquire();  // why not, or ""
  [[nodiscard]] bool is_ours() const;   // the file of that name is the one that is locked
  void close();

  std::filesystem::path folder_, file_;
  Flock flock_;
  int descriptor_ = -1;
  std::string left_by_;
  std::vector<std::filesystem::path> made_;  // innermost first
};

}  // namespace longfold::train
