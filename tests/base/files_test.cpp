#include "longfold/base/files.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "longfold/base/error.h"

namespace longfold::base {
namespace {

std::filesystem::path fresh_folder() {
  const auto folder = std::filesystem::path(testing::TempDir()) / ("longfold-files-" + std::to_string(::getpid()));
  std::filesystem::remove_all(folder);
  make_folder(folder);
  return folder;
}

TEST(Files, AreWholeOrAbsent) {
  const auto folder = fresh_folder();
  write_file(folder / "a", "first");
  {
    AtomicFile file(folder / "a");
    file.write("half of the sec");
  }  // no commit
  EXPECT_EQ(read_file(folder / "a"), "first");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder), {}), 1) << "the temporary sibling is gone";
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

TEST(Files, FullDiskIsARunError) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP();
  const auto folder = fresh_folder();
  AtomicFile file(folder / "full");
  std::filesystem::path part;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) part = entry.path();
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

}  // namespace
}  // namespace longfold::base
