// Which instruction set the CPU kernels run on. Chosen once per process: the best that the CPU has, or the one named by
// the environment variable LONGFOLD_ISA (portable, avx2, avx512, avx512_bf16).
#pragma once

#include <string_view>

namespace longfold::kernels {

enum class Isa { kPortable, kAvx2, kAvx512, kAvx512Bf16 };

[[nodiscard]] std::string_view isa_name(Isa isa);

// Throws std::invalid_argument if LONGFOLD_ISA names no instruction set or one that this CPU lacks.
[[nodiscard]] Isa selected_isa();

}  // namespace longfold::kernels
