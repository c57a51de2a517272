#include "longfold/kernels/evoformer/reference.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace longfold::kernels {
namespace {

// One query and two keys, small enough for pencil and paper: logits ln 3 and 0, weights 3/4 and 1/4.
TEST(Reference, PencilAndPaper) {
  const std::vector<double> q{2.0}, k{0.0, 0.0}, v{8.0, 4.0}, bias{std::log(3.0), 0.0};
  std::vector<double> out(1), lse(1), correction(1), scratch(2);
  const BiasView view{.data = bias.data(), .dtype = DType::kFloat64, .strides = {0, 0, 0, 0, 1}};
  const ForwardArgs<double> args{.q = {q.data(), {1, 1, 1, 1, 1}, {1, 1, 1, 1, 1}},
                                 .k = {k.data(), {1, 1, 2, 1, 1}, {2, 2, 1, 1, 1}},
                                 .v = {v.data(), {1, 1, 2, 1, 1}, {2, 2, 1, 1, 1}},
                                 .biases = {&view, 1},
                                 .out = {out.data(), {1, 1, 1, 1, 1}, {1, 1, 1, 1, 1}},
                                 .log_sum_exp = {lse.data(), {1, 1, 1, 1}, {1, 1, 1, 1}},
                                 .lse_correction = {correction.data(), {1, 1, 1, 1}, {1, 1, 1, 1}}};
  reference_forward(args, 0, 1, std::span(scratch));
  EXPECT_DOUBLE_EQ(out[0], 7.0);
  EXPECT_DOUBLE_EQ(lse[0], std::log(4.0));
  EXPECT_DOUBLE_EQ(correction[0], 1.0);
}

}  // namespace
}  // namespace longfold::kernels
