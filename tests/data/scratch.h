// What the tests of this folder share: folders of their own, the message of an error, small data sets.
#pragma once

#include <algorithm>
#include <deque>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "longfold/base/error.h"
#include "longfold/base/files.h"
#include "longfold/data/token_file.h"
#include "tests/scratch.h"

namespace longfold::data {

// An empty folder, gone when the program ends.
inline std::filesystem::path fresh_folder() {
  static std::deque<ScratchFolder> folders;
  return folders.emplace_back().path();
}

// Without the care for crashes that base::write_file takes: tests write thousands of files.
inline void put(const std::filesystem::path& path, std::string_view text) {
  std::ofstream(path, std::ios::binary) << text;
}

inline std::vector<std::string> names_in(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

template <class Error = base::UserError>
std::string message_of(const auto& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

// A data set of these sequences under a fresh folder; returns its prefix.
inline std::string write_tokens(const std::vector<std::vector<int32_t>>& sequences,
                                const Tokenizer& tokenizer = make_tokenizer("nucleotide")) {
  const std::string prefix = fresh_folder() / "set";
  TokenFileWriter writer(prefix, tokenizer);
  TokenFileInfo info{{"test.fa"}, "0", {}};
  for (size_t i = 0; i < sequences.size(); ++i) {
    writer.append(sequences[i]);
    writer.end_sequence({"record" + std::to_string(i), 0});
    info.counts.tokens += static_cast<int64_t>(sequences[i].size());
  }
  writer.commit(info);
  return prefix;
}

inline std::vector<int64_t> to_vector(const at::Tensor& tensor) {
  const auto* begin = tensor.const_data_ptr<int64_t>();
  return {begin, begin + tensor.numel()};
}

}  // namespace longfold::data
