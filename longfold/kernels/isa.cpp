#include "longfold/kernels/isa.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace longfold::kernels {
namespace {

bool cpu_has_avx512() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#else
  return false;
#endif
}

Isa choose() {
  const char* forced = std::getenv("LONGFOLD_ISA");
  if (forced == nullptr || *forced == '\0') return cpu_has_avx512() ? Isa::kAvx512 : Isa::kPortable;
  const std::string_view name = forced;
  if (name == isa_name(Isa::kPortable)) return Isa::kPortable;
  if (name == isa_name(Isa::kAvx512)) {
    if (cpu_has_avx512()) return Isa::kAvx512;
    throw std::invalid_argument("[LONGFOLD_ISA] this CPU has no avx512 (F, BW, DQ, VL)");
  }
  throw std::invalid_argument("[LONGFOLD_ISA] expected portable or avx512, got '" + std::string(name) + "'");
}

}  // namespace

std::string_view isa_name(Isa isa) {
  return isa == Isa::kAvx512 ? "avx512" : "portable";
}

Isa selected_isa() {
  static const Isa isa = choose();
  return isa;
}

}  // namespace longfold::kernels
