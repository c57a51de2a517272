#include "longfold/train/folder_lock.h"

#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "longfold/base/error.h"
#include "longfold/base/files.h"
#include "tests/scratch.h"

namespace longfold::train {
namespace {

namespace fs = std::filesystem;

std::string host() {
  std::array<char, 256> name{};
  EXPECT_EQ(::gethostname(name.data(), name.size() - 1), 0);
  return name.data();
}

std::string this_process() {
  return "process " + std::to_string(::getpid()) + " on " + host();
}

std::string refusal(const fs::path& folder, FolderLock::Flock flock = nullptr) {
  try {
    const FolderLock lock(folder, flock);
  } catch (const base::UserError& error) {
    return error.what();
  }
  return "";
}

TEST(FolderLock, NamesWhoHasTheFolder) {
  const ScratchFolder folder;
  FolderLock lock(folder.path());
  EXPECT_EQ(base::read_file(folder / "lock"), this_process() + "\n");
  EXPECT_EQ(refusal(folder.path()), "'" + folder.path().string() + "' is in use by " + this_process() +
                                        ": wait for it, or choose another folder with --train.output");
  EXPECT_EQ(base::read_file(folder / "lock"), this_process() + "\n") << "the refused one leaves it alone";
  lock.release();
  EXPECT_FALSE(fs::exists(folder / "lock"));
  EXPECT_EQ(refusal(folder.path()), "");
}

TEST(FolderLock, EndsWithTheProcessHoweverThatDies) {
  const ScratchFolder folder;
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const FolderLock lock(folder.path());
    if (::write(ends[1], "x", 1) == 1) ::pause();
    ::_exit(1);
  }
  char byte = 0;
  ASSERT_EQ(::read(ends[0], &byte, 1), 1);
  EXPECT_NE(refusal(folder.path()).find("is in use by process " + std::to_string(child) + " on " + host()),
            std::string::npos);
  ::kill(child, SIGKILL);
  int status = 0;
  ::waitpid(child, &status, 0);
  ASSERT_TRUE(fs::exists(folder / "lock")) << "it was left behind";
  const FolderLock lock(folder.path());
  EXPECT_EQ(lock.left_by(), "");
  EXPECT_EQ(base::read_file(folder / "lock"), this_process() + "\n");
}

TEST(FolderLock, SaysWhatAnotherMachineLeftBehind) {
  const ScratchFolder folder;
  base::write_file(folder / "lock", "process 123456 on elsewhere-" + host() + "\n");
  const FolderLock lock(folder.path());
  EXPECT_EQ(lock.left_by(), "process 123456 on elsewhere-" + host());
  EXPECT_EQ(base::read_file(folder / "lock"), this_process() + "\n") << "nothing of the longer line stays";
}

int no_locks(int, int) {
  errno = ENOSYS;
  return -1;
}

TEST(FolderLock, IsTheFileWhereThereAreNoLocks) {
  const ScratchFolder folder;
  FolderLock lock(folder.path(), no_locks);
  EXPECT_EQ(
      refusal(folder.path(), no_locks),
      "'" + folder.path().string() + "' is in use by " + this_process() +
          ", or that one was killed: this file system cannot tell (Function not implemented); if it is not running, " +
          "remove '" + (folder / "lock").string() + "'");
  lock.release();
  EXPECT_EQ(refusal(folder.path(), no_locks), "");
}

int broken_lock(int, int) {
  errno = EIO;
  return -1;
}

TEST(FolderLock, GivesTheSystemsReasonForOtherFailures) {
  const ScratchFolder folder;
  EXPECT_EQ(refusal(folder.path(), broken_lock),
            "cannot lock '" + (folder / "lock").string() + "': Input/output error");
  base::write_file(folder / "file", "");
  EXPECT_NE(refusal(folder / "file").find("cannot create folder"), std::string::npos) << refusal(folder / "file");
}

// What it locks is gone at that moment, once: another run ended between open and flock.
fs::path vanishing;
int lock_what_vanishes(int descriptor, int operation) {
  if (!vanishing.empty()) fs::remove(vanishing);
  vanishing.clear();
  return ::flock(descriptor, operation);
}

TEST(FolderLock, DoesNotTakeAFileThatIsNoLongerThere) {
  const ScratchFolder folder;
  base::write_file(folder / "lock", "");
  vanishing = folder / "lock";
  const FolderLock lock(folder.path(), lock_what_vanishes);
  EXPECT_NE(refusal(folder.path()), "") << "the lock is on the file that others open";
}

TEST(FolderLock, IsTakenAgainIfItsFileWasRemoved) {
  const ScratchFolder folder;
  FolderLock lock(folder.path());
  fs::remove(folder / "lock");
  lock.ensure();
  EXPECT_NE(refusal(folder.path()), "");
  fs::remove(folder / "lock");
  const FolderLock other(folder.path());
  EXPECT_THROW(lock.ensure(), base::RunError);
  lock.release();
  EXPECT_NE(refusal(folder.path()), "") << "the other one keeps it";
}

TEST(FolderLock, LeavesNoEmptyFolders) {
  const ScratchFolder folder;
  FolderLock(folder / "a/b/c").release();
  EXPECT_FALSE(fs::exists(folder / "a"));
  FolderLock lock(folder / "a/b/c");
  base::write_file(folder / "a/b/c/metrics.jsonl", "");
  lock.release();
  EXPECT_TRUE(fs::exists(folder / "a/b/c/metrics.jsonl"));
  FolderLock(folder.path()).release();
  EXPECT_TRUE(fs::exists(folder.path())) << "it was there before";
}

}  // namespace
}  // namespace longfold::train
