// Forward and backward in a CUDA graph: nothing waits, nothing is allocated, and a replay sees new inputs.
#include <gtest/gtest.h>

#include "tests/cuda/cuda_solution.h"

namespace longfold::kernels::cuda {
namespace {

TEST(Capture, AReplayGivesTheSameBits) {
  const cases::EvoformerCase shape{.name = "graph", .B = 1, .N = 3, .Lq = 33, .Lk = 40, .H = 2, .D = 16};
  Problem problem = make_problem<bfloat16>(shape);
  const Solution expected = solve_on_cuda<bfloat16>(problem);
  const TestStream stream;
  DeviceProblem<bfloat16> device(problem);
  const auto forward = device.forward_args();
  const auto backward = device.backward_args();
  const DeviceBytes for_forward(forward_workspace_bytes(forward)), workspace(backward_workspace_bytes(backward));
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  require(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeGlobal));
  run_forward(forward, for_forward.span(), stream.get());
  run_backward(backward, workspace.span(), stream.get());
  require(cudaStreamEndCapture(stream.get(), &graph));
  EXPECT_NE(differences(device.solution(), expected), "") << "nothing ran yet";
  require(cudaGraphInstantiate(&exec, graph, 0));
  for (int replay = 0; replay < 2; ++replay) {
    require(cudaGraphLaunch(exec, stream.get()));
    stream.wait();
    EXPECT_EQ(differences(device.solution(), expected), "") << replay;
  }
  require(cudaGraphExecDestroy(exec));
  require(cudaGraphDestroy(graph));
}

}  // namespace
}  // namespace longfold::kernels::cuda
