// LONGFOLD_CUDA_ARCHITECTURES, the list that nvcc was given, comes from cmake/LongfoldCuda.cmake.
#include "longfold/kernels/cuda/runtime.h"

#include <stdexcept>
#include <string>

#include "longfold/kernels/cuda/evoformer_attention.h"

namespace longfold::kernels::cuda {
namespace {

std::string version() {
  return std::to_string(CUDART_VERSION / 1000) + "." + std::to_string(CUDART_VERSION % 1000 / 10);
}

const std::string& built_for() {
  static const std::string text =
      "built with CUDA " + version() + " for compute capability " LONGFOLD_CUDA_ARCHITECTURES;
  return text;
}

// Nothing where the device cannot be asked.
std::string device_name(int device) {
  cudaDeviceProp properties;
  if (cudaGetDeviceProperties(&properties, device) != cudaSuccess) return "a GPU that cannot be asked for its name";
  return std::string(properties.name) + " (" + std::to_string(properties.major * 10 + properties.minor) + ")";
}

std::string current_device_name() {
  int device = 0;
  return cudaGetDevice(&device) == cudaSuccess ? device_name(device) : "no GPU";
}

}  // namespace

void check(cudaError_t error, std::string_view what) {
  if (error == cudaSuccess) return;
  std::string message = "[" + std::string(what) + "] ";
  if (error == cudaErrorNoKernelImageForDevice) {
    message += "expected a GPU that this build has kernels for (" + built_for() + "), got " + current_device_name() +
               "; build longfold again with CMAKE_CUDA_ARCHITECTURES set to its compute capability";
  } else {
    message += "CUDA: " + std::string(cudaGetErrorString(error)) + " (" + cudaGetErrorName(error) + ")";
  }
  throw std::runtime_error(message);
}

void check_launch(std::string_view kernel) {
  check(cudaGetLastError(), kernel);
}

std::string engine_status() {
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) {
    (void)cudaGetLastError();  // no later check may find this one
    int driver = 0;
    const bool has_driver = cudaDriverGetVersion(&driver) == cudaSuccess && driver != 0;
    return "found: " + built_for() +
           "; no GPU here: " + (has_driver ? cudaGetErrorString(error) : "no NVIDIA driver is loaded");
  }
  std::string text = "found: " + built_for();
  for (int device = 0; device < count; ++device) text += (device == 0 ? "; " : ", ") + device_name(device);
  return text;
}

}  // namespace longfold::kernels::cuda
