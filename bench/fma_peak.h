// How fast one thread of this machine multiplies and adds, at best: the yardstick of the other numbers.
#pragma once

namespace longfold::bench {

// Floating-point operations a second of independent fp32 vector FMAs that never leave the registers.
[[nodiscard]] double fma_peak_of_one_thread();

}  // namespace longfold::bench
