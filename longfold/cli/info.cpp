// longfold info: what this build has, what it runs on, and what is missing and why.
#include <ATen/Parallel.h>
#include <ATen/Version.h>

#include <cstdio>
#include <string>

#include "longfold/cli/commands.h"
#include "longfold/kernels/cuda/evoformer_attention.h"
#include "longfold/kernels/isa.h"
#include "longfold/model/cudnn_attention.h"
#include "longfold/model/linear.h"
#include "longfold/parallel/engine.h"
#include "longfold/version.h"

namespace longfold::cli {
namespace {

void line(const char* name, const std::string& value) {
  std::printf("%-10s %s\n", name, value.c_str());
}

std::string words(const parallel::Engine& engine) {
  return engine.built ? "found" : "missing: " + engine.why_not;
}

void print_info() {
  line("longfold", kVersion);
  line("torch", std::string(kTorchVersion));
  line("cpu", std::string(kernels::isa_name(kernels::selected_isa())) + " kernels, " +
                  std::to_string(at::get_num_threads()) + " threads (" + at::get_cpu_capability() + " in torch)");
  line("linear", "compute.linear is " + to_string(model::linear_engine("auto")) + " unless a recipe says otherwise");
  line("cuda", kernels::cuda::engine_status());
  const std::string no_cudnn = model::missing_for_cudnn();
  line("cudnn", no_cudnn.empty() ? "found: compute.attention is cudnn on a GPU unless a recipe says otherwise"
                                 : "missing: " + no_cudnn);
  line("mpi", words(parallel::mpi_engine()));
  line("nccl", words(parallel::nccl_engine()));
}

}  // namespace

void add_info(CLI::App& app) {
  app.add_subcommand("info", "version, instruction set, threads, engines found or missing")->callback(print_info);
}

}  // namespace longfold::cli
