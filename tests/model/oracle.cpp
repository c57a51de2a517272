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
    const at::Tensor product = at::matmul(x, get(name + ".weight").t());
    return config.linear_bias ? product + get(name + ".bias") : product;
  }

  at::Tensor norm(const at::Tensor& x, const std::string& name) const {
    if (config.norm == "rms") {
      return x / ((x * x).mean(-1, true) + config.norm_epsilon).sqrt() * get(name + ".weight");
    }
    const at::Tensor centred = x - x.mean(-1, true);
    const at::Tensor variance = (centred * centred).mean(-1, true);
    return centred / (variance + config.norm_epsilon).sqrt() * get(name + ".weight") + get(name + ".bias");
  }

  at::Tensor activation(const at::Tensor& x) const {
    if (config.activation == "gelu") return 0.5 * x * (1 + (x / std::numbers::sqrt2).erf());
    return 0.5 * x * (1 + (std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)).tanh());
  }

  // x [B, S, H, D]: in the leading r dimensions, x cos + rotate_half(x) sin, with the angles twice side by side.
  at::Tensor rotary(const at::Tensor& x) const {
    const auto r = static_cast<int64_t>(static_cast<double>(x.size(3)) * config.rotary_pct);
    if (r == 0) return x;
    const at::Tensor wave = at::pow(config.rotary_base, -at::arange(0, r, 2).to(at::kDouble) / r);
    at::Tensor angle = positions.to(at::kDouble).unsqueeze(-1) / config.rotary_scaling * wave;
    angle = at::cat({angle, angle}, -1).unsqueeze(2);  // [B, S, 1, r]
    const at::Tensor turned = x.slice(-1, 0, r);
    const at::Tensor rotated = at::cat({-turned.slice(-1, r / 2), turned.slice(-1, 0, r / 2)}, -1);
    return at::cat({turned * angle.cos() + rotated * angle.sin(), x.slice(-1, r)}, -1);
  }

  // Head by head: rows [KV head, (its queries ..., k, v), D] of the fused projection.
  at::Tensor attention(const at::Tensor& x, const std::string& name) const {
    const int64_t S = x.size(1), h = x.size(2), H = config.num_heads, D = h / H, G = H / config.kv_heads();
    const at::Tensor fused = linear(x, name + ".query_key_value");  // [B, S, KV heads (G + 2) D]
    std::vector<at::Tensor> outputs;
    for (int64_t head = 0; head < H; ++head) {
      const int64_t group = head / G * (G + 2) * D;
      const auto part = [&](int64_t i) { return fused.narrow(-1, group + i * D, D); };
      const auto turned = [&](int64_t i) { return rotary(part(i).unsqueeze(2)).squeeze(2); };
      const at::Tensor q = turned(head % G), k = turned(G), v = part(G + 1);
      at::Tensor score = at::matmul(q, k.transpose(1, 2)) / std::sqrt(static_cast<double>(D));
      score = score.masked_fill(at::ones({S, S}, at::kBool).triu(1), -INFINITY);
      outputs.push_back(at::matmul((score - score.logsumexp(-1, true)).exp(), v));
    }
    return linear(at::cat(outputs, -1), name + ".dense");
  }

  at::Tensor mlp(const at::Tensor& x, const std::string& name) const {
    const at::Tensor up = linear(x, name + ".dense_h_to_4h");
    if (config.activation != "swiglu") return linear(activation(up), name + ".dense_4h_to_h");
    const at::Tensor gate = linear(x, name + ".gate");
    return linear(gate / (1 + (-gate).exp()) * up, name + ".dense_4h_to_h");
  }

  at::Tensor block(const at::Tensor& x, const std::string& name) const {
    const auto behind_norm = [&](const at::Tensor& y) {
      return mlp(norm(y, name + ".post_attention_layernorm"), name + ".mlp");
    };
    const at::Tensor attended = attention(norm(x, name + ".input_layernorm"), name + ".attention");
    if (config.parallel_residual) return x + attended + behind_norm(x);
    const at::Tensor y = x + attended;
    return y + behind_norm(y);
  }
};

}  // namespace

OracleOutput oracle(const ModelConfig& config, const Parameters& parameters, const at::Tensor& tokens,
                    const at::Tensor& labels, const at::Tensor& positions) {
  const Oracle model{config, parameters, positions};
  const at::Tensor table = parameters.at("gpt_neox.embed_in.weight");
  at::Tensor x = table.index({tokens});
  if (config.positions == "learned") x = x + parameters.at("gpt_neox.embed_positions.weight").index({positions});
  for (int64_t i = 0; i < config.num_layers; ++i) x = model.block(x, "gpt_neox.layers." + std::to_string(i));
  const at::Tensor hidden = model.norm(x, "gpt_neox.final_layer_norm");
  const at::Tensor head = config.tie_embeddings ? table : parameters.at("embed_out.weight");
  const at::Tensor logits = at::matmul(hidden, head.t());
  const at::Tensor chosen = logits.gather(-1, labels.clamp_min(0).unsqueeze(-1)).squeeze(-1);
  return {hidden, (logits.logsumexp(-1) - chosen) * labels.ge(0)};
}

}  // namespace longfold::model
