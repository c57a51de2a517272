#include "longfold/model/transformer.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <string>
#include <string_view>
#include <utility>

#include "longfold/base/error.h"
#include "longfold/base/fnv.h"
#include "longfold/model/block.h"

namespace longfold::model {
namespace {

ModelConfig validated(const ModelConfig& config) {
  config.validate();
  if (config.vocab_size == 0) throw base::UserError("model.vocab_size is 0, expected at least 1");
  return config;
}

// FNV-1a over the name, from a start that depends on the seed, then mixed: libtorch's CPU generator takes only the low
// 32 bits of its seed.
uint64_t seed_of(uint64_t seed, std::string_view name) {
  base::Fnv1a64 fnv(base::Fnv1a64::kStart ^ (seed * 0x9e3779b97f4a7c15u));
  fnv.update(name);
  uint64_t hash = fnv.value();
  hash = (hash ^ (hash >> 32)) * 0xd6e8feb86659fd93u;
  return hash ^ (hash >> 32);
}

void check_tokens(const char* what, const at::Tensor& x, const at::Tensor& tokens) {
  TORCH_CHECK(x.dim() == 2 && x.scalar_type() == at::kLong && x.sizes() == tokens.sizes(),
              "[transformer] expected int64 ", what, " of the tokens' shape [B, S], got ", x.scalar_type(), " ",
              x.sizes(), " for tokens ", tokens.sizes());
}

}  // namespace

TransformerImpl::TransformerImpl(const ModelConfig& config, const Layers& layers)
    : config_(validated(config)), layers_(layers) {
  auto body = register_module("gpt_neox", std::make_shared<torch::nn::Module>());
  embed_in_ = body->register_module("embed_in", layers_.embedding(config_.vocab_size, config_.hidden_size));
  if (config_.has_learned_positions()) {
    embed_positions_ =
        body->register_module("embed_positions", layers_.embedding(config_.max_positions, config_.hidden_size));
  }
  auto blocks = body->register_module("layers", torch::nn::ModuleList());
  std::vector<BlockParts> parts;
  for (int64_t i = 0; i < config_.num_layers; ++i) {
    auto block = std::make_shared<Block>(config_, layers_, i);
    blocks->push_back(block);
    parts.push_back({.module = block,
                     .project = [block](const auto& x, const auto& context) { return block->project(x, context); },
                     .attention = layers_.attention,
                     .finish = [block](const auto& x, const auto& attended,
                                       const auto& context) { return block->finish(x, attended, context); }});
  }
  blocks_ = layers_.arrange(parts);
  final_layer_norm_ = body->register_module("final_layer_norm", std::make_shared<Norm>(config_, layers_.device));
  if (!config_.tie_embeddings) {
    embed_out_ = register_module("embed_out", layers_.column_linear(config_.hidden_size, config_.vocab_size, false));
  }
}

void TransformerImpl::initialise(uint64_t seed) {
  const at::NoGradGuard no_grad;
  for (auto& entry : named_parameters()) {
    const std::string& name = entry.key();
    at::Tensor& value = entry.value();
    if (value.is_meta()) continue;
    if (name.ends_with(".bias")) {
      value.zero_();
    } else if (value.dim() == 1) {
      value.fill_(1);
    } else {
      const bool residual = name.ends_with("attention.dense.weight") || name.ends_with("dense_4h_to_h.weight");
      const double scale = residual ? 1 / std::sqrt(2.0 * static_cast<double>(config_.num_layers)) : 1;
      value.normal_(0, config_.init_std * scale, at::make_generator<at::CPUGeneratorImpl>(seed_of(seed, name)));
    }
  }
}

void TransformerImpl::compute_in(at::ScalarType dtype) {
  compute_dtype_ = dtype;
  for (auto& entry : named_parameters()) {
    if (!entry.key().starts_with("gpt_neox.embed_")) entry.value().set_data(entry.value().to(dtype));
  }
}

at::Tensor TransformerImpl::hidden(const at::Tensor& tokens, const at::Tensor& positions,
                                   const std::optional<at::Tensor>& documents,
                                   const std::optional<DropoutKey>& dropout) {
  check_tokens("tokens", tokens, tokens);
  check_tokens("positions", positions, tokens);
  const Dropout drop = dropout ? Dropout(config_.dropout, *dropout) : Dropout();
  const BlockContext context{
      .rotary = rotary_tables(positions, config_.rotary_size(), config_.rotary_base, config_.rotary_scaling),
      .documents = documents_on(tokens.device(), documents, tokens.size(0), tokens.size(1)),
      .dropout = drop};
  at::Tensor x = embed_in_->forward(tokens);
  if (embed_positions_ != nullptr) {
    const bool has_values = positions.numel() > 0 && !positions.is_meta();
    const auto last = has_values ? positions.max().item<int64_t>() : 0;
    TORCH_CHECK(last < config_.max_positions, "[transformer] expected positions below model.max_positions, which is ",
                config_.max_positions, ", got ", last);
    x = x + embed_positions_->forward(positions);
  }
  x = drop(x, Dropout::Place::kEmbeddings);
  if (compute_dtype_) x = x.to(*compute_dtype_);
  for (const BlockForward& block : blocks_) x = block(x, context);
  return final_layer_norm_->forward(x);
}

at::Tensor TransformerImpl::head() const {
  return (embed_out_ != nullptr ? embed_out_ : embed_in_)->weight;
}

at::Tensor TransformerImpl::token_losses(const at::Tensor& tokens, const at::Tensor& labels,
                                         const at::Tensor& positions, const std::optional<at::Tensor>& documents,
                                         const std::optional<DropoutKey>& dropout) {
  check_tokens("labels", labels, tokens);
  const at::Tensor x = hidden(tokens, positions, documents, dropout);
  return layers_.loss(x, head().to(x.scalar_type()), labels);
}

at::Tensor TransformerImpl::logits(const at::Tensor& tokens, const at::Tensor& positions,
                                   const std::optional<at::Tensor>& documents) {
  const at::Tensor x = hidden(tokens, positions, documents);
  return layers_.logits(x, head().to(x.scalar_type()));
}

}  // namespace longfold::model
