#include "longfold/kernels/isa.h"

#include <array>
#include <cstdlib>
#include <stdexcept>
#include <string>

namespace longfold::kernels {
namespace {

constexpr std::array<Isa, 4> kBestFirst{Isa::kAvx512Bf16, Isa::kAvx512, Isa::kAvx2, Isa::kPortable};

bool cpu_has(Isa isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  if (isa == Isa::kAvx2) return avx2;
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (isa == Isa::kAvx512) return avx512;
  if (isa == Isa::kAvx512Bf16) return avx512 && __builtin_cpu_supports("avx512bf16");
#endif
  return isa == Isa::kPortable;
}

Isa choose() {
  const char* forced = std::getenv("LONGFOLD_ISA");
  const std::string_view name = forced == nullptr ? "" : forced;
  for (const Isa isa : kBestFirst) {
    if (name.empty() && cpu_has(isa)) return isa;
    if (name != isa_name(isa)) continue;
    if (cpu_has(isa)) return isa;
    throw std::invalid_argument("[LONGFOLD_ISA] this CPU has no " + std::string(name));
  }
  throw std::invalid_argument("[LONGFOLD_ISA] expected portable, avx2, avx512 or avx512_bf16, got '" +
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
    case Isa::kPortable:
      break;
  }
  return "portable";
}

Isa selected_isa() {
  static const Isa isa = choose();
  return isa;
}

}  // namespace longfold::kernels
