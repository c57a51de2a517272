#include "longfold/data/token_prefix.h"

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <vector>

#include "longfold/base/error.h"
#include "longfold/base/text.h"

namespace longfold::data {
namespace {

namespace fs = std::filesystem;
using base::UserError;

constexpr size_t kListed = 5;

// Not there, for sure: a folder that may not be entered is for the one who opens the file to name.
bool is_missing(const fs::path& path) {
  std::error_code code;
  return fs::status(path, code).type() == fs::file_type::not_found;
}

// Names of the data sets in a folder.
std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> found;
  std::error_code code;  // a folder that cannot be listed has nothing to suggest
  for (auto entry = fs::directory_iterator(folder.empty() ? "." : folder, code);
       !code && entry != fs::directory_iterator(); entry.increment(code)) {
    if (entry->path().extension() == ".idx") found.push_back(entry->path().stem().string());
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::string suggestion_for(const fs::path& prefix) {
  std::error_code code;
  const bool is_folder = fs::is_directory(prefix, code);
  const fs::path folder = is_folder ? prefix : prefix.parent_path();
  const std::string wanted = is_folder ? "" : prefix.filename().string();
  std::vector<std::string> names = names_in(folder);
  if (!wanted.empty()) {
    const auto longer = std::ranges::find_if(names, [&](const std::string& name) { return name.starts_with(wanted); });
    const std::string near = longer != names.end() ? *longer : base::nearest(wanted, names);
    if (!near.empty()) return ", did you mean '" + (folder / near).string() + "'?";
  }
  const std::string where = is_folder ? "a folder, " : "";
  if (names.empty()) return is_folder ? " (" + where + "in which there is no data set)" : "";
  const bool cut = names.size() > kListed;
  names.resize(std::min(names.size(), kListed));
  for (std::string& name : names) name = (folder / name).string();
  return " (" + where + "data sets there: " + base::join(names, ", ") + (cut ? ", ...)" : ")");
}

}  // namespace

std::string checked_prefix(const std::string& prefix) {
  if (!is_missing(prefix + ".idx")) return prefix;
  for (const std::string_view ending : {".bin", ".idx", ".json", "."}) {
    const std::string shorter = prefix.substr(0, prefix.size() - std::min(ending.size(), prefix.size()));
    if (!shorter.empty() && prefix.ends_with(ending) && !is_missing(shorter + ".idx")) {
      throw UserError("expected the prefix of a data set, got '" + prefix + "': type '" + shorter + "'");
    }
  }
  throw UserError("cannot read '" + prefix + ".idx': No such file or directory" + suggestion_for(prefix));
}

bool sidecar_exists(const std::string& path) {
  return !is_missing(path);
}

void check_sidecar_exists(const std::string& path) {
  if (sidecar_exists(path)) return;
  throw UserError(
      "cannot read '" + path +
      "': No such file or directory: the .bin and .idx beside it do not say what their ids mean. If longfold prepare "
      "was "
      "broken off, run it again; if Megatron wrote them with the ids of genslm69 (or nucleotide), add --tokenizer "
      "genslm69, or for good type echo "
      "'{\"format\": \"longfold tokens\", \"version\": 1, \"tokenizer\": {\"name\": \"genslm69\"}}' > '" +
      path + "'; docs/formats.md tells how to give a table of your own");
}

}  // namespace longfold::data
