#include "longfold/train/checkpoint.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <zlib.h>

#include <charconv>
#include <cstdio>
#include <limits>

#include "longfold/base/error.h"
#include "longfold/base/files.h"
#include "longfold/base/safetensors.h"
#include "longfold/version.h"

namespace longfold::train {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr const char* kFormat = "longfold-checkpoint";
constexpr int64_t kFormatVersion = 3;  // 1 had GPT-NeoX alone, 2 no checksum of the manifest
constexpr std::string_view kFolderPrefix = "step-";
constexpr const char* kModelFile = "model.safetensors";
constexpr const char* kOptimizerFile = "optimizer.safetensors";
constexpr const char* kManifestFile = "manifest.json";

std::string folder_name(int64_t step) {
  std::array<char, 32> name{};
  std::snprintf(name.data(), name.size(), "step-%08ld", long{step});
  return name.data();
}

// The step of a complete checkpoint's folder name; nothing for a partial one and for anything else.
std::optional<int64_t> step_of(const std::string& name) {
  int64_t step = 0;
  if (!name.starts_with(kFolderPrefix)) return {};
  const char* end = name.data() + name.size();
  const auto [stop, code] = std::from_chars(name.data() + kFolderPrefix.size(), end, step);
  if (code != std::errc{} || stop != end) return {};
  return step;
}

std::string dtype_name(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return "F32";
    case at::kDouble:
      return "F64";
    case at::kBFloat16:
      return "BF16";
    case at::kHalf:
      return "F16";
    case at::kLong:
      return "I64";
    default:
      TORCH_CHECK(false, "[checkpoint] expected a floating dtype or int64, got ", tensor.scalar_type());
  }
}

std::span<const std::byte> bytes_of(const at::Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()};
}

std::string checksum(std::span<const std::byte> bytes) {
  uLong crc = ::crc32(0, nullptr, 0);
  constexpr size_t kPiece = std::numeric_limits<uInt>::max();
  for (size_t done = 0; done < bytes.size(); done += kPiece) {
    const size_t count = std::min(kPiece, bytes.size() - done);
    crc = ::crc32(crc, reinterpret_cast<const Bytef*>(bytes.data() + done), static_cast<uInt>(count));
  }
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "%08lx", crc);
  return text.data();
}

Json write_tensors(const fs::path& folder, const char* file, const NamedTensors& tensors) {
  std::vector<at::Tensor> kept;  // alive until they are written
  std::vector<base::TensorBytes> entries;
  Json described = Json::object();
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor& flat = kept.emplace_back(tensor.detach().cpu().contiguous());
    entries.push_back({name, dtype_name(flat), flat.sizes().vec(), bytes_of(flat)});
    described[name] = {{"file", file},
                       {"dtype", entries.back().dtype},
                       {"shape", entries.back().shape},
                       {"crc32", checksum(entries.back().data)}};
  }
  base::write_safetensors(folder / file, entries);
  return described;
}

void remove_partial_checkpoints(const fs::path& output) {
  for (const fs::directory_entry& entry : fs::directory_iterator(output)) {
    const std::string name = entry.path().filename();
    if (name.starts_with(kFolderPrefix) && name.find(base::AtomicFolder::kPartial) != std::string::npos) {
      std::error_code ignored;  // it is in nobody's way
      fs::remove_all(entry.path(), ignored);
    }
  }
}

std::string prefix_of(const fs::path& path) {
  std::string text = "'";
  return text.append(path.string()).append("': ");
}

// What a manifest ends with: the checksum of all before it.
std::string seal(std::string_view text) {
  return ",\n \"crc32\": \"" + checksum(std::as_bytes(std::span(text))) + "\"\n}\n";
}

std::string sealed(const Json& json) {
  std::string text = json.dump(1);
  text.resize(text.size() - std::string_view("\n}").size());
  return text + seal(text);
}

void check_seal(std::string_view text, const std::string& where) {
  const size_t length = seal("").size();
  const std::string_view before = text.substr(0, text.size() - std::min(text.size(), length));
  if (text.substr(before.size()) == seal(before)) return;
  throw base::UserError(where + "damaged: expected it to end with the checksum of what comes before, \"" +
                        checksum(std::as_bytes(std::span(before))) +
                        "\" (remove the folder to go on from the checkpoint before it)");
}

void expect_object(const Json& json, const std::string& where, const std::string& key) {
  if (!json.is_object()) throw base::UserError(where + "expected '" + key + "' to be an object, got " + json.dump());
}

Json read_manifest_json(const fs::path& checkpoint) {
  const fs::path path = checkpoint / kManifestFile;
  const std::string where = prefix_of(path);
  const std::string text = base::read_file(path);
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || json.value("format", Json()) != kFormat) {
    throw base::UserError(where + "damaged, or no longfold checkpoint");
  }
  if (json.value("version", Json()) != kFormatVersion) {
    throw base::UserError(where + "expected format version " + std::to_string(kFormatVersion) + ", got " +
                          json.value("version", Json()).dump());
  }
  check_seal(text, where);
  for (const char* key : {"recipe", "tensors"}) {  // objects of objects
    expect_object(json.value(key, Json()), where, key);
    for (const auto& [name, value] : json[key].items()) expect_object(value, where, key + ("." + name));
  }
  return json;
}

// The step of the manifest, which is that of its folder.
int64_t step_in(const Json& json, const fs::path& checkpoint) {
  const Json& step = json.at("step");
  const std::optional<int64_t> expected = step_of(checkpoint.filename());
  if (!expected || step != *expected) {
    throw base::UserError(prefix_of(checkpoint / kManifestFile) + "expected the step of its folder, got " +
                          step.dump());
  }
  return *expected;
}

void load_one(const base::SafetensorsFile& file, const std::string& where, const Json& described,
              const NamedTensor& target) {
  const std::string tensor = where + "tensor '" + target.name + "': ";
  const base::TensorEntry* entry = file.find(target.name);
  if (entry == nullptr || !described.contains(target.name)) throw base::UserError(tensor + "missing");
  const std::string expected = dtype_name(target.tensor) + " " + Json(target.tensor.sizes().vec()).dump();
  const std::string got = entry->dtype + " " + Json(entry->shape).dump();
  if (expected != got) throw base::UserError(tensor + "expected " + expected + ", got " + got);
  const at::Tensor read = at::empty(target.tensor.sizes(), target.tensor.options().device(at::kCPU));
  file.read(*entry, {static_cast<std::byte*>(read.mutable_data_ptr()), read.nbytes()});
  const Json& crc = described[target.name].value("crc32", Json());
  if (checksum(bytes_of(read)) != crc) {
    throw base::UserError(tensor + "damaged: expected checksum " + crc.dump() + ", got \"" + checksum(bytes_of(read)) +
                          "\" (remove the folder to go on from the checkpoint before it)");
  }
  const at::NoGradGuard no_grad;
  target.tensor.copy_(read);
}

void load_file(const fs::path& path, const Json& described, const NamedTensors& targets) {
  const base::SafetensorsFile file(path);
  const std::string where = prefix_of(path);
  for (const NamedTensor& target : targets) load_one(file, where, described, target);
  for (const base::TensorEntry& entry : file.tensors()) {
    if (std::ranges::find(targets, entry.name, &NamedTensor::name) == targets.end()) {
      throw base::UserError(where + "tensor '" + entry.name + "': not in this model");
    }
  }
}

}  // namespace

fs::path save_checkpoint(const fs::path& output, const Manifest& manifest, const CheckpointTensors& tensors) {
  remove_partial_checkpoints(output);
  const fs::path path = output / folder_name(manifest.step);
  base::AtomicFolder folder(path);
  Json described = write_tensors(folder.temporary(), kModelFile, tensors.model);
  described.update(write_tensors(folder.temporary(), kOptimizerFile, tensors.optimizer));
  Json json = {
      {"format", kFormat},
      {"version", kFormatVersion},
      {"longfold", kVersion},
      {"step", manifest.step},
      {"tokenizer",
       {{"name", manifest.tokenizer}, {"hash", manifest.tokenizer_hash}, {"vocabulary", manifest.vocabulary}}},
      {"data_hash", manifest.data_hash},
      {"skipped_steps", {{"total", manifest.skips.total}, {"in_a_row", manifest.skips.in_a_row}}},
      {"recipe", manifest.recipe},
      {"tensors", described},
  };
  if (const auto& best = manifest.best) {
    json["best"] = {{"step", best->step}, {"validation_loss", best->validation_loss}, {"validation", best->validation}};
  }
  if (!manifest.imported_from.empty()) json["imported_from"] = manifest.imported_from;
  if (const auto& loss_scale = manifest.loss_scale) {
    json["loss_scale"] = {{"scale", loss_scale->scale}, {"good_steps", loss_scale->good_steps}};
  }
  base::write_file(folder.temporary() / kManifestFile, sealed(json));
  folder.commit();
  return path;
}

std::optional<fs::path> latest_checkpoint(const fs::path& output, int64_t last) {
  std::optional<fs::path> latest;
  int64_t latest_step = -1;
  if (!fs::is_directory(output)) return latest;
  for (const fs::directory_entry& entry : fs::directory_iterator(output)) {
    const int64_t step = entry.is_directory() ? step_of(entry.path().filename()).value_or(-1) : -1;
    if (step <= latest_step || step > last) continue;
    latest = entry.path();
    latest_step = step;
  }
  return latest;
}

fs::path find_checkpoint(const fs::path& given) {
  if (fs::exists(given / kManifestFile)) return given;
  if (const std::optional<fs::path> newest = latest_checkpoint(given)) return *newest;
  throw base::UserError("expected a checkpoint or a folder with some, got '" + given.string() + "'");
}

std::optional<fs::path> best_checkpoint(const fs::path& output) {
  const std::optional<fs::path> latest = latest_checkpoint(output);
  const std::optional<Best> best = latest ? read_manifest(*latest).best : std::nullopt;
  if (!best || !fs::exists(checkpoint_path(output, best->step))) return {};
  return checkpoint_path(output, best->step);
}

fs::path checkpoint_path(const fs::path& output, int64_t step) {
  return output / folder_name(step);
}

std::vector<int64_t> own_checkpoints(const fs::path& output) {
  const auto is_ours = [](const fs::path& folder) {
    const std::optional<int64_t> step = step_of(folder.filename());
    if (!step || folder.filename() != folder_name(*step)) return false;
    std::vector<std::string> names;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
    std::ranges::sort(names);
    if (names != std::vector<std::string>{kManifestFile, kModelFile, kOptimizerFile}) return false;
    const Json json = Json::parse(base::read_file(folder / kManifestFile), nullptr, /*allow_exceptions=*/false);
    return json.is_object() && json.value("format", Json()) == kFormat && json.value("step", Json()) == *step;
  };
  std::vector<int64_t> steps;
  for (const fs::directory_entry& entry : fs::directory_iterator(output)) {
    if (entry.is_symlink() || !entry.is_directory() || !is_ours(entry.path())) continue;
    steps.push_back(*step_of(entry.path().filename()));
  }
  return steps;
}

Manifest read_manifest(const fs::path& checkpoint) {
  const Json json = read_manifest_json(checkpoint);
  try {
    Manifest manifest{.step = step_in(json, checkpoint),
                      .recipe = json.at("recipe"),
                      .tokenizer = json.at("tokenizer").at("name").get<std::string>(),
                      .tokenizer_hash = json.at("tokenizer").at("hash").get<std::string>(),
                      .vocabulary = json.at("tokenizer").at("vocabulary").get<std::vector<std::string>>(),
                      .data_hash = json.at("data_hash").get<std::string>()};
    if (json.contains("imported_from")) manifest.imported_from = json["imported_from"].get<std::string>();
    if (json.contains("best")) {
      const Json& best = json["best"];
      manifest.best = {.step = best.at("step").get<int64_t>(),
                       .validation_loss = best.at("validation_loss").get<double>(),
                       .validation = best.at("validation").get<std::string>()};
    }
    const Json& skipped = json.at("skipped_steps");
    manifest.skips = {.total = skipped.at("total").get<int64_t>(), .in_a_row = skipped.at("in_a_row").get<int64_t>()};
    if (json.contains("loss_scale")) {
      const Json& scale = json["loss_scale"];
      manifest.loss_scale = {.scale = scale.at("scale").get<double>(),
                             .good_steps = scale.at("good_steps").get<int64_t>()};
    }
    return manifest;
  } catch (const Json::exception& error) {
    throw base::UserError(prefix_of(checkpoint / kManifestFile) + error.what());
  }
}

void load_model(const fs::path& checkpoint, const NamedTensors& model) {
  load_file(checkpoint / kModelFile, read_manifest_json(checkpoint)["tensors"], model);
}

void load_tensors(const fs::path& checkpoint, const CheckpointTensors& tensors) {
  load_model(checkpoint, tensors.model);
  load_file(checkpoint / kOptimizerFile, read_manifest_json(checkpoint)["tensors"], tensors.optimizer);
}

}  // namespace longfold::train
