#include "longfold/techniques/shelf.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>

#include "longfold/base/error.h"
#include "longfold/memory/meter.h"
#include "longfold/techniques/places.h"
#include "tests/scratch.h"

namespace longfold::techniques {
namespace {

constexpr auto kTerm = memory::Term::kCheckpoints;

TEST(Places, AreTheFirstGapThatIsLargeEnough) {
  Places places;
  EXPECT_EQ(places.take(10), 0);
  EXPECT_EQ(places.take(20), 10);
  EXPECT_EQ(places.take(5), 30);
  places.free(10);
  EXPECT_EQ(places.take(21), 35);
  EXPECT_EQ(places.take(15), 10);
  EXPECT_EQ(places.take(5), 25);
  EXPECT_EQ(places.end(), 56);
}

TEST(Shelf, GivesBackTheBitsInAnyOrderAndAsOften) {
  const ScratchFolder scratch;
  for (const auto& shelf : {device_shelf(kTerm), file_shelf(scratch.path(), kTerm)}) {
    std::vector<at::Tensor> tensors;
    std::vector<std::shared_ptr<Shelved>> shelved;
    for (const auto dtype : {at::kFloat, at::kDouble, at::kBFloat16, at::kLong}) {
      tensors.push_back((at::randn({3, 257, 31}) * 100).to(dtype).transpose(0, 1));
      shelved.push_back(shelf->put(tensors.back()));
    }
    shelved[2]->prefetch();
    for (const size_t i : {1, 2, 0, 3, 2, 1}) {
      const at::Tensor back = shelved[i]->get();
      EXPECT_EQ(back.dtype(), tensors[i].dtype());
      EXPECT_TRUE(at::equal(back, tensors[i])) << i;
    }
  }
  EXPECT_TRUE(std::filesystem::is_empty(scratch.path())) << "the file has no name";
}

TEST(FileShelf, KeepsInMemoryOnlyWhatIsBeingWritten) {
  const auto meter = memory::MemoryMeter::install();
  const ScratchFolder scratch;
  const auto shelf = file_shelf(scratch.path(), kTerm);
  const int64_t before = meter.live(), bytes = 1 << 20;
  std::vector<std::shared_ptr<Shelved>> shelved;
  for (int i = 0; i < 4; ++i) {
    shelved.push_back(shelf->put(at::full({bytes / 4}, i, at::kFloat)));
    EXPECT_EQ(meter.live() - before, bytes);
  }
  EXPECT_EQ(shelf->bytes(), 4 * bytes);
  EXPECT_EQ(shelved[1]->get()[5].item<float>(), 1);
  EXPECT_EQ(meter.live() - before, 0);
  shelved[1].reset();
  shelved.push_back(shelf->put(at::full({bytes / 4}, 9, at::kFloat)));
  EXPECT_EQ(shelf->bytes(), 4 * bytes) << "the place of one that is gone is taken again";
  EXPECT_EQ(shelved[0]->get()[0].item<float>(), 0);
}

// By a dry run, as there need be no GPU: sizes tell them apart.
TEST(HostShelf, DoesNotTakeOneForAnotherAtItsAddress) {
  const auto sized = [](int64_t count) { return at::empty({count}, at::TensorOptions().device(at::kMeta)); };
  const auto shelf = host_shelf(0, kTerm);
  for (int64_t i = 1; i <= 50; ++i) {
    auto gone = shelf->put(sized(100 + i));
    gone.reset();
    const auto kept = shelf->put(sized(i));  // often where the other was
    EXPECT_EQ(kept->get().numel(), i);
  }
}

TEST(FileShelf, SaysWhichFolderItCannotUse) {
  const ScratchFolder scratch;
  std::ofstream(scratch / "file") << "x";
  try {
    (void)file_shelf(scratch / "file", kTerm);
    FAIL() << "expected an error";
  } catch (const base::UserError& error) {
    EXPECT_EQ(std::string(error.what()), "cannot make a file for what waits by [memory] in '" +
                                             (scratch / "file").string() +
                                             "': Not a directory (memory.folder names another folder)");
  }
}

}  // namespace
}  // namespace longfold::techniques
