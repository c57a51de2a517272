#include "oracle.h"

#include <ATen/ATen.h>

#include <cmath>
#include <numbers>

namespace longfold::model {
namespace {

struct Oracle {
  const ModelConfig& config;
  const Parameters& parameters;
  at::Tensor positions;

  at::Tensor get(const std::string& name) const { return parameters.at(name); }

  at::Tensor linear(const at::Tensor& x, const std::string& name) const {
    return at::matmul(x, get(name + ".weight").t()) + get(name + ".bias");
  }

  at::Tensor layer_norm(const at::Tensor& x, const std::string& name) const {
    const at::Tensor centred = x - x.mean(-1, true);
    const at::Tensor variance = (centred * centred).mean(-1, true);
    return centred / (variance + config.layer_norm_epsilon).sqrt() * get(name + ".weight") + get(name + ".bias");
  }

  static at::Tensor gelu(const at::Tensor& x) {
    return 0.5 * x * (1 + (std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)).tanh());
  }

  // x [B, S, H, D]: in the leading r dimensions, x cos + rotate_half(x) sin, with the angles twice side by side.
  at::Tensor rotary(const at::Tensor& x) const {
    const auto r = static_cast<int64_t>(static_cast<double>(x.size(3)) * config.rotary_pct);
    if (r == 0) return x;
    const at::Tensor wave = at::pow(config.rotary_base, -at::arange(0, r, 2).to(at::kDouble) / r);
    at::Tensor angle = positions.to(at::kDouble).unsqueeze(-1) * wave;
    angle = at::cat({angle, angle}, -1).unsqueeze(2);  // [B, S, 1, r]
    const at::Tensor turned = x.slice(-1, 0, r);
    const at::Tensor rotated = at::cat({-turned.slice(-1, r / 2), turned.slice(-1, 0, r / 2)}, -1);
    return at::cat({turned * angle.cos() + rotated * angle.sin(), x.slice(-1, r)}, -1);
  }

  at::Tensor attention(const at::Tensor& x, const std::string& name) const {
    const int64_t B = x.size(0), S = x.size(1), h = x.size(2), H = config.num_heads, D = h / H;
    const at::Tensor weight = get(name + ".query_key_value.weight").view({H, 3, D, h});
    const at::Tensor bias = get(name + ".query_key_value.bias").view({H, 3, D});
    const auto part = [&](int64_t i) {
      return at::einsum("bsx,hdx->bshd", {x, weight.select(1, i)}) + bias.select(1, i);
    };
    const at::Tensor q = rotary(part(0)), k = rotary(part(1)), v = part(2);
    at::Tensor score = at::einsum("bihd,bjhd->bhij", {q, k}) / std::sqrt(static_cast<double>(D));
    score = score.masked_fill(at::ones({S, S}, at::kBool).triu(1), -INFINITY);
    const at::Tensor weights = (score - score.logsumexp(-1, true)).exp();
    return linear(at::einsum("bhij,bjhd->bihd", {weights, v}).reshape({B, S, h}), name + ".dense");
  }

  at::Tensor block(const at::Tensor& x, const std::string& name) const {
    const auto mlp = [&](const at::Tensor& y) {
      return linear(gelu(linear(layer_norm(y, name + ".post_attention_layernorm"), name + ".mlp.dense_h_to_4h")),
                    name + ".mlp.dense_4h_to_h");
    };
    const at::Tensor attended = attention(layer_norm(x, name + ".input_layernorm"), name + ".attention");
    if (config.parallel_residual) return x + attended + mlp(x);
    const at::Tensor y = x + attended;
    return y + mlp(y);
  }
};

}  // namespace

OracleOutput oracle(const ModelConfig& config, const Parameters& parameters, const at::Tensor& tokens,
                    const at::Tensor& labels, const at::Tensor& positions) {
  const Oracle model{config, parameters, positions};
  at::Tensor x = parameters.at("gpt_neox.embed_in.weight").index({tokens});
  for (int64_t i = 0; i < config.num_layers; ++i) x = model.block(x, "gpt_neox.layers." + std::to_string(i));
  const at::Tensor hidden = model.layer_norm(x, "gpt_neox.final_layer_norm");
  const at::Tensor logits = at::matmul(hidden, parameters.at("embed_out.weight").t());
  const at::Tensor chosen = logits.gather(-1, labels.clamp_min(0).unsqueeze(-1)).squeeze(-1);
  return {hidden, (logits.logsumexp(-1) - chosen) * labels.ge(0)};
}

}  // namespace longfold::model
