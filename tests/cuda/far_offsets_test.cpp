// Tensors whose elements lie more than 2^31 elements apart give the bits of compact ones.
#include <gtest/gtest.h>

#include "tests/cuda/cuda_solution.h"

namespace longfold::kernels::cuda {
namespace {

constexpr int64_t kFar = (int64_t{1} << 31) + 64;  // elements
constexpr int64_t kRoom = 4096;                    // elements that each tensor has to itself, at each far place

// Calls body(offset on the host, offset on the device) for each element.
template <class Body, size_t Rank>
void for_each_element(const std::array<int64_t, Rank>& sizes, const std::array<int64_t, Rank>& host,
                      const std::array<int64_t, Rank>& device, const Body& body) {
  int64_t count = 1;
  for (const int64_t size : sizes) count *= size;
  for (int64_t element = 0; element < count; ++element) {
    int64_t rest = element, from = 0, to = 0;
    for (size_t dim = Rank; dim-- > 0; rest /= sizes[dim]) {
      from += rest % sizes[dim] * host[dim];
      to += rest % sizes[dim] * device[dim];
    }
    body(from, to);
  }
}

// All tensors side by side in memory of which each uses a little, again and again kFar elements apart.
template <class E>
class FarMemory {
 public:
  explicit FarMemory(int num_tensors) : bytes_((kFar + num_tensors * kRoom) * int64_t{sizeof(E)}) {}

  // The view of a copy on the device, whose dim `far` has the stride kFar.
  template <class T, int Rank>
  TensorView<T, Rank> place(const TensorView<T, Rank>& host, size_t far) {
    TensorView<T, Rank> view = host;
    view.data = base() + num_placed_++ * kRoom;
    view.strides[far] = view.sizes[far] == 1 ? 0 : kFar;
    copy(host, view, cudaMemcpyHostToDevice);
    return view;
  }
  template <class T, int Rank>
  void fetch(const TensorView<T, Rank>& device, const TensorView<T, Rank>& host) {
    copy(host, device, cudaMemcpyDeviceToHost);
  }
  BiasView place_bias(const BiasView& host, const Sizes5& sizes, size_t far) {
    BiasView view = host;
    E* const data = base() + num_placed_++ * kRoom;
    view.data = data;
    view.strides[far] = kFar;
    for_each_element(sizes, host.strides, view.strides, [&](int64_t from, int64_t to) {
      require(cudaMemcpy(data + to, static_cast<const E*>(host.data) + from, sizeof(E), cudaMemcpyHostToDevice));
    });
    return view;
  }

 private:
  [[nodiscard]] E* base() const { return reinterpret_cast<E*>(bytes_.span().data()); }
  template <class T, int Rank>
  static void copy(const TensorView<T, Rank>& host, const TensorView<T, Rank>& device, cudaMemcpyKind kind) {
    for_each_element(host.sizes, host.strides, device.strides, [&](int64_t from, int64_t to) {
      auto* const on_host = const_cast<std::remove_const_t<T>*>(host.data) + from;
      auto* const on_device = const_cast<std::remove_const_t<T>*>(device.data) + to;
      const bool to_device = kind == cudaMemcpyHostToDevice;
      require(cudaMemcpy(to_device ? on_device : on_host, to_device ? on_host : on_device, sizeof(T), kind));
    });
  }

  DeviceBytes bytes_;
  int64_t num_placed_ = 0;
};

TEST(FarOffsets, GiveTheSameBits) {
  constexpr int64_t kNeeded = (kFar * 6) + (int64_t{1} << 28);  // bytes: 2 and 4 for an element
  size_t free = 0, total = 0;
  require(cudaMemGetInfo(&free, &total));
  if (static_cast<int64_t>(free) < kNeeded) GTEST_SKIP() << "needs " << (kNeeded >> 30) << " GiB of device memory";

  const cases::EvoformerCase shape{.name = "far", .B = 1, .N = 2, .Lq = 2, .Lk = 5, .H = 2, .D = 8};
  Problem problem = make_problem<bfloat16>(shape);
  problem.wants_grad_logits = true;
  const Solution compact = solve_on_cuda<bfloat16>(problem);

  PlacedProblem<bfloat16> host(problem, shape.layout, {});
  const ForwardArgs<bfloat16> forward = host.forward_args();
  const BackwardArgs<bfloat16> backward = host.backward_args();
  FarMemory<bfloat16> wide(8);
  FarMemory<float> sums(9);
  // Rows far apart; of the pair bias and its gradient, queries.
  const std::vector<BiasView> biases{sums.place_bias(forward.biases[0], sizes_of(cases::BiasKind::kMask, shape), 1),
                                     sums.place_bias(forward.biases[1], sizes_of(cases::BiasKind::kPair, shape), 3)};
  const ForwardArgs<bfloat16> far_forward{.q = wide.place(forward.q, 1),
                                          .k = wide.place(forward.k, 1),
                                          .v = wide.place(forward.v, 1),
                                          .biases = biases,
                                          .out = wide.place(forward.out, 1),
                                          .log_sum_exp = sums.place(forward.log_sum_exp, 1),
                                          .lse_correction = sums.place(forward.lse_correction, 1),
                                          .scale = forward.scale};
  const auto constant = []<class T, int Rank>(const TensorView<T, Rank>& view) {
    return TensorView<const T, Rank>{view.data, view.sizes, view.strides};
  };
  const BackwardArgs<bfloat16> far_backward{.q = far_forward.q,
                                            .k = far_forward.k,
                                            .v = far_forward.v,
                                            .biases = biases,
                                            .out = constant(far_forward.out),
                                            .log_sum_exp = constant(far_forward.log_sum_exp),
                                            .lse_correction = constant(far_forward.lse_correction),
                                            .grad_out = wide.place(backward.grad_out, 1),
                                            .grad_log_sum_exp = sums.place(backward.grad_log_sum_exp, 1),
                                            .grad_q = wide.place(backward.grad_q, 1),
                                            .grad_k = wide.place(backward.grad_k, 1),
                                            .grad_v = wide.place(backward.grad_v, 1),
                                            .grad_pair = sums.place(backward.grad_pair, 2),
                                            .grad_mask = sums.place(backward.grad_mask, 1),
                                            .grad_logits = sums.place(backward.grad_logits, 1),
                                            .scale = backward.scale};
  const TestStream stream;
  const DeviceBytes for_forward(forward_workspace_bytes(far_forward)),
      workspace(backward_workspace_bytes(far_backward));
  run_forward(far_forward, for_forward.span(), stream.get());
  run_backward(far_backward, workspace.span(), stream.get());
  stream.wait();
  wide.fetch(far_forward.out, forward.out);
  wide.fetch(far_backward.grad_q, backward.grad_q);
  wide.fetch(far_backward.grad_k, backward.grad_k);
  wide.fetch(far_backward.grad_v, backward.grad_v);
  sums.fetch(far_forward.log_sum_exp, forward.log_sum_exp);
  sums.fetch(far_forward.lse_correction, forward.lse_correction);
  sums.fetch(far_backward.grad_pair, backward.grad_pair);
  sums.fetch(far_backward.grad_mask, backward.grad_mask);
  sums.fetch(far_backward.grad_logits, backward.grad_logits);
  const Solution far = host.solution();
  EXPECT_EQ(differences(far, compact), "");
  EXPECT_GT(largest(far.out), 0);
}

}  // namespace
}  // namespace longfold::kernels::cuda
