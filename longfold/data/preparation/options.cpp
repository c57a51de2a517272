#include "longfold/data/preparation/options.h"

#include <filesystem>
#include <limits>

#include "longfold/base/error.h"
#include "longfold/base/text.h"

namespace longfold::data {
namespace {

using base::UserError;

void check_output(const std::filesystem::path& output) {
  if (output.filename().empty() || output.filename() == "." || output.filename() == "..") {
    throw UserError("expected the output to be a prefix such as folder/name, got '" + output.string() + "'");
  }
  if (output.extension() == ".bin" || output.extension() == ".idx" || output.extension() == ".json") {
    throw UserError("expected the output to be a prefix, to which .bin, .idx and .json are added, got '" +
                    output.string() + "': type -o '" + (output.parent_path() / output.stem()).string() + "'");
  }
}

}  // namespace

bool PrepareOptions::streams() const {
  return !coding() && window == 0 && !reverse_complement && !drop_duplicates && !split.wanted();
}

std::vector<int64_t> parse_frames(const std::string& frame, const Tokenizer& tokenizer) {
  const int64_t letters = tokenizer.letters_per_token();
  std::vector<int64_t> frames;
  for (int64_t i = 0; i < letters; ++i) {
    if (frame == "all" || frame == std::to_string(i)) frames.push_back(i);
  }
  const bool known = frame == "0" || frame == "1" || frame == "2" || frame == "all";
  if (!known) throw UserError("expected frame 0, 1, 2 or all, got '" + frame + "'");
  if (letters == 1 && frame != "0") {
    throw UserError("expected frame 0 for tokenizer '" + tokenizer.name() + "', whose tokens are single letters, got " +
                    frame);
  }
  return frames;
}

void check_options(const PrepareOptions& options, const Tokenizer& tokenizer) {
  check_output(options.output);
  (void)parse_frames(options.frame, tokenizer);
  const std::vector<std::string> known{"records", "cds"};
  if (options.take != "records" && options.take != "cds") {
    throw UserError("unknown --take '" + options.take + "'" + base::suggestion(options.take, known));
  }
  if (options.coding() && options.frame != "0") {
    throw UserError("expected --frame 0 with --take cds (a coding sequence begins with a codon), got " + options.frame);
  }
  if (options.keep_partial && !options.coding()) throw UserError("expected --keep-partial with --take cds only");
  constexpr int64_t kLongest = std::numeric_limits<int32_t>::max();  // of a sequence, in the .idx
  if (options.window < 0 || options.stride < 0 || options.window > kLongest || options.stride > kLongest) {
    throw UserError("expected --window and --stride to be from 0 to " + std::to_string(kLongest) + ", got " +
                    std::to_string(options.window) + " and " + std::to_string(options.stride));
  }
  if (options.stride > 0 && options.window == 0) throw UserError("expected --stride with --window only");
  if (options.soft_mask && options.frame == "all") throw UserError("expected one --frame with --soft-mask, got all");
  if (options.window > 0 && options.frame != "0") {
    throw UserError("expected --frame 0 with --window, got " + options.frame);
  }
}

}  // namespace longfold::data
