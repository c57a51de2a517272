// What the tests of this folder share: a folder of their own, the message of an error, small data sets.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "longfold/base/error.h"
#include "longfold/base/files.h"
#include "longfold/data/token_file.h"

namespace longfold::data {

// An empty folder, of the running test alone; gone when the program ends.
inline std::filesystem::path fresh_folder() {
  const auto* test = testing::UnitTest::GetInstance()->current_test_info();
  const auto folder =
      std::filesystem::path(testing::TempDir()) /
      ("longfold-" + std::string(test->test_suite_name()) + "-" + test->name() + "-" + std::to_string(::getpid()));
  std::filesystem::remove_all(folder);
  base::make_folder(folder);
  static struct Cleaner {
    std::vector<std::filesystem::path> folders;
    ~Cleaner() {
      for (const auto& old : folders) std::filesystem::remove_all(old);
    }
  } cleaner;
  cleaner.folders.push_back(folder);
  return folder;
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
