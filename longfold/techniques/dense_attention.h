// Attention as it is done without fused kernels, the baseline that everything else is compared with: a mask, scores and
// weights of tokens x tokens are built, and the weights kept for backward.
#pragma once

#include "longfold/model/attention.h"

namespace longfold::techniques {

[[nodiscard]] model::SharedCore dense_attention();

}  // namespace longfold::techniques
