// What the ops look like to torch. Kernels register themselves in cpu.cpp, cuda.cpp, meta.cpp, autograd.cpp,
// autocast.cpp and batched.cpp; those of first_keys in kv_lengths.cpp.
#include <torch/library.h>

TORCH_LIBRARY(longfold, m) {
  // out [B, N, Lq, H, D]; log_sum_exp and lse_correction [B, N, H, Lq] in the dtype that sums are kept in. The weights
  // are exp(logit - log_sum_exp) * lse_correction; the correction, what rounding took, has no gradient. With
  // heads_first q, k, v and out are [B, N, H, L, D], or lack leading dims. It is for callers that have such tensors: a
  // view of theirs, saved for the backward pass by a compiled graph, would not be checked for changes in place.
  m.def(
      "evoformer_attention(Tensor q, Tensor k, Tensor v, Tensor[] biases, *, float? scale=None, "
      "str fully_masked=\"zero\", bool heads_first=False) -> (Tensor out, Tensor log_sum_exp, Tensor lse_correction)",
      {at::Tag::pt2_compliant_tag});
  // The last result holds one gradient for each True of bias_needs_grad, in order.
  m.def(
      "evoformer_attention_backward(Tensor grad_out, Tensor? grad_log_sum_exp, Tensor q, Tensor k, Tensor v, "
      "Tensor[] biases, Tensor out, Tensor log_sum_exp, Tensor lse_correction, *, float? scale=None, str "
      "fully_masked=\"zero\", "
      "bool[] bias_needs_grad, bool heads_first=False) -> (Tensor grad_q, Tensor grad_k, Tensor grad_v, Tensor[] "
      "grad_biases)",
      {at::Tag::pt2_compliant_tag});
  // q and out [B, Sq, H, D], k and v [B, Sk, KV heads, D], log_sum_exp [B, H, Sq]; documents int64 on the CPU, see
  // causal_attention.h. out and log_sum_exp of the backward op may be those of attention over more keys.
  m.def(
      "causal_attention(Tensor q, Tensor k, Tensor v, *, Tensor? documents=None, int window=0, float? scale=None, "
      "int first_query=0) -> (Tensor out, Tensor log_sum_exp)",
      {at::Tag::pt2_compliant_tag});
  m.def(
      "causal_attention_backward(Tensor grad_out, Tensor q, Tensor k, Tensor v, Tensor out, Tensor log_sum_exp, *, "
      "Tensor? documents=None, int window=0, float? scale=None, int first_query=0) -> (Tensor grad_q, Tensor grad_k, "
      "Tensor grad_v)",
      {at::Tag::pt2_compliant_tag});
  m.def("first_keys(Tensor lengths, SymInt num_keys) -> Tensor", {at::Tag::pt2_compliant_tag});
}
