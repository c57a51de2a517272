// Evoformer attention through libtorch, forward and backward, held against the plain formula in fp64.
#include <ATen/ATen.h>
#include <longfold/ops/evoformer_attention.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <vector>

using Tensors = std::vector<at::Tensor>;

constexpr int64_t B = 1, N = 6, L = 100, H = 4, D = 32;  // batch, rows, length, heads, head dim

at::Tensor fused(const Tensors& in) {
  return longfold::ops::evoformer_attention(in[0], in[1], in[2], {in[3], in[4]});
}

at::Tensor formula(const Tensors& in) {
  const auto logits = at::einsum("bnihd,bnjhd->bnhij", {in[0], in[1]}) / std::sqrt(D) + in[3] + in[4];
  return at::einsum("bnhij,bnjhd->bnihd", {at::softmax(logits, -1), in[2]});
}

// The output, then the gradient of each input.
Tensors run(at::Tensor (*attention)(const Tensors&), const Tensors& inputs, const at::Tensor& grad_out,
            at::ScalarType dtype) {
  Tensors leaves;
  for (const auto& input : inputs) leaves.push_back(input.to(dtype).detach().requires_grad_());
  const auto out = attention(leaves);
  Tensors results = torch::autograd::grad({out}, leaves, {grad_out.to(dtype)});
  results.insert(results.begin(), out.detach());
  return results;
}

double largest_error(const at::Tensor& value, const at::Tensor& exact) {
  return (value.to(at::kDouble) - exact).abs().max().item<double>();
}

int main() {
  at::manual_seed(1);
  const Tensors inputs{
      at::randn({B, N, L, H, D}), at::randn({B, N, L, H, D}),
      at::randn({B, N, L, H, D}), at::randn({B, N, 1, 1, L}),  // mask bias
      at::randn({B, 1, H, L, L}),                              // pair bias
  };
  const auto grad_out = at::randn({B, N, L, H, D});
  const auto exact = run(formula, inputs, grad_out, at::kDouble);
  const auto ours = run(fused, inputs, grad_out, at::kFloat);
  const auto plain = run(formula, inputs, grad_out, at::kFloat);

  bool right = true;
  const char* names[] = {"out", "grad_q", "grad_k", "grad_v", "grad_mask", "grad_pair"};
  for (size_t i = 0; i < exact.size(); ++i) {
    const double error = largest_error(ours[i], exact[i]), of_plain = largest_error(plain[i], exact[i]);
    // Twice what the plain formula loses in the same precision, and the rounding of the result itself.
    const double floor = std::numeric_limits<float>::epsilon() * exact[i].abs().max().item<double>();
    std::printf("%-9s error %.2g, of the plain formula in fp32 %.2g\n", names[i], error, of_plain);
    right = right && error <= 2 * of_plain + floor;  // false for NaN
  }
  return right ? 0 : 1;
}
