#include "longfold/techniques/config.h"

#include <gtest/gtest.h>

#include <functional>

#include "longfold/base/error.h"

namespace longfold::techniques {
namespace {

std::string error_of(const std::function<void(MemoryConfig&)>& change) {
  MemoryConfig config;
  change(config);
  try {
    config.validate();
  } catch (const base::UserError& error) {
    return error.what();
  }
  return "";
}

TEST(MemoryConfig, NamesTheKeyTheWordsAndTheWayOut) {
  EXPECT_EQ(error_of([](MemoryConfig&) {}), "");
  EXPECT_EQ(error_of([](MemoryConfig& c) { c.attention = "fast"; }),
            "expected memory.attention to be flash or dense, got \"fast\"");
  for (const char* word : {"every-0", "every-", "every--1", "every-2x", "every-99999", "all", ""}) {
    EXPECT_EQ(error_of([&](MemoryConfig& c) { c.checkpoint = word; }),
              "expected memory.checkpoint to be none, selective, full or every-N (every-2, every-4), got \"" +
                  std::string(word) + "\"");
  }
  EXPECT_EQ(error_of([](MemoryConfig& c) { c.offload = "disk"; }),
            "expected memory.offload to be none, host or file, got \"disk\"");
  EXPECT_EQ(error_of([](MemoryConfig& c) { c.offload = "file"; }),
            "expected memory.offload to be none where memory.checkpoint is, as nothing waits then, got \"file\"");
  EXPECT_EQ(error_of([](MemoryConfig& c) { c.chunked_attention = "gpu"; }),
            "expected memory.chunked_attention to be none, device, host or file, got \"gpu\"");
  EXPECT_EQ(error_of([](MemoryConfig& c) { c.chunked_attention = "file", c.attention = "dense"; }),
            "expected memory.chunked_attention to be none where memory.attention is dense, got \"file\"");
  EXPECT_EQ(error_of([](MemoryConfig& c) { c.tile_tokens = -5; }),
            "expected memory.tile_tokens to be 0 or more, got -5");
  EXPECT_EQ(error_of([](MemoryConfig& c) { c.chunk_tokens = -1; }),
            "expected memory.chunk_tokens to be 0 or more, got -1");
}

TEST(MemoryConfig, KnowsHowManyBlocksACheckpointIsOf) {
  const auto every = [](const char* word) {
    MemoryConfig config;
    config.checkpoint = word;
    return config.checkpoint_every();
  };
  EXPECT_EQ(every("none"), 0);
  EXPECT_EQ(every("selective"), 1);
  EXPECT_EQ(every("full"), 1);
  EXPECT_EQ(every("every-1"), 1);
  EXPECT_EQ(every("every-12"), 12);
}

}  // namespace
}  // namespace longfold::techniques
