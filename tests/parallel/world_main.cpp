// main() of tests that run in one process, or in several that mpirun starts: all run the same tests.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>

#include "tests/parallel/test_world.h"

namespace longfold::parallel {
namespace {

std::unique_ptr<World> world;

}  // namespace

World& test_world() {
  return *world;
}

}  // namespace longfold::parallel

int main(int argc, char** argv) {
  using namespace longfold::parallel;
  testing::InitGoogleTest(&argc, argv);
  const char* launched = std::getenv("OMPI_COMM_WORLD_SIZE");
  world = launched != nullptr ? mpi_world(/*timeout_seconds=*/60) : one_process();
  if (world->rank() > 0) {  // one report is enough; failures are all shown
    auto& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    class Failures : public testing::EmptyTestEventListener {
      void OnTestPartResult(const testing::TestPartResult& result) override {
        if (result.failed()) {
          std::fprintf(stderr, "process %ld: %s:%d: %s\n", long{world->rank()}, result.file_name(),
                       result.line_number(), result.message());
        }
      }
    };
    listeners.Append(new Failures);
  }
  const int failed = RUN_ALL_TESTS();
  if (failed != 0 && world->size() > 1) world->abort(failed);
  world.reset();
  return failed;
}
