#include "longfold/exchange/hugging_face/weights.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "longfold/base/error.h"
#include "longfold/base/json.h"
#include "longfold/base/safetensors.h"
#include "longfold/base/text.h"

namespace longfold::exchange {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using model::ModelConfig;

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

std::string prefix_of(const fs::path& path) {
  return "'" + path.string() + "': ";
}

// "a, b, c and 5 more".
std::string list(const std::vector<std::string>& names) {
  constexpr size_t kListed = 3;
  std::vector<std::string> shown;
  for (size_t i = 0; i < std::min(names.size(), kListed); ++i) {
    shown.push_back(base::printable(names[i], 2 * base::kShownName));
  }
  const std::string more = std::to_string(names.size() - shown.size());
  return base::join(shown, ", ") + (names.size() > kListed ? " and " + more + " more" : "");
}

struct Found {
  const base::SafetensorsFile* file;
  const base::TensorEntry* entry;
};

// The tensors of all files of a folder, by name.
class Store {
 public:
  explicit Store(const fs::path& folder) : folder_(folder) {
    const bool has_index = fs::exists(folder / kIndex);
    if (has_index && fs::exists(folder / kSingle)) {
      throw base::UserError("'" + folder.string() + "' has both '" + kSingle + "' and '" + kIndex +
                            "': expected one of them");
    }
    if (!has_index) {
      open(kSingle, [](const std::string&) { return true; });
      return;
    }
    open_those_of_index();
  }

  [[nodiscard]] const std::map<std::string, Found>& tensors() const { return tensors_; }
  [[nodiscard]] const Found* find(const std::string& name) const {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? nullptr : &found->second;
  }

  // Gives the tensors the names of the table, where they have others. What a model without its head wrote lacks the
  // beginning of its names.
  void rename(const Family& family, const std::set<std::string>& expected) {
    const auto has_base = [&](const auto& item) { return item.first.starts_with(family.base); };
    const std::string before(std::ranges::any_of(tensors_, has_base) ? "" : family.base);
    std::map<std::string, Found> renamed;
    for (const auto& [name, found] : tensors_) {
      std::string now = name;
      for (const auto& [from, to] : family.also) {
        if (name.starts_with(from)) now = std::string(to) + name.substr(from.size());
      }
      if (!expected.contains(now)) now.insert(0, before);
      if (!renamed.emplace(now, found).second) {
        throw base::UserError(prefix_of(folder_) + "two tensors are '" + now + "', one of them as '" + name + "'");
      }
    }
    tensors_ = std::move(renamed);
  }

 private:
  template <class IsExpected>
  void open(const std::string& name, IsExpected is_expected) {
    const base::SafetensorsFile& file = *files_.emplace_back(std::make_unique<base::SafetensorsFile>(folder_ / name));
    for (const base::TensorEntry& entry : file.tensors()) {
      if (!is_expected(entry.name)) {
        throw base::UserError(prefix_of(folder_ / name) + "tensor '" + base::printable(entry.name, base::kShownName) +
                              "' is not of this file, says " + kIndex);
      }
      tensors_[entry.name] = {&file, &entry};
    }
  }

  void open_those_of_index() {
    const fs::path path = folder_ / kIndex;
    const Json index = base::parse_object(base::read_file(path), prefix_of(path), "the file");
    const Json map = index.value("weight_map", Json());
    if (!map.is_object()) throw base::UserError(prefix_of(path) + "expected an object weight_map");
    std::map<std::string, std::set<std::string>> by_file;
    for (const auto& [tensor, file] : map.items()) {
      const fs::path name = file.is_string() ? file.get<std::string>() : "";
      if (name.empty() || name != name.filename() || name.extension() != ".safetensors") {
        throw base::UserError(prefix_of(path) + "weight_map." + base::printable(tensor, base::kShownName) + " is " +
                              base::shown(file) + ", expected the name of a .safetensors file in this folder");
      }
      by_file[name].insert(tensor);
    }
    for (const auto& [file, names] : by_file) {
      open(file, [&](const std::string& name) { return names.contains(name); });
      for (const std::string& name : names) {
        if (find(name) != nullptr) continue;
        throw base::UserError(prefix_of(folder_ / file) + "tensor '" + base::printable(name, base::kShownName) +
                              "' is missing, which is there according to " + kIndex);
      }
    }
  }

  fs::path folder_;
  std::vector<std::unique_ptr<base::SafetensorsFile>> files_;
  std::map<std::string, Found> tensors_;
};

at::ScalarType dtype_of(const base::TensorEntry& entry, const std::string& where) {
  constexpr std::array kKnown{std::pair{"F32", at::kFloat}, std::pair{"F16", at::kHalf},
                              std::pair{"BF16", at::kBFloat16}};
  for (const auto& [name, dtype] : kKnown) {
    if (entry.dtype == name) return dtype;
  }
  throw base::UserError(where + "tensor '" + entry.name + "': expected F32, F16 or BF16, got " + entry.dtype);
}

at::Tensor read(const Found& found, const std::string& where) {
  const at::Tensor stored = at::empty(found.entry->shape, dtype_of(*found.entry, where));
  found.file->read(*found.entry, {static_cast<std::byte*>(stored.mutable_data_ptr()), stored.nbytes()});
  return stored.to(at::kFloat);
}

bool holds_no_weights(const Family& family, std::string_view name) {
  return name.starts_with(family.blocks) &&
         std::ranges::any_of(family.no_weights, [&](std::string_view end) { return name.ends_with(end); });
}

// Names, shapes and types of all tensors, before any is read.
void check_all(const Store& store, const ModelConfig& config, const std::vector<Parameter>& parameters,
               const std::set<std::string>& expected, const std::string& where) {
  std::vector<std::string> missing, surplus;
  for (const Parameter& parameter : parameters) {
    for (const std::string& name : parameter.theirs) {
      if (store.find(name) == nullptr) missing.push_back(name);
    }
  }
  if (!missing.empty()) throw base::UserError(where + "missing, as config.json has it: " + list(missing));
  const Family& family = family_of(config);
  for (const auto& [name, unused] : store.tensors()) {
    if (!expected.contains(name) && !holds_no_weights(family, name)) surplus.push_back(name);
  }
  if (!surplus.empty()) throw base::UserError(where + "not in a model of this config.json: " + list(surplus));
  for (const Parameter& parameter : parameters) {
    const at::Tensor ours = at::empty(parameter.shape, at::TensorOptions().device(at::kMeta));
    const std::vector<at::Tensor> theirs = to_theirs(config, parameter.stored, ours);
    for (size_t i = 0; i < theirs.size(); ++i) {
      const base::TensorEntry& entry = *store.find(parameter.theirs[i])->entry;
      (void)dtype_of(entry, where);
      if (theirs[i].sizes() == at::IntArrayRef(entry.shape)) continue;
      throw base::UserError(where + "tensor '" + parameter.theirs[i] + "': expected shape " +
                            Json(theirs[i].sizes().vec()).dump() + ", as config.json has it, got " +
                            Json(entry.shape).dump());
    }
  }
}

// A head that config.json ties to the embedding may stand there all the same: as what it is.
void check_tied_head(const Store& store, const Tensor& embedding, const std::string& head, const std::string& name,
                     const std::string& where) {
  const Found* found = store.find(head);
  if (found == nullptr) return;
  if (embedding.value.sizes() == at::IntArrayRef(found->entry->shape) &&
      at::equal(read(*found, where), embedding.value)) {
    return;
  }
  throw base::UserError(where + "tensor '" + head + "' is not '" + name +
                        "', though tie_word_embeddings is true in config.json");
}

bool is_pickle(const fs::path& path) {
  constexpr std::array<std::string_view, 5> kEnds{".bin", ".pt", ".pth", ".ckpt", ".pkl"};
  // Of transformers' Trainer, beside the weights.
  constexpr std::array<std::string_view, 5> kNoWeights{"training_args.bin", "optimizer.pt", "optimizer.bin",
                                                       "scheduler.pt", "rng_state.pth"};
  const std::string name = path.filename();
  return std::ranges::any_of(kEnds, [&](std::string_view end) { return name.ends_with(end); }) &&
         std::ranges::find(kNoWeights, name) == kNoWeights.end();
}

[[noreturn]] void refuse(const std::vector<std::string>& pickles, const fs::path& folder) {
  throw base::UserError(
      "'" + pickles[0] +
      "' is a pickle: reading one runs whatever program it holds, so longfold does not; if you trust it, convert it, "
      "with its config.json beside the result: python -c 'import sys, torch, safetensors.torch; "
      "w = [torch.load(f, map_location=\"cpu\", weights_only=True) for f in sys.argv[2:]]; "
      "safetensors.torch.save_file({k: v.contiguous().clone() for d in w for k, v in d.get(\"state_dict\", "
      "d).items()}, "
      "sys.argv[1])' '" +
      (folder / kSingle).string() + "' '" + base::join(pickles, "' '") + "'");
}

}  // namespace

void refuse_pickles(const fs::path& path) {
  if (fs::is_regular_file(path) && is_pickle(path)) refuse({path.string()}, path.parent_path());
  if (!fs::is_directory(path) || fs::exists(path / kSingle) || fs::exists(path / kIndex)) return;
  std::vector<std::string> pickles;
  for (const fs::directory_entry& entry : fs::directory_iterator(path)) {
    if (entry.is_regular_file() && is_pickle(entry.path())) pickles.push_back(entry.path().string());
  }
  std::ranges::sort(pickles);
  if (!pickles.empty()) refuse(pickles, path);
}

ReadWeights read_hugging_face_weights(const fs::path& folder, const ModelConfig& config) {
  const std::string where = prefix_of(folder);
  Store store(folder);
  if (config.num_layers > std::ssize(store.tensors())) {  // so that no list is longer than the files
    throw base::UserError(where + "config.json has " + std::to_string(config.num_layers) + " layers, there are only " +
                          std::to_string(store.tensors().size()) + " tensors");
  }
  const Family& family = family_of(config);
  ModelConfig untied = config;
  untied.tie_embeddings = false;
  const std::string head = parameters_of(untied).back().theirs[0];
  const std::vector<Parameter> parameters = parameters_of(config);
  std::set<std::string> expected{head};  // a tied one too
  for (const Parameter& parameter : parameters) expected.insert(parameter.theirs.begin(), parameter.theirs.end());
  store.rename(family, expected);
  check_all(store, config, parameters, expected, where);

  ReadWeights weights;
  for (const Parameter& parameter : parameters) {
    std::vector<at::Tensor> theirs;
    for (const std::string& name : parameter.theirs) theirs.push_back(read(*store.find(name), where));
    weights.parameters.push_back({parameter.name, to_ours(config, parameter.stored, theirs).contiguous()});
    weights.num_tensors += theirs.size();
  }
  if (config.tie_embeddings) check_tied_head(store, weights.parameters[0], head, parameters[0].theirs[0], where);
  const auto left_out =
      std::ranges::count_if(store.tensors(), [&](const auto& item) { return holds_no_weights(family, item.first); });
  if (left_out > 0) {
    weights.notes.push_back("left out " + std::to_string(left_out) +
                            " tensors that hold no weights (masks and angles, as older versions wrote them)");
  }
  return weights;
}

}  // namespace longfold::exchange
