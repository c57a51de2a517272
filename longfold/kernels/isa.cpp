#include "longfold/kernels/isa.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace longfold::kernels {
namespace {

Isa choose() {
  const char* forced = std::getenv("LONGFOLD_ISA");
  const std::string_view name = forced == nullptr ? "" : forced;
  for (const Isa isa : kIsasBestFirst) {
    if (name.empty() && cpu_has(isa) && is_built(isa) && pays_here(isa)) return isa;
    if (name != isa_name(isa)) continue;
    if (!is_built(isa)) throw std::invalid_argument("[LONGFOLD_ISA] this build has no " + std::string(name));
    if (cpu_has(isa)) return isa;
    throw std::invalid_argument("[LONGFOLD_ISA] this CPU has no " + std::string(name));
  }
  throw std::invalid_argument("[LONGFOLD_ISA] expected portable, neon, avx2, avx512 or avx512_bf16, got '" +
                              std::string(name) + "'");
}

}  // namespace

std::string_view isa_name(Isa isa) {
  switch (isa) {
    case Isa::kAvx512Bf16:
      return "avx512_bf16";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kNeon:
      return "neon";
    case Isa::kPortable:
      break;
  }
  return "portable";
}

bool cpu_has(Isa isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  if (isa == Isa::kAvx2) return avx2;
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (isa == Isa::kAvx512) return avx512;
  if (isa == Isa::kAvx512Bf16) return avx512 && __builtin_cpu_supports("avx512bf16");
#elif defined(__aarch64__)
  if (isa == Isa::kNeon) return true;
#endif
  return isa == Isa::kPortable;
}

bool is_built(Isa isa) {
#if defined(__x86_64__) && !defined(LONGFOLD_AVX512)
  if (isa == Isa::kAvx512 || isa == Isa::kAvx512Bf16) return false;
#endif
  (void)isa;
  return true;
}

bool pays_here(Isa isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (isa == Isa::kAvx512Bf16) return !__builtin_cpu_is("intel");
#endif
  return cpu_has(isa);
}

Isa selected_isa() {
  static const Isa isa = choose();
  return isa;
}

}  // namespace longfold::kernels
