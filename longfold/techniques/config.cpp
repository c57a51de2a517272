#include "longfold/techniques/config.h"

#include <charconv>
#include <initializer_list>
#include <string_view>
#include <utility>

#include "longfold/base/error.h"

namespace longfold::techniques {
namespace {

constexpr std::string_view kEvery = "every-";

// N of every-N; 0 if it is none.
int64_t number_of(std::string_view checkpoint) {
  if (!checkpoint.starts_with(kEvery)) return 0;
  int64_t number = 0;
  const char *begin = checkpoint.data() + kEvery.size(), *end = checkpoint.data() + checkpoint.size();
  const auto [stop, error] = std::from_chars(begin, end, number);
  return error == std::errc() && stop == end && number > 0 && number <= 4096 ? number : 0;
}

void expect_one_of(const char* key, const std::string& value, std::initializer_list<std::string_view> words,
                   const char* expected) {
  for (const std::string_view word : words) {
    if (value == word) return;
  }
  throw base::UserError(std::string("expected memory.") + key + " to be " + expected + ", got \"" + value + "\"");
}

void expect_tokens(const char* key, int64_t value) {
  if (value >= 0) return;
  throw base::UserError(std::string("expected memory.") + key + " to be 0 or more, got " + std::to_string(value));
}

}  // namespace

int64_t MemoryConfig::checkpoint_every() const {
  return checkpoint == "none" ? 0 : checkpoint == "full" || keeps_attention() ? 1 : number_of(checkpoint);
}

void MemoryConfig::resolve(bool on_gpu) {
  for (const auto& [key, place] : {std::pair{"offload", offload}, std::pair{"chunked_attention", chunked_attention},
                                   std::pair{"offload_optimizer", offload_optimizer}}) {
    if (on_gpu || place != "host") continue;
    throw base::UserError(std::string("expected memory.") + key +
                          " to be file or none on the CPU, whose memory is the host's, got \"host\"");
  }
  if (tile_tokens == 0) tile_tokens = on_gpu ? 16384 : 1024;
  if (chunk_tokens == 0) chunk_tokens = on_gpu ? 65536 : 4096;
}

void MemoryConfig::validate() const {
  expect_one_of("attention", attention, {"flash", "dense"}, "flash or dense");
  if (number_of(checkpoint) == 0) {
    expect_one_of("checkpoint", checkpoint, {"none", "selective", "full"},
                  "none, selective, full or every-N (every-2, every-4)");
  }
  expect_one_of("offload", offload, {"none", "host", "file"}, "none, host or file");
  expect_one_of("chunked_attention", chunked_attention, {"none", "device", "host", "file"},
                "none, device, host or file");
  expect_one_of("offload_optimizer", offload_optimizer, {"none", "host", "file"}, "none, host or file");
  expect_tokens("tile_tokens", tile_tokens);
  expect_tokens("chunk_tokens", chunk_tokens);
  if (offload != "none" && checkpoint == "none") {
    throw base::UserError(
        "expected memory.offload to be none where memory.checkpoint is, as nothing waits then, got \"" + offload +
        "\"");
  }
  if (offload_parameters && (checkpoint == "none" || offload_optimizer == "none")) {
    throw base::UserError(
        "expected memory.offload_parameters to be false without memory.checkpoint and memory.offload_optimizer (by "
        "these parameters are wanted one block after the other, and live elsewhere), got true");
  }
  if (attention == "dense" && chunked_attention != "none") {
    throw base::UserError("expected memory.chunked_attention to be none where memory.attention is dense, got \"" +
                          chunked_attention + "\"");
  }
}

}  // namespace longfold::techniques
