#include "longfold/train/recipe.h"

#include <toml++/toml.h>

#include <algorithm>
#include <array>
#include <optional>

#include "longfold/base/error.h"
#include "longfold/base/files.h"
#include "longfold/base/text.h"
#include "longfold/model/linear.h"
#include "longfold/train/checkpoint.h"
#include "longfold/train/divergence.h"

namespace longfold::train {
namespace {

using Json = nlohmann::ordered_json;

Json to_json(const toml::node& node, const std::string& where) {
  if (const auto* table = node.as_table()) {
    Json json = Json::object();
    for (const auto& [key, value] : *table) json[std::string(key.str())] = to_json(value, where);
    return json;
  }
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* number = node.as_integer()) return number->get();
  if (const auto* number = node.as_floating_point()) return number->get();
  if (const auto* truth = node.as_boolean()) return truth->get();
  throw base::UserError(where + "line " + std::to_string(node.source().begin.line) +
                        ": expected a text, a number, true or false, got a list or a date");
}

Json read_toml(const std::filesystem::path& path, const std::string& where) {
  const std::string text = base::read_file(path);
  try {
    return to_json(toml::parse(text), where);
  } catch (const toml::parse_error& error) {
    throw base::UserError(where + "line " + std::to_string(error.source().begin.line) + ": " +
                          std::string(error.description()));
  }
}

void expect(bool condition, const std::string& name, const std::string& expected, const Json& got) {
  if (!condition) throw base::UserError("expected " + name + " to be " + expected + ", got " + got.dump());
}

void check_same(const Json& now, const Json& then, const std::string& key, const std::string& checkpoint) {
  if (now == then) return;
  throw base::UserError("cannot resume: " + key + " was " + then.dump() + " in '" + checkpoint + "', the recipe says " +
                        now.dump());
}

using Options = std::span<const std::pair<std::string, std::string>>;

// Of a key that stands for others: "" if it is not there, or is no text.
std::string text_in(const Json& json, const char* in_section, const char* key) {
  const Json section = json.value(in_section, Json());
  const Json value = section.is_object() ? section.value(key, Json()) : Json();
  return value.is_string() ? value.get<std::string>() : "";
}
std::optional<std::string> option_in(Options options, const std::string& full_name) {
  std::optional<std::string> last;
  for (const auto& [name, text] : options) {
    if (name == full_name) last = text;
  }
  return last;
}
std::string text_in(Options options, const char* key) {
  return option_in(options, std::string("model.") + key).value_or("");
}

// A checkpoint stands for all keys of [model].
void apply_checkpoint(Recipe& recipe, const std::filesystem::path& checkpoint) {
  const Json model = read_manifest(checkpoint).recipe.value("model", Json::object());
  base::from_json(model, recipe.model, "'" + checkpoint.string() + "': ", "model.");
}

// Whether the recipe's file has the key and no option its counterpart, or an option has it.
bool is_given(const Json& json, Options options, const std::string& section, const std::string& key,
              const std::string& counterpart) {
  const auto has_option = [&](const std::string& name) {
    return std::ranges::any_of(options, [&](const auto& option) { return option.first == section + "." + name; });
  };
  const Json keys = json.value(section, Json());
  const bool in_file = keys.is_object() && keys.contains(key);
  return has_option(key) || (in_file && !has_option(counterpart));
}

// Lengths in tokens become steps, rounded up. A length is given once; an option takes the place of the file's.
void count_steps(Recipe& recipe, const Json& json, Options options) {
  const data::SamplerConfig& data = recipe.data;
  int64_t in_step = 0;
  const bool fits = !__builtin_mul_overflow(data.batch_size, recipe.train.accumulate, &in_step) &&
                    !__builtin_mul_overflow(in_step, data.sequence_length, &in_step);
  const auto count = [&](const char* section, const char* in_steps, int64_t& steps, const char* in_tokens,
                         int64_t& tokens) {
    if (!is_given(json, options, section, in_tokens, in_steps)) {
      tokens = 0;  // an option gives the steps
      return;
    }
    const std::string name = std::string(section) + "." + in_tokens;
    if (is_given(json, options, section, in_steps, in_tokens)) {
      throw base::UserError("expected " + name + " or " + section + "." + in_steps + ", got both");
    }
    expect(tokens >= 1, name, "1 or more", tokens);
    expect(fits, "the tokens of a step, data.batch_size x train.accumulate x data.sequence_length,", "below 2^63",
           {data.batch_size, recipe.train.accumulate, data.sequence_length});
    if (in_step < 1) {
      throw base::UserError("expected data.sequence_length to be above 0 for " + name +
                            ": whole records differ in length, so that steps have no number of tokens");
    }
    steps = (tokens - 1) / in_step + 1;
  };
  count("train", "steps", recipe.train.steps, "tokens", recipe.train.tokens);
  count("optimizer", "warmup_steps", recipe.optimizer.warmup_steps, "warmup_tokens", recipe.optimizer.warmup_tokens);
  count("optimizer", "decay_steps", recipe.optimizer.decay_steps, "decay_tokens", recipe.optimizer.decay_tokens);
}

}  // namespace

void RunConfig::validate() const {
  expect(!output.empty(), "train.output", "a folder", output);
  expect(steps >= 1, "train.steps", "1 or more", steps);
  expect(accumulate >= 1 && accumulate <= 65'536, "train.accumulate", "from 1 to 65536", accumulate);
  expect(tokens >= 0, "train.tokens", "0 or more", tokens);
  expect(checkpoint_every >= 0, "train.checkpoint_every", "0 or more", checkpoint_every);
  expect(keep_last >= 0, "train.keep_last", "0 or more", keep_last);
  expect(keep_every >= 0, "train.keep_every", "0 or more", keep_every);
  expect(keep_every == 0 || keep_last > 0, "train.keep_every", "0 where train.keep_last is 0, which keeps all",
         keep_every);
  expect(validate_every >= 0, "train.validate_every", "0 or more", validate_every);
  expect(validate_windows >= 0, "train.validate_windows", "0 or more", validate_windows);
  expect(!validation.empty() || validate_every == 0, "train.validation",
         "the prefix of a data set, as train.validate_every is " + std::to_string(validate_every), validation);
  expect(!validation.empty() || validate_windows == 0, "train.validation",
         "the prefix of a data set, as train.validate_windows is " + std::to_string(validate_windows), validation);
  expect(on_nonfinite == "stop" || on_nonfinite == "skip", "train.on_nonfinite", "\"stop\" or \"skip\"", on_nonfinite);
  expect(seed >= 0, "train.seed", "0 or more", seed);
}

void ComputeConfig::validate() const {
  expect(device == "cpu" || device == "cuda" || device == "auto", "compute.device", "cpu, cuda or auto", device);
  (void)compute_dtype(dtype);
  (void)model::linear_engine(linear);
  expect(threads >= 0 && threads <= 4096, "compute.threads", "from 0 to 4096", threads);
}

void Recipe::validate() const {
  model.validate();
  data.validate();
  optimizer.validate();
  train.validate();
  compute.validate();
  memory.validate();
  parallel.validate();
  if (memory.early_updates) {
    const std::string why = " where memory.early_updates is true: parameters move before all gradients are known";
    expect(optimizer.clip_norm == 0, "optimizer.clip_norm", "0" + why, optimizer.clip_norm);
    expect(train.accumulate == 1, "train.accumulate", "1" + why, train.accumulate);
    expect(train.on_nonfinite != "skip", "train.on_nonfinite", "stop" + why, train.on_nonfinite);
    expect(compute.dtype != "fp16", "compute.dtype", "fp32 or bf16" + why, compute.dtype);
  }
  expect(optimizer.warmup_steps <= train.steps, "optimizer.warmup_steps",
         "at most train.steps, which is " + std::to_string(train.steps), optimizer.warmup_steps);
  const Schedule schedule = schedule_of(*this);
  const bool has_decay = schedule.shape == ScheduleShape::kWsd;
  expect(has_decay || optimizer.decay_steps == 0, "optimizer.decay_steps",
         "0 where optimizer.schedule is \"" + optimizer.schedule + "\"", optimizer.decay_steps);
  expect(!has_decay || schedule.decay_steps <= train.steps - optimizer.warmup_steps, "optimizer.decay_steps",
         "at most train.steps less optimizer.warmup_steps, which is " +
             std::to_string(train.steps - optimizer.warmup_steps),
         schedule.decay_steps);
}

Recipe read_recipe(const std::filesystem::path& path, std::span<const std::pair<std::string, std::string>> options) {
  const std::string where = path.string() + ": ";
  const Json json = read_toml(path, where);
  const std::string init_from = option_in(options, "train.init_from").value_or(text_in(json, "train", "init_from"));
  const std::filesystem::path checkpoint = init_from.empty() ? "" : find_checkpoint(init_from);
  Recipe recipe;
  if (!checkpoint.empty()) apply_checkpoint(recipe, checkpoint);
  model::apply_names(recipe.model, text_in(json, "model", "preset"), text_in(json, "model", "family"));
  base::from_json(json, recipe, where);
  // A name among the options takes the place of the file's keys that it stands for, as other options do of theirs.
  model::apply_names(recipe.model, text_in(options, "preset"), text_in(options, "family"));
  for (const auto& [name, text] : options) base::set_field(recipe, name, text);
  recipe.train.init_from = checkpoint.string();
  count_steps(recipe, json, options);
  recipe.validate();
  return recipe;
}

void check_same_run(const Recipe& recipe, const Json& trained, const std::string& checkpoint) {
  const Json now = base::to_json(recipe), defaults = base::to_json(Recipe());
  for (const char* section : {"model", "data"}) {
    for (const auto& [key, value] : now[section].items()) {
      // Names stand for other keys, which are compared. The data set may move: its content is checked by hash.
      if (key == "preset" || key == "family" || key == "path" || key == "tokenizer" || key == "batch_size") continue;
      // Older checkpoints lack the keys of [data] that came later: they had the defaults.
      const Json missing = section == std::string_view("data") ? defaults["data"][key] : Json();
      check_same(value, trained.value(section, Json::object()).value(key, missing), std::string(section) + "." + key,
                 checkpoint);
    }
  }
  check_same(now["train"]["seed"], trained.value("train", Json::object()).value("seed", Json()), "train.seed",
             checkpoint);
  check_same(now["train"]["init_from"], trained.value("train", Json::object()).value("init_from", Json("")),
             "train.init_from", checkpoint);
  const Json batch_size = trained.value("data", Json::object()).value("batch_size", Json());
  const Json accumulate = trained.value("train", Json::object()).value("accumulate", Json(1));  // older ones lack it
  const bool are_numbers = batch_size.is_number_integer() && accumulate.is_number_integer();
  check_same(recipe.data.batch_size * recipe.train.accumulate,
             are_numbers ? Json(batch_size.get<int64_t>() * accumulate.get<int64_t>()) : batch_size,
             "data.batch_size x train.accumulate", checkpoint);
}

std::string describe_changes(const Recipe& recipe, const Json& trained, int64_t done) {
  Recipe before;  // keys that came later have their defaults
  base::from_json(trained, before, "the checkpoint's recipe: ");
  const Json now = base::to_json(recipe), then = base::to_json(before);
  std::vector<std::string> changes;
  const auto compare = [&](const std::string& section, const std::string& key) {
    if (then[section][key] == now[section][key]) return false;
    changes.push_back(section + "." + key + " was " + then[section][key].dump() + ", now " + now[section][key].dump());
    return true;
  };
  bool other_schedule = compare("train", "steps");
  compare("data", "batch_size");
  compare("train", "accumulate");
  for (const auto& [key, unused] : now["optimizer"].items()) {
    const bool in_schedule =
        key.ends_with("learning_rate") || key == "schedule" || key == "warmup_steps" || key == "decay_steps";
    if (key.ends_with("_tokens")) continue;  // they have become steps
    if (compare("optimizer", key) && in_schedule) other_schedule = true;
  }
  compare("train", "on_nonfinite");
  if (before.compute.linear != "auto") compare("compute", "linear");  // "auto": an older one, which says nothing
  if (before.compute.device != "auto") compare("compute", "device");
  if (before.compute.attention != "auto") compare("compute", "attention");
  compare("compute", "deterministic");
  compare("compute", "dtype");
  compare("compute", "threads");
  for (const auto& [key, unused] : now["memory"].items()) {
    if (key != "folder") compare("memory", key);
  }
  if (other_schedule && done < recipe.train.steps) {
    const double last = learning_rate(schedule_of(before), done), next = learning_rate(schedule_of(recipe), done + 1);
    changes.push_back(last == next
                          ? "the learning rate stays at " + number_text(last)
                          : "the learning rate goes from " + number_text(last) + " in step " + std::to_string(done) +
                                " to " + number_text(next) + " in step " + std::to_string(done + 1));
  }
  return base::join(changes, "; ");
}

at::ScalarType compute_dtype(std::string_view name) {
  if (name == "fp32") return at::kFloat;
  if (name == "bf16") return at::kBFloat16;
  if (name == "fp16") return at::kHalf;
  throw base::UserError("expected compute.dtype to be fp32, bf16 or fp16, got \"" + std::string(name) + "\"");
}

Schedule schedule_of(const Recipe& recipe) {
  const OptimizerConfig& optimizer = recipe.optimizer;
  constexpr std::array kShapes{std::pair{"constant", ScheduleShape::kConstant},
                               std::pair{"linear", ScheduleShape::kLinear}, std::pair{"cosine", ScheduleShape::kCosine},
                               std::pair{"wsd", ScheduleShape::kWsd}};
  const auto* shape = std::ranges::find(kShapes, optimizer.schedule, [](const auto& named) { return named.first; });
  expect(shape != kShapes.end(), "optimizer.schedule", "constant, linear, cosine or wsd", optimizer.schedule);
  return {.shape = shape->second,
          .peak = optimizer.learning_rate,
          .floor = optimizer.final_learning_rate,
          .warmup_steps = optimizer.warmup_steps,
          .num_steps = recipe.train.steps,
          .decay_steps = optimizer.decay_steps > 0 ? optimizer.decay_steps : (recipe.train.steps - 1) / 10 + 1};
}

bool skips_nonfinite(const Recipe& recipe) {
  return recipe.train.on_nonfinite == "skip";
}

}  // namespace longfold::train
