// Solves a problem of tests/kernels/ with the kernels on tensor cores, run by the emulator.
#pragma once

#include <optional>

#include "tests/kernels/accuracy_rule.h"
#include "tests/simt/host_kernels.h"

namespace longfold::kernels::cuda::mma {

// Nothing where these kernels do not take the problem.
template <class T>
[[nodiscard]] std::optional<Solution> solve_on_host(const kernels::Problem& problem, const HostLaunch& launch = {});

}  // namespace longfold::kernels::cuda::mma
