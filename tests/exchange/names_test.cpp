#include "longfold/exchange/hugging_face/names.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "longfold/model/transformer.h"
#include "tests/exchange/small_models.h"

namespace longfold::exchange {
namespace {

TEST(Names, AreThoseOfTheModelWithItsShapesInItsOrder) {
  for (const model::ModelConfig& config : small_models()) {
    const model::Transformer transformer(config);
    const auto expected = transformer->named_parameters();
    const std::vector<Parameter> parameters = parameters_of(config);
    ASSERT_EQ(parameters.size(), expected.size()) << config.family;
    for (size_t i = 0; i < parameters.size(); ++i) {
      EXPECT_EQ(parameters[i].name, expected[i].key());
      EXPECT_EQ(at::IntArrayRef(parameters[i].shape), expected[i].value().sizes()) << parameters[i].name;
    }
  }
}

TEST(Names, ThereAndBackGivesTheSameBits) {
  for (const model::ModelConfig& config : small_models()) {
    for (const Parameter& parameter : parameters_of(config)) {
      const at::Tensor ours = at::randn(parameter.shape);
      const std::vector<at::Tensor> theirs = to_theirs(config, parameter.stored, ours);
      EXPECT_EQ(theirs.size(), parameter.theirs.size());
      EXPECT_TRUE(at::equal(to_ours(config, parameter.stored, theirs), ours)) << parameter.name;
    }
  }
}

}  // namespace
}  // namespace longfold::exchange
