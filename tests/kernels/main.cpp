// Where the instruction set named by LONGFOLD_ISA is one that this CPU or this build lacks, the tests are skipped, not
// failed. A name that is none at all fails them.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "longfold/kernels/isa.h"

namespace {

constexpr int kSkipped = 77;  // as in CMakeLists.txt

bool is_lacking(std::string_view name) {
  using namespace longfold::kernels;
  for (const Isa isa : kIsasBestFirst) {
    if (name == isa_name(isa)) return !cpu_has(isa) || !is_built(isa);
  }
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const char* forced = std::getenv("LONGFOLD_ISA");
  if (forced != nullptr && is_lacking(forced)) {
    std::printf("skipped: this CPU or this build has no %s\n", forced);
    return kSkipped;
  }
  return RUN_ALL_TESTS();
}
