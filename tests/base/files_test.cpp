#include "longfold/base/files.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include "longfold/base/error.h"
#include "tests/scratch.h"

namespace longfold::base {
namespace {

TEST(Files, AreWholeOrAbsent) {
  const ScratchFolder folder;
  write_file(folder / "a", "first");
  {
    AtomicFile file(folder / "a");
    file.write("half of the sec");
  }  // no commit
  EXPECT_EQ(read_file(folder / "a"), "first");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1)
      << "the temporary sibling is gone";
  write_file(folder / "a", "second");
  EXPECT_EQ(read_file(folder / "a"), "second");
}

TEST(Files, ErrorsNameTheFileAndTheReason) {
  try {
    (void)read_file("/nowhere/at/all");
    FAIL();
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(), "cannot read '/nowhere/at/all': No such file or directory");
  }
}

TEST(Files, RemoveFileTakesWhatIsThere) {
  const ScratchFolder folder;
  write_file(folder / "a", "x");
  remove_file(folder / "a");
  EXPECT_FALSE(std::filesystem::exists(folder / "a"));
  remove_file(folder / "a");  // nothing there is fine
  make_folder(folder / "b");
  EXPECT_THROW(remove_file(folder / "b"), RunError);
}

// A rename that is not on the disk can be undone by a crash.
TEST(Files, AFolderThatCannotBeFlushedIsARunError) {
  const ScratchFolder folder;
  AtomicFile file(folder / "a");
  file.write("x");
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{.rlim_cur = 0, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);  // the folder cannot be opened any more
  std::string message;
  try {
    file.commit();
  } catch (const RunError& error) {
    ::setrlimit(RLIMIT_NOFILE, &before);  // before the message is read: the sanitizer opens files to check the object
    message = error.what();
  }
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(message, "cannot flush folder '" + folder.path().string() + "' to the disk: Too many open files");
}

TEST(Files, FullDiskIsARunError) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP();
  const ScratchFolder folder;
  AtomicFile file(folder / "full");
  std::filesystem::path part;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) part = entry.path();
  std::filesystem::remove(part);
  std::filesystem::create_symlink("/dev/full", part);
  AtomicFile full(folder / "full");  // opens the same temporary, now a disk with no space
  const std::string data(1 << 20, 'x');
  EXPECT_THROW(
      {
        full.write(data);
        full.commit();
      },
      RunError);
}

TEST(NamelessFile, GivesBackWhatWasWrittenAndLeavesNothing) {
  const ScratchFolder folder;
  NamelessFile file(folder.path());
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  for (const std::string text : {"first and long", "second"}) {
    file.write(text.data(), text.size());
    file.rewind();
    std::string found(100, '\0');
    found.resize(file.read(found.data(), found.size()));
    EXPECT_EQ(found, text);
    file.clear();
  }
  file.rewind();
  char byte = 0;
  EXPECT_EQ(file.read(&byte, 1), 0u);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(NamelessFile, AFolderThatCannotBeWrittenIsNamed) {
  try {
    NamelessFile file("/nowhere");
    FAIL();
  } catch (const RunError& error) {
    EXPECT_STREQ(error.what(), "cannot write a temporary file in folder '/nowhere': No such file or directory");
  }
}

}  // namespace
}  // namespace longfold::base
