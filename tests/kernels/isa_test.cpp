#include "longfold/kernels/isa.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>

#include "longfold/kernels/cpu/evoformer/isa_kernels.h"

namespace longfold::kernels {
namespace {

TEST(Isa, TheFastestRunsUnlessOneIsForced) {
  if (std::getenv("LONGFOLD_ISA") != nullptr) GTEST_SKIP() << "LONGFOLD_ISA is set";
  for (const Isa isa : kIsasBestFirst) {
    if (!cpu_has(isa) || !is_built(isa) || !pays_here(isa)) continue;
    EXPECT_EQ(selected_isa(), isa);
    return;
  }
  FAIL() << "every CPU has portable";
}

// Pairs of bfloat16 are slower on Intel's CPUs; all other sets are worth having.
TEST(Isa, OnlyPairsOfBfloat16MayNotPay) {
  std::ifstream cpus("/proc/cpuinfo");
  const std::string text{std::istreambuf_iterator<char>(cpus), {}};
  for (const Isa isa : kIsasBestFirst) {
    if (!cpu_has(isa)) continue;
    const bool slow = isa == Isa::kAvx512Bf16 && text.find("GenuineIntel") != std::string::npos;
    EXPECT_EQ(pays_here(isa), !slow) << isa_name(isa);
  }
}

TEST(Isa, EveryArchitectureHasItsOwn) {
  EXPECT_TRUE(cpu_has(Isa::kPortable));
#if defined(__aarch64__)
  EXPECT_TRUE(cpu_has(Isa::kNeon));
  EXPECT_FALSE(cpu_has(Isa::kAvx2));
#else
  EXPECT_FALSE(cpu_has(Isa::kNeon));
#endif
}

// Kernels of another architecture, and those left out, are named, not run.
TEST(Isa, AbsentKernelsThrowByName) {
  const auto message_of = [](auto kernels) -> std::string {
    try {
      (void)kernels();
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "";
  };
#if defined(__aarch64__)
  EXPECT_EQ(message_of(&avx2_kernels<float>), "[avx2] this build has no such kernels: they are for x86-64");
  EXPECT_EQ(message_of(&avx512_kernels<float16>), "[avx512] this build has no such kernels: they are for x86-64");
  EXPECT_EQ(message_of(&avx512_bf16_kernels), "[avx512_bf16] this build has no such kernels: they are for x86-64");
  EXPECT_EQ(message_of(&neon_kernels<float>), "");
#else
  if (!is_built(Isa::kAvx512)) {
    const std::string rest = "] this build has no such kernels: LONGFOLD_AVX512 is OFF";
    EXPECT_EQ(message_of(&avx512_kernels<float>), "[avx512" + rest);
    EXPECT_EQ(message_of(&avx512_bf16_kernels), "[avx512_bf16" + rest);
  }
  EXPECT_EQ(message_of(&neon_kernels<float>), "[neon] this build has no such kernels: they are for 64-bit Arm");
  EXPECT_EQ(message_of(&neon_kernels<bfloat16>), "[neon] this build has no such kernels: they are for 64-bit Arm");
#endif
  EXPECT_EQ(message_of(&portable_kernels<float>), "");
}

}  // namespace
}  // namespace longfold::kernels
