#include "longfold/train/checkpoint.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "longfold/base/error.h"
#include "longfold/base/files.h"
#include "longfold/base/safetensors.h"
#include "tests/scratch.h"

namespace longfold::train {
namespace {

namespace fs = std::filesystem;

CheckpointTensors example(double value) {
  const auto full = [&](at::IntArrayRef shape) {
    return at::arange(shape[0] * shape[1], at::kFloat).view(shape) + value;
  };
  return {.model = {{"a", full({2, 3})}, {"b", full({4, 1}).t()}}, .optimizer = {{"a.mean", full({1, 5})}}};
}

Manifest manifest(int64_t step) {
  return {.step = step,
          .recipe = {{"model", {{"num_layers", 2}}}},
          .tokenizer = "t",
          .tokenizer_hash = "h",
          .data_hash = "d"};
}

CheckpointTensors zeros() {
  CheckpointTensors tensors = example(0);
  for (NamedTensors* part : {&tensors.model, &tensors.optimizer}) {
    for (auto& [name, tensor] : *part) tensor = at::zeros_like(tensor);
  }
  return tensors;
}

std::string refusal(const fs::path& checkpoint, const CheckpointTensors& tensors) {
  try {
    load_tensors(checkpoint, tensors);
  } catch (const base::UserError& error) {
    const std::string message = error.what();
    return message.substr(message.find_last_of('/', message.find("': ")) + 1);
  }
  return "";
}

void flip_byte(const fs::path& path, size_t from_end) {
  std::string bytes = base::read_file(path);
  bytes[bytes.size() - from_end] = static_cast<char>(bytes[bytes.size() - from_end] ^ 1);
  base::write_file(path, bytes);
}

TEST(Checkpoint, ReadsWhatItWrote) {
  const ScratchFolder output;
  const fs::path path = save_checkpoint(output.path(), manifest(20), example(0.5));
  EXPECT_EQ(path, output / "step-00000020");
  const Manifest read = read_manifest(path);
  EXPECT_EQ(read.step, 20);
  EXPECT_EQ(read.recipe, manifest(20).recipe);
  EXPECT_EQ(read.tokenizer_hash + read.tokenizer + read.data_hash, "htd");
  const CheckpointTensors tensors = zeros(), expected = example(0.5);
  load_tensors(path, tensors);
  for (size_t i = 0; i < 2; ++i) EXPECT_TRUE(at::equal(tensors.model[i].tensor, expected.model[i].tensor));
  EXPECT_TRUE(at::equal(tensors.optimizer[0].tensor, expected.optimizer[0].tensor));
}

TEST(Checkpoint, LatestIsTheHighestCompleteStep) {
  const ScratchFolder output;
  EXPECT_EQ(latest_checkpoint(output.path()), std::nullopt);
  EXPECT_EQ(latest_checkpoint(output / "nowhere"), std::nullopt);
  save_checkpoint(output.path(), manifest(99'999'999), example(0));
  save_checkpoint(output.path(), manifest(100'000'000), example(0));
  save_checkpoint(output.path(), manifest(7), example(0));
  fs::create_directory(output / "step-00000300x");
  fs::create_directory(output / "step-999999999.part-17");  // a writer that was killed
  EXPECT_EQ(latest_checkpoint(output.path()), output / "step-100000000");
  save_checkpoint(output.path(), manifest(8), example(0));
  EXPECT_FALSE(fs::exists(output / "step-999999999.part-17")) << "the next writer clears up";
}

TEST(Checkpoint, AFailedWriteLeavesNothing) {
  const ScratchFolder output;
  save_checkpoint(output.path(), manifest(1), example(0));
  CheckpointTensors broken = example(1);
  broken.optimizer[0].tensor = at::zeros({2}, at::kBool);  // fails after the model was written
  EXPECT_THROW(save_checkpoint(output.path(), manifest(2), broken), c10::Error);
  EXPECT_EQ(std::distance(fs::directory_iterator(output.path()), {}), 1);
  EXPECT_THROW(save_checkpoint(output.path(), manifest(1), example(1)), base::RunError) << "never overwrites";
  const CheckpointTensors tensors = zeros();
  load_tensors(output / "step-00000001", tensors);
  EXPECT_TRUE(at::equal(tensors.model[0].tensor, example(0).model[0].tensor));
}

TEST(Checkpoint, DamageNamesFileAndTensor) {
  const ScratchFolder output;
  const fs::path path = save_checkpoint(output.path(), manifest(1), example(0));
  flip_byte(path / "model.safetensors", 1);
  EXPECT_TRUE(refusal(path, zeros()).starts_with("model.safetensors': tensor 'b': damaged: expected checksum "));
  flip_byte(path / "model.safetensors", 1);
  EXPECT_EQ(refusal(path, zeros()), "");
  flip_byte(path / "optimizer.safetensors", 20);
  EXPECT_TRUE(refusal(path, zeros()).starts_with("optimizer.safetensors': tensor 'a.mean': damaged"));
  fs::resize_file(path / "model.safetensors", fs::file_size(path / "model.safetensors") - 1);
  EXPECT_EQ(refusal(path, zeros()),
            "model.safetensors': tensor 'b': expected data_offsets within the 39 bytes of data, got [24,40] (a "
            "truncated file?)");
  fs::remove(path / "model.safetensors");
  EXPECT_EQ(refusal(path, zeros()), "model.safetensors': No such file or directory");
}

TEST(Checkpoint, DamagedManifestIsNamed) {
  const ScratchFolder output;
  const fs::path path = save_checkpoint(output.path(), manifest(1), example(0));
  const std::string text = base::read_file(path / "manifest.json");
  for (const std::string& broken : {text.substr(0, text.size() / 2), std::string("[]"), std::string("{}")}) {
    base::write_file(path / "manifest.json", broken);
    EXPECT_EQ(refusal(path, zeros()), "manifest.json': damaged, or no longfold checkpoint");
  }
  std::string later = text;
  later.replace(later.find("\"version\": 3"), 12, "\"version\": 4");
  base::write_file(path / "manifest.json", later);
  EXPECT_EQ(refusal(path, zeros()), "manifest.json': expected format version 3, got 4");
  std::string other_rate = text;
  other_rate.replace(other_rate.find("\"num_layers\": 2"), 15, "\"num_layers\": 3");
  base::write_file(path / "manifest.json", other_rate);
  EXPECT_EQ(refusal(path, zeros()).substr(0, 83),
            "manifest.json': damaged: expected it to end with the checksum of what comes before,");
  EXPECT_THROW((void)read_manifest(path), base::UserError);
}

TEST(Checkpoint, WrongShapesMissingAndUnknownTensors) {
  const ScratchFolder output;
  const fs::path path = save_checkpoint(output.path(), manifest(1), example(0));
  CheckpointTensors wider = zeros();
  wider.model[0].tensor = at::zeros({3, 2});
  EXPECT_EQ(refusal(path, wider), "model.safetensors': tensor 'a': expected F32 [3,2], got F32 [2,3]");
  CheckpointTensors doubles = zeros();
  doubles.model[0].tensor = at::zeros({2, 3}, at::kDouble);
  EXPECT_EQ(refusal(path, doubles), "model.safetensors': tensor 'a': expected F64 [2,3], got F32 [2,3]");
  CheckpointTensors more = zeros();
  more.model.push_back({"c", at::zeros({1})});
  EXPECT_EQ(refusal(path, more), "model.safetensors': tensor 'c': missing");
  CheckpointTensors fewer = zeros();
  fewer.model.pop_back();
  EXPECT_EQ(refusal(path, fewer), "model.safetensors': tensor 'b': not in this model");
}

}  // namespace
}  // namespace longfold::train
