#include "longfold/exchange/hugging_face/config.h"

#include <gtest/gtest.h>

#include "longfold/base/error.h"
#include "tests/exchange/small_models.h"

namespace longfold::exchange {
namespace {

TEST(Config, WrittenAndReadIsTheSameModel) {
  for (model::ModelConfig config : small_models()) {
    const ReadConfig read = read_hugging_face_config(hugging_face_config(config, 50).dump(), "c: ");
    config.num_kv_heads = config.family == "llama" ? config.kv_heads() : 0;  // there the number is always written
    EXPECT_EQ(read.model, config) << config.family;
    EXPECT_EQ(read.longest, config.has_learned_positions() ? config.max_positions : 50);
    EXPECT_TRUE(read.notes.empty());
  }
}

}  // namespace
}  // namespace longfold::exchange
