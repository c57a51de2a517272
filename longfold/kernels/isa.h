// Which instruction set the CPU kernels run on. Chosen once per process: the fastest on this CPU, or the one named by
// the environment variable LONGFOLD_ISA (portable, neon, avx2, avx512, avx512_bf16).
#pragma once

#include <array>
#include <string_view>

namespace longfold::kernels {

enum class Isa { kPortable, kNeon, kAvx2, kAvx512, kAvx512Bf16 };
inline constexpr std::array kIsasBestFirst{Isa::kAvx512Bf16, Isa::kAvx512, Isa::kAvx2, Isa::kNeon, Isa::kPortable};

[[nodiscard]] std::string_view isa_name(Isa isa);
[[nodiscard]] bool cpu_has(Isa isa);

// Whether this build has its kernels, on a CPU that has it: those for AVX-512 are an option, LONGFOLD_AVX512.
[[nodiscard]] bool is_built(Isa isa);

// Whether it is worth choosing where the CPU has it. Intel's CPUs issue one product of bfloat16 pairs in the time of
// four fp32 multiply-adds (measured on a Xeon with AMX): half as many products, and without it bf16 takes 0.7 of the
// time.
[[nodiscard]] bool pays_here(Isa isa);

// Throws std::invalid_argument if LONGFOLD_ISA names no instruction set or one that this CPU or this build lacks.
[[nodiscard]] Isa selected_isa();

}  // namespace longfold::kernels
