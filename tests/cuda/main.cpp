// Where there is no GPU that these kernels run on, the tests are skipped, not failed.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdio>

#include "longfold/kernels/cuda/evoformer_attention.h"

namespace {

constexpr int kSkipped = 77;  // as in CMakeLists.txt

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  int count = 0;
  if (!testing::GTEST_FLAG(list_tests) && (cudaGetDeviceCount(&count) != cudaSuccess || count == 0)) {
    std::printf("skipped: CUDA kernels %s\n", longfold::kernels::cuda::engine_status().c_str());
    return kSkipped;
  }
  return RUN_ALL_TESTS();
}
