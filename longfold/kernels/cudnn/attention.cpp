#include "longfold/kernels/cudnn/attention.h"

#include <cudnn_frontend.h>
#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <stdexcept>
#include <unordered_map>
#include <vector>

namespace cudnn_frontend {
void* cudnn_dlhandle = nullptr;  // the frontend asks its user for it
}

namespace longfold::kernels::cudnn {
namespace {

namespace fe = cudnn_frontend;
using Graph = fe::graph::Graph;
using Tensor = std::shared_ptr<fe::graph::Tensor_attributes>;

enum Name : int64_t { kQ, kK, kV, kOut, kLse, kGradOut, kGradQ, kGradK, kGradV };

void check(fe::error_t error, const char* what) {
  if (error.is_good()) return;
  std::string message = error.get_message();
  std::ranges::replace(message, '\n', ' ');  // an error is one line
  throw std::runtime_error(std::string("[cudnn] ") + what + ": " + message);
}

void check(cudnnStatus_t status, const char* what) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  throw std::runtime_error(std::string("[cudnn] ") + what + ": " + fe::detail::get_error_string(status));
}

// cuDNN's order is [B, heads, tokens, D].
Tensor heads(Graph& graph, Name name, const Heads& heads, int64_t B, int64_t L, int64_t H, int64_t D) {
  return graph.tensor(fe::graph::Tensor_attributes()
                          .set_uid(name)
                          .set_dim({B, H, L, D})
                          .set_stride({heads.batch, heads.head, heads.token, 1}));
}

void set_output(const Tensor& tensor, Name name, const Heads& heads, int64_t B, int64_t L, int64_t H, int64_t D) {
  tensor->set_output(true).set_uid(name).set_dim({B, H, L, D}).set_stride({heads.batch, heads.head, heads.token, 1});
}

Graph graph_of(const Shape& shape) {
  Graph graph;
  graph.set_io_data_type(shape.dtype == DType::kBFloat16 ? fe::DataType_t::BFLOAT16 : fe::DataType_t::HALF)
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
  return graph;
}

float scale_of(const Shape& shape) {
  return static_cast<float>(1 / std::sqrt(static_cast<double>(shape.D)));
}

Graph graph_of(const ForwardArgs& args) {
  const auto& [dtype, B, Lq, Lk, H, kv_heads, D, causal] = args.shape;
  Graph graph = graph_of(args.shape);
  auto options = fe::graph::SDPA_attributes().set_generate_stats(true).set_attn_scale(scale_of(args.shape));
  options.set_causal_mask(causal);
  const auto [out, lse] =
      graph.sdpa(heads(graph, kQ, args.q, B, Lq, H, D), heads(graph, kK, args.k, B, Lk, kv_heads, D),
                 heads(graph, kV, args.v, B, Lk, kv_heads, D), options);
  set_output(out, kOut, args.out, B, Lq, H, D);
  lse->set_output(true)
      .set_uid(kLse)
      .set_data_type(fe::DataType_t::FLOAT)
      .set_dim({B, H, Lq, 1})
      .set_stride({H * Lq, Lq, 1, 1});
  return graph;
}

Graph graph_of(const BackwardArgs& args) {
  const auto& [dtype, B, Lq, Lk, H, kv_heads, D, causal] = args.shape;
  Graph graph = graph_of(args.shape);
  auto options = fe::graph::SDPA_backward_attributes()
                     .set_attn_scale(scale_of(args.shape))
                     .set_deterministic_algorithm(args.repeatable);
  options.set_causal_mask(causal);
  const Tensor lse = graph.tensor(fe::graph::Tensor_attributes()
                                      .set_uid(kLse)
                                      .set_data_type(fe::DataType_t::FLOAT)
                                      .set_dim({B, H, Lq, 1})
                                      .set_stride({H * Lq, Lq, 1, 1}));
  const auto [q, k, v] =
      graph.sdpa_backward(heads(graph, kQ, args.q, B, Lq, H, D), heads(graph, kK, args.k, B, Lk, kv_heads, D),
                          heads(graph, kV, args.v, B, Lk, kv_heads, D), heads(graph, kOut, args.out, B, Lq, H, D),
                          heads(graph, kGradOut, args.grad_out, B, Lq, H, D), lse, options);
  set_output(q, kGradQ, args.grad_q, B, Lq, H, D);
  set_output(k, kGradK, args.grad_k, B, Lk, kv_heads, D);
  set_output(v, kGradV, args.grad_v, B, Lk, kv_heads, D);
  return graph;
}

// What a compiled graph depends on.
using Key = std::vector<int64_t>;

Key key_of(const Shape& shape, bool backward, bool repeatable, std::initializer_list<const Heads*> tensors) {
  Key key{static_cast<int64_t>(shape.dtype),
          shape.B,
          shape.Lq,
          shape.Lk,
          shape.H,
          shape.kv_heads,
          shape.D,
          shape.causal,
          backward,
          repeatable};
  for (const Heads* heads : tensors) key.insert(key.end(), {heads->batch, heads->token, heads->head});
  return key;
}

Key key_of(const ForwardArgs& args) {
  return key_of(args.shape, false, true, {&args.q, &args.k, &args.v, &args.out});
}

Key key_of(const BackwardArgs& args) {
  return key_of(args.shape, true, args.repeatable,
                {&args.q, &args.k, &args.v, &args.out, &args.grad_out, &args.grad_q, &args.grad_k, &args.grad_v});
}

// Kept at a time: of a model with rows of one length ten or so.
constexpr size_t kMostGraphs = 128;

using Pointers = std::unordered_map<int64_t, void*>;

Pointers pointers_of(const ForwardArgs& args) {
  return {{kQ, args.q.data}, {kK, args.k.data}, {kV, args.v.data}, {kOut, args.out.data}, {kLse, args.lse}};
}

Pointers pointers_of(const BackwardArgs& args) {
  return {{kQ, args.q.data},
          {kK, args.k.data},
          {kV, args.v.data},
          {kOut, args.out.data},
          {kLse, const_cast<float*>(args.lse)},
          {kGradOut, args.grad_out.data},
          {kGradQ, args.grad_q.data},
          {kGradK, args.grad_k.data},
          {kGradV, args.grad_v.data}};
}

}  // namespace

struct Attention::State {
  std::mutex mutex;
  cudnnHandle_t handle = nullptr;
  std::map<Key, Graph> graphs;

  template <class Args>
  Graph& compiled(const Args& args) {
    const Key key = key_of(args);
    const auto found = graphs.find(key);
    if (found != graphs.end()) return found->second;
    Graph graph = graph_of(args);
    check(graph.build(handle, {fe::HeurMode_t::A}), "this attention is not to be had");
    if (graphs.size() >= kMostGraphs) graphs.clear();
    return graphs.emplace(key, std::move(graph)).first->second;
  }

  template <class Args>
  int64_t workspace_bytes(const Args& args) {
    const std::lock_guard lock(mutex);
    return compiled(args).get_workspace_size();
  }

  template <class Args>
  void run(const Args& args, void* workspace, Stream stream) {
    const std::lock_guard lock(mutex);
    check(fe::detail::set_stream(handle, stream), "its stream");
    Pointers pointers = pointers_of(args);
    check(compiled(args).execute(handle, pointers, workspace), "attention");
  }
};

Attention::Attention() : state_(std::make_unique<State>()) {
  // Torch's, which is there already where torch has its part for CUDA.
  static const bool is_loaded = [] {
    fe::cudnn_dlhandle = ::dlopen("libcudnn.so.9", RTLD_NOW | RTLD_GLOBAL);
    return fe::cudnn_dlhandle != nullptr;
  }();
  if (!is_loaded) throw std::runtime_error("[cudnn] libcudnn.so.9 was not found");
  check(fe::detail::create_handle(&state_->handle), "no handle");
}

Attention::~Attention() {
  state_->graphs.clear();
  fe::detail::destroy_handle(state_->handle);
}

int64_t Attention::workspace_bytes(const ForwardArgs& args) {
  return state_->workspace_bytes(args);
}
int64_t Attention::workspace_bytes(const BackwardArgs& args) {
  return state_->workspace_bytes(args);
}
void Attention::run(const ForwardArgs& args, void* workspace, Stream stream) {
  state_->run(args, workspace, stream);
}
void Attention::run(const BackwardArgs& args, void* workspace, Stream stream) {
  state_->run(args, workspace, stream);
}

std::string missing_in_build() {
  return "";
}

}  // namespace longfold::kernels::cudnn
