#include "longfold/train/plan.h"

#include <ATen/Context.h>
#include <c10/core/CachingDeviceAllocator.h>

#include <algorithm>
#include <limits>

#include "longfold/base/error.h"
#include "longfold/base/fields.h"
#include "longfold/base/text.h"
#include "longfold/train/device.h"
#include "longfold/train/processes.h"

namespace longfold::train {
namespace {

using techniques::MemoryConfig;

constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

// Only sizes and folder of another.
MemoryConfig plain(const MemoryConfig& like) {
  MemoryConfig memory;
  memory.tile_tokens = like.tile_tokens, memory.chunk_tokens = like.chunk_tokens, memory.folder = like.folder;
  memory.early_updates = like.early_updates;  // asks for no clipping: nobody else may choose it
  return memory;
}

// Whether the value is what 0 stands for.
bool is_own_size(const std::string& key, const MemoryConfig& memory) {
  for (const bool on_gpu : {false, true}) {
    MemoryConfig sizes;
    sizes.resolve(on_gpu);
    if (key == "tile_tokens" && memory.tile_tokens == sizes.tile_tokens) return true;
    if (key == "chunk_tokens" && memory.chunk_tokens == sizes.chunk_tokens) return true;
  }
  return false;
}

// Processes that share a sequence do not (train/processes.h).
bool attends_by_chunks(const Recipe& recipe) {
  return recipe.parallel.degrees().sequence() == 1;
}

memory::Term largest(const StepMemory& step) {
  const auto* const most = std::ranges::max_element(step.by_term);
  return static_cast<memory::Term>(most - step.by_term.begin());
}

}  // namespace

std::vector<Rung> ways_to_fit(const Recipe& recipe) {
  const bool on_gpu = recipe.compute.device != "cpu";
  const char* const away = on_gpu ? "host" : "file";
  MemoryConfig memory = plain(recipe.memory);
  std::vector<Rung> rungs{{"nothing", memory}};
  const auto add = [&](const char* name) { rungs.push_back({name, memory}); };
  memory.tiled_loss = true;
  add("tiled loss");
  memory.checkpoint = "selective";
  add("selective checkpoints");
  memory.tiled_mlp = true;
  add("tiled MLP");
  if (on_gpu) {
    memory.offload = away;
    add("offload");
    memory.offload_optimizer = away;
    add("optimizer on the host");
    memory.offload_parameters = true;
    add("parameters on the host");
  }
  memory.checkpoint = "full";
  add("full checkpoints");
  if (attends_by_chunks(recipe)) {
    memory.chunked_attention = "device";
    add("chunked attention");
  }
  if (!on_gpu) {
    memory.offload = away;
    add("offload");
  }
  if (attends_by_chunks(recipe)) {
    memory.chunked_attention = away;
    add(on_gpu ? "chunks on the host" : "chunks in a file");
  }
  if (on_gpu) return rungs;
  memory.offload_optimizer = away;
  add("optimizer in a file");
  if (recipe.compute.dtype != "fp32") {
    memory.offload_parameters = true;
    add("parameters in a file");
  }
  return rungs;
}

std::vector<Rung> ladder(const Recipe& recipe) {
  const std::string away = recipe.compute.device != "cpu" ? "host" : "file";
  MemoryConfig memory = plain(recipe.memory);
  std::vector<Rung> rungs;
  const auto add = [&](const std::string& name) { rungs.push_back({name, memory}); };
  if (attends_by_chunks(recipe)) {  // nor is dense attention shared
    memory.attention = "dense";
    add("dense");
  }
  memory.attention = "flash";
  add("flash");
  memory.checkpoint = "full";
  add("+ checkpoints");
  memory.tiled_mlp = true;
  add("+ tiled MLP");
  memory.tiled_loss = true;
  add("+ tiled loss");
  if (attends_by_chunks(recipe)) {
    memory.chunked_attention = "device";
    add("+ chunked attention");
  }
  memory.offload = away;
  add("+ offload, " + away);
  if (attends_by_chunks(recipe)) {
    memory.chunked_attention = away;
    add("+ chunks, " + away);
  }
  memory.offload_optimizer = away;
  add("+ optimizer, " + away);
  if (recipe.compute.dtype != "fp32") {
    memory.offload_parameters = true;
    add("+ parameters, " + away);
  }
  return rungs;
}

std::optional<Rung> fastest_that_fits(const Recipe& recipe, int64_t rows, int64_t tokens, int64_t limit) {
  for (Rung& rung : ways_to_fit(recipe)) {
    Recipe changed = recipe;
    changed.memory = rung.memory;
    if (dry_step(changed, rows, tokens).device <= limit) return std::move(rung);
  }
  return std::nullopt;
}

void choose_techniques(Recipe& recipe, int64_t rows, int64_t tokens, int64_t limit) {
  if (!recipe.memory.automatic) return;
  const auto rung = fastest_that_fits(recipe, rows, tokens, limit > 0 ? limit : kNoLimit);
  recipe.memory = rung ? rung->memory : ways_to_fit(recipe).back().memory;
}

std::string removed_by(memory::Term term, const Recipe& recipe) {
  const MemoryConfig& memory = recipe.memory;
  switch (term) {
    case memory::Term::kOptimizer:
      return memory.offload_optimizer == "none" ? "offload_optimizer" : "";
    case memory::Term::kParameters:
      return recipe.compute.dtype == "fp32"       ? ""
             : memory.offload_optimizer == "none" ? "offload_optimizer"
             : !memory.offload_parameters         ? "offload_parameters"
                                                  : "";
    case memory::Term::kGradients:
      return memory.early_updates || recipe.parallel.degrees().processes() > 1 || recipe.train.accumulate > 1
                 ? ""
                 : "early_updates (with optimizer.clip_norm = 0)";
    case memory::Term::kActivations:
      return memory.checkpoint_every() == 0         ? "checkpoint = selective or full"
             : !memory.tiled_mlp                    ? "tiled_mlp"
             : !attends_by_chunks(recipe)           ? "smaller tile_tokens, more processes"
             : memory.chunked_attention == "none"   ? "chunked_attention"
             : memory.chunked_attention == "device" ? "chunked_attention = host or file"
                                                    : "smaller tile_tokens and chunk_tokens";
    case memory::Term::kCheckpoints:
      return memory.keeps_attention() ? "checkpoint = full" : memory.offload == "none" ? "offload" : "";
    case memory::Term::kAttention:
      return memory.attention == "dense"                                       ? "attention = flash"
             : memory.chunked_attention == "none" && attends_by_chunks(recipe) ? "chunked_attention"
                                                                               : "";
    case memory::Term::kScores:
      return memory.tiled_loss ? "smaller tile_tokens" : "tiled_loss";
    default:
      return "";
  }
}

std::string as_options(const MemoryConfig& memory) {
  const auto now = base::to_json(memory), defaults = base::to_json(MemoryConfig());
  std::vector<std::string> options;
  for (const auto& [key, value] : now.items()) {
    if (value == defaults[key] || is_own_size(key, memory)) continue;
    options.push_back("--memory." + key + " " + (value.is_string() ? value.get<std::string>() : value.dump()));
  }
  return base::join(options, " ");
}

int64_t limit_of(const ComputeConfig& compute) {
  if (compute.memory_limit.count > 0) return compute.memory_limit.count;
  const at::Device device = compute_device(compute.device);
  if (device.is_cpu()) return 0;
  return static_cast<int64_t>(c10::getDeviceAllocator(device.type())->getMemoryInfo(device.index()).second);
}

std::string advice(const Recipe& recipe, const StepMemory& step, int64_t rows, int64_t tokens, int64_t limit) {
  const memory::Term most = largest(step);
  const std::string remedy = removed_by(most, recipe);
  std::string way_out;
  if (limit > 0 && step.device <= limit) {
    way_out = "by the plan it fits, so something else takes memory too; ";
  } else if (limit > 0) {
    const auto rung = fastest_that_fits(recipe, rows, tokens, limit);
    way_out = rung ? "it fits with " + as_options(rung->memory) + "; "
                   : "no set of techniques makes it fit: shorter sequences do; ";
  }
  return std::string("most of it are ") + memory::to_string(most) + ", " +
         base::format_bytes(step.by_term[static_cast<size_t>(most)]) +
         (remedy.empty() ? "" : ", which memory." + remedy + " makes smaller") + " (" + way_out +
         "longfold plan shows the table)";
}

void check_fits(const Recipe& recipe, const StepMemory& step, int64_t rows, int64_t tokens, int64_t limit) {
  if (limit <= 0 || step.device <= limit) return;
  throw base::UserError("a step of " + std::to_string(rows) + " x " + std::to_string(tokens) + " tokens takes " +
                        base::format_bytes(step.device) + ", " + base::format_bytes(step.device - limit) +
                        " more than the limit of " + base::format_bytes(limit) + "; " +
                        advice(recipe, step, rows, tokens, limit) + "; --force runs it all the same");
}

int64_t longest_row(const Recipe& recipe, const data::TokenFile& file) {
  return recipe.data.sequence_length > 0 ? recipe.data.sequence_length : file.longest();
}

int64_t rows_of_process(const Recipe& recipe) {
  return recipe.data.batch_size / recipe.parallel.degrees().data;
}

Plan plan_run(Recipe recipe, bool force, int64_t processes) {
  Plan plan;
  const data::TokenFile file(recipe.data.path, recipe.data.tokenizer);
  resolve(recipe);
  resolve_processes(recipe, processes);
  if (recipe.model.vocab_size == 0) recipe.model.vocab_size = file.tokenizer().vocab_size();
  plan.rows = rows_of_process(recipe);
  plan.tokens = longest_row(recipe, file);
  plan.limit = limit_of(recipe.compute);
  choose_techniques(recipe, plan.rows, plan.tokens, plan.limit);
  plan.step = dry_step(recipe, plan.rows, plan.tokens);
  if (!force) check_fits(recipe, plan.step, plan.rows, plan.tokens, plan.limit);
  plan.recipe = std::move(recipe);
  return plan;
}

}  // namespace longfold::train
