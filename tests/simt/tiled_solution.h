// Solves a problem of tests/kernels/ with the tiled kernels, run by the emulator.
#pragma once

#include <optional>

#include "tests/kernels/accuracy_rule.h"
#include "tests/simt/mode.h"

namespace longfold::kernels::cuda::tiled {

// What the host decides; but for the last a result must not depend on it.
struct HostLaunch {
  simt::Mode mode;
  unsigned most_blocks = 3;  // fewer than items, so that blocks go through several
  int logit_passes = 1;      // that add to grad_logits
};

// Nothing where they were not built for the type and head dim.
template <class T>
[[nodiscard]] std::optional<Solution> solve_by_tiles(const kernels::Problem& problem, const HostLaunch& launch = {});

}  // namespace longfold::kernels::cuda::tiled
