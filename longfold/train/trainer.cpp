#include "longfold/train/trainer.h"

#include <ATen/ATen.h>

#include <chrono>
#include <cmath>
#include <utility>

#include "longfold/base/error.h"
#include "longfold/base/fnv.h"
#include "longfold/train/device.h"
#include "longfold/train/dry_step.h"
#include "longfold/train/gradients.h"
#include "longfold/train/initial_weights.h"
#include "longfold/train/plan.h"
#include "longfold/train/processes.h"
#include "longfold/train/retention.h"
#include "longfold/train/run_log.h"
#include "longfold/train/schedule.h"

namespace longfold::train {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void check_positions(const Recipe& recipe, const data::TokenFile& file) {
  const int64_t longest = longest_row(recipe, file);
  if (!recipe.model.has_learned_positions() || longest <= recipe.model.max_positions) return;
  throw base::UserError("expected model.max_positions to be at least " + std::to_string(longest) + ", the tokens of " +
                        (recipe.data.sequence_length > 0 ? "a window (data.sequence_length)"
                                                         : "the longest record of " + recipe.data.path) +
                        ", got " + std::to_string(recipe.model.max_positions));
}

Recipe resolved(Recipe recipe, const parallel::Mesh& mesh) {
  resolve(recipe);
  resolve_processes(recipe, mesh.degrees().processes());
  return recipe;
}

// Exactly what will wait on the host's shelves, which are registered at once.
techniques::HostBytes shelved(const Recipe& recipe, const data::TokenFile& file) {
  if (recipe.memory.offload != "host" && recipe.memory.chunked_attention != "host") return {};
  return dry_step(recipe, rows_of_process(recipe), longest_row(recipe, file)).shelved;
}

// With all that the recipe leaves to the data set and to the machine.
void complete(Recipe& recipe, const data::TokenFile& file) {
  const data::Tokenizer& tokenizer = file.tokenizer();
  check_positions(recipe, file);
  if (recipe.model.vocab_size == 0) recipe.model.vocab_size = tokenizer.vocab_size();
  if (recipe.model.vocab_size != tokenizer.vocab_size()) {
    throw base::UserError("expected model.vocab_size to be " + std::to_string(tokenizer.vocab_size()) +
                          ", that of the tokenizer '" + tokenizer.name() + "' of " + recipe.data.path + ", got " +
                          std::to_string(recipe.model.vocab_size) + " (left out, it is that of the tokenizer)");
  }
  choose_techniques(recipe, rows_of_process(recipe), longest_row(recipe, file), limit_of(recipe.compute));
}

std::unique_ptr<Learner> learner_of(Recipe& recipe, const data::TokenFile& file, const parallel::Mesh& mesh) {
  complete(recipe, file);
  return make_learner(recipe, recipe.train.output, shelved(recipe, file), mesh);
}

// Another process may have written to the folder since this one looked.
std::unique_ptr<FolderLock> lock_of(const Recipe& recipe, const parallel::Mesh& mesh) {
  return mesh.rank() == 0 ? std::make_unique<FolderLock>(recipe.train.output) : nullptr;
}

}  // namespace

Trainer::Trainer(const Recipe& recipe, memory::MemoryMeter meter, parallel::Mesh mesh)
    : recipe_(resolved(recipe, mesh)),
      meter_(meter),
      mesh_(std::move(mesh)),
      lock_(lock_of(recipe_, mesh_)),
      file_(recipe.data.path, recipe.data.tokenizer),
      sampler_(file_, recipe.data),
      learner_(learner_of(recipe_, file_, mesh_)) {
  if (compute_dtype(recipe.compute.dtype) == at::kHalf) loss_scale_.emplace();
  if (const at::Device device = compute_device(recipe_.compute.device); !device.is_cpu()) {
    meter_ = memory::MemoryMeter::on_gpu(device);
  }
  if (!recipe_.train.init_from.empty()) {
    load_initial_weights(recipe_, file_.tokenizer(), parameters());
    learner_->parameters().publish();
  }
  sampler_.check_content();
  if (!recipe_.train.validation.empty()) validation_ = std::make_unique<Validation>(recipe_, file_.tokenizer());
}

bool Trainer::run(const Events& events, const std::atomic<bool>& stop) {
  check_alike();
  if (is_first()) lock_->ensure();
  const auto log = is_first() ? std::make_unique<RunLog>(recipe_.train, step_) : nullptr;
  BatchesAhead ahead(sampler_, recipe_.train.accumulate, step_, recipe_.train.steps);
  while (step_ < recipe_.train.steps && !any_wants(stop)) {
    StepReport report = train_step(ahead);
    if (saved_step_ > 0 && saved_step_ == step_ - 1) remove_old();  // this step shows that the newest one is good
    validate(report, events);
    if (log) log->write(report);
    events.step(report);
    if (!skips_nonfinite(recipe_)) check_finite({.step = step_ + 1, .validation_loss = report.validation_loss});
    const int64_t every = recipe_.train.checkpoint_every;
    if (take_for_best(report) || (every > 0 && step_ % every == 0)) {
      if (log) log->flush();
      save(events);
    }
  }
  if (log) log->flush();
  save(events);
  remove_old();
  if (is_first()) lock_->release();
  return step_ >= recipe_.train.steps;
}

bool Trainer::any_wants(bool stop) const {
  if (mesh_.all().is_alone()) return stop;
  const at::Tensor all = at::full({1}, stop ? 1 : 0, at::kLong);
  mesh_.all().all_reduce(all).wait();
  return all.item<int64_t>() > 0;
}

// Processes that went on from different checkpoints would add up gradients of different models.
void Trainer::check_alike() const {
  if (mesh_.all().is_alone()) return;
  base::Fnv1a64 hash;
  for (const auto& [name, tensor] : parameters()) {
    const at::Tensor values = tensor.detach().cpu().contiguous();
    hash.update({static_cast<const char*>(values.const_data_ptr()), values.nbytes()});
  }
  const at::Tensor own = at::tensor({step_, static_cast<int64_t>(hash.value())}, at::kLong);
  const at::Tensor all = at::empty({mesh_.all().size(), 2}, at::kLong);
  mesh_.all().all_gather(all, own).wait();
  for (int64_t rank = 1; rank < all.size(0); ++rank) {
    if (at::equal(all[rank], all[0])) continue;
    throw base::UserError("expected all processes to begin alike, but process " + std::to_string(rank) +
                          " is at step " + std::to_string(all[rank][0].item<int64_t>()) + " and the first at step " +
                          std::to_string(all[0][0].item<int64_t>()) +
                          ", or their parameters differ: all of them must see the same train.output");
  }
}

StepReport Trainer::train_step(BatchesAhead& ahead) {
  const auto start = Clock::now();
  const double waited_before = ahead.seconds_waited();
  const parallel::Traffic traffic_before = mesh_.traffic();
  const std::vector<data::Batch> batches = ahead.take();
  const double loss_scale = loss_scale_ ? loss_scale_->scale : 1;
  const double rate = learning_rate(schedule_of(recipe_), step_ + 1);
  learner_->begin_step(step_ + 1 - skips_.total, rate);
  const StepLosses losses =
      add_gradients(learner_->model(), learner_->parameters(), batches,
                    {.loss_scale = loss_scale, .dropout_key = model::dropout_key(recipe_.train.seed, step_)}, mesh_);

  StepReport report;
  report.step = step_ + 1;
  report.num_steps = recipe_.train.steps;
  report.loss = losses.loss;
  report.held_out_loss = losses.held_out_loss;
  report.grad_norm = learner_->gradient_norm();
  if (loss_scale_) report.loss_scale = loss_scale;
  report.learning_rate = rate;
  update(report);
  step_ = report.step;

  const double seconds = seconds_since(start);
  report.seconds = seconds;
  report.seconds_waited = ahead.seconds_waited() - waited_before;
  if (mesh_.degrees().processes() > 1) {
    const parallel::Traffic traffic = mesh_.traffic();
    report.bytes_sent = traffic.bytes_sent - traffic_before.bytes_sent;
    report.seconds_exchanging = traffic.seconds_waited - traffic_before.seconds_waited;
  }
  report.tokens_per_second = static_cast<double>(losses.num_tokens) / seconds;
  pace_.add_step(seconds, losses.forward_seconds, losses.num_tokens);
  report.seconds_left = pace_.for_steps(recipe_.train.steps - step_) + evaluation_seconds();
  report.memory_live = meter_.live();
  report.memory_peak = meter_.peak();
  return report;
}

void Trainer::update(StepReport& report) {
  const Outcome outcome{report.step, report.loss, report.held_out_loss, report.grad_norm, {}};
  if (loss_scale_ && Outcome{.step = report.step, .loss = report.loss}.is_finite()) {
    const bool fits = std::isfinite(report.grad_norm), may_shrink = !loss_scale_->is_least();
    loss_scale_->step(fits);
    if (!fits && may_shrink) return skip_update(report);  // no fault of the run: the next step tries half the scale
  }
  if (skips_nonfinite(recipe_) && !outcome.is_finite() && skips_.in_a_row < kMostSkippedInARow) {
    ++skips_.in_a_row;
    return skip_update(report);
  }
  check_finite(outcome);
  learner_->update(report.step - skips_.total, report.learning_rate, report.grad_norm);
  skips_.in_a_row = 0;
}

void Trainer::skip_update(StepReport& report) {
  report.skipped = true;
  learner_->skip();
  ++skips_.total;
}

void Trainer::validate(StepReport& report, const Events& events) const {
  if (!validation_ || !validation_->is_due(report.step)) return;
  events.validating(0, validation_->num_windows());
  report.validation_loss = validation_->loss(learner_->model(), events.validating, mesh_);
}

bool Trainer::take_for_best(const StepReport& report) {
  if (!report.validation_loss || !std::isfinite(*report.validation_loss)) return false;
  const bool is_best =
      !best_ || best_->validation != validation_->identity() || *report.validation_loss < best_->validation_loss;
  if (is_best) best_ = {report.step, *report.validation_loss, validation_->identity()};
  return is_best;
}

void Trainer::check_finite(const Outcome& outcome) {
  if (!first_loss_) first_loss_ = outcome.loss;
  if (outcome.is_finite()) return;
  throw Diverged(describe(outcome,
                          {.first_step = first_step_,
                           .first_loss = first_loss_,
                           .vocab_size = recipe_.model.vocab_size,
                           .learning_rate = recipe_.optimizer.learning_rate,
                           .init_std = recipe_.model.init_std,
                           .skipped_in_a_row = skips_.in_a_row},
                          recipe_.train.output));
}

void Trainer::save(const Events& events) {
  if (step_ == saved_step_) return;
  // The others wait for as long as the disk takes: where it fails, the first ends all.
  constexpr double kPatience = 24 * 3600;
  if (!is_first()) {
    saved_step_ = step_;
    return mesh_.all().barrier(kPatience);
  }
  events.saving(step_);
  lock_->ensure();
  const Manifest manifest{.step = step_,
                          .recipe = base::to_json(recipe_),
                          .tokenizer = file_.tokenizer().name(),
                          .tokenizer_hash = file_.tokenizer().hash(),
                          .vocabulary = file_.tokenizer().vocabulary(),
                          .data_hash = sampler_.content_hash(),
                          .best = best_,
                          .skips = skips_,
                          .loss_scale = loss_scale_};
  const auto path = save_checkpoint(recipe_.train.output, manifest, {parameters(), learner_->optimizer_state()});
  saved_step_ = step_;
  mesh_.all().barrier();
  events.checkpoint(path);
}

void Trainer::remove_old() const {
  if (skips_.in_a_row > 0 || !is_first()) return;  // the newest ones may be lost
  remove_old_checkpoints(recipe_.train.output, {.last = recipe_.train.keep_last,
                                                .every = recipe_.train.keep_every,
                                                .best = best_ ? std::optional(best_->step) : std::nullopt});
}

std::string Trainer::resume() {
  const auto path = latest_checkpoint(recipe_.train.output);
  if (!path) {
    throw base::UserError("cannot resume: no checkpoint in '" + recipe_.train.output +
                          "' (leave out --resume to begin)");
  }
  const Manifest manifest = read_manifest(*path);
  if (!manifest.imported_from.empty()) {
    throw base::UserError("cannot resume: '" + path->string() + "' holds imported weights and no run (begin one with " +
                          "train.init_from and another train.output)");
  }
  if (manifest.tokenizer_hash != file_.tokenizer().hash()) {
    throw base::UserError("cannot resume: '" + path->string() + "' was trained with tokenizer " + manifest.tokenizer +
                          " (" + manifest.tokenizer_hash + "), " + recipe_.data.path + " has " +
                          file_.tokenizer().name() + " (" + file_.tokenizer().hash() + ")");
  }
  check_same_run(recipe_, manifest.recipe, path->string());
  if (manifest.data_hash != sampler_.content_hash()) {
    throw base::UserError("cannot resume: '" + path->string() + "' was trained on tokens with hash " +
                          manifest.data_hash + ", those of " + recipe_.data.path + " have " + sampler_.content_hash());
  }
  if (manifest.step > recipe_.train.steps) {
    throw base::UserError("cannot resume: '" + path->string() + "' is already at step " +
                          std::to_string(manifest.step) + ", train.steps is " + std::to_string(recipe_.train.steps));
  }
  load_tensors(*path, {parameters(), learner_->optimizer_state()});
  learner_->parameters().publish();
  if (loss_scale_ && manifest.loss_scale) loss_scale_ = manifest.loss_scale;
  step_ = saved_step_ = manifest.step;
  first_step_ = step_ + 1;
  skips_ = manifest.skips;
  best_ = manifest.best;
  if (best_ && !std::filesystem::exists(checkpoint_path(recipe_.train.output, best_->step))) best_.reset();
  return describe_changes(recipe_, manifest.recipe, step_);
}

double Trainer::evaluation_seconds() const {
  const data::SamplerConfig& config = recipe_.data;
  const int64_t window =
      config.sequence_length > 0 ? config.sequence_length : file_.num_tokens() / file_.num_sequences();
  const int64_t validation = validation_ ? validation_->times_after(step_) * validation_->num_tokens() : 0;
  return pace_.for_forward(validation +
                           (sampler_.num_held_out_windows() + config.batch_size * recipe_.train.accumulate) * window);
}

Evaluation Trainer::evaluate(const BatchProgress& progress) {
  const Split last = windows_of_step(sampler_, std::max<int64_t>(step_ - 1, 0), recipe_.train.accumulate);
  Evaluation evaluation;
  evaluation.loss = train::evaluate(learner_->model(), last, [](int64_t, int64_t) {}, mesh_).mean();
  evaluation.held_out_loss = train::evaluate(learner_->model(), held_out_part(sampler_), progress, mesh_).mean();
  check_finite({step_ + 1, evaluation.loss, evaluation.held_out_loss, {}});
  return evaluation;
}

}  // namespace longfold::train
