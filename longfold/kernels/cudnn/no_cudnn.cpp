// In place of cuDNN's attention where it is not built. LONGFOLD_WHY_NO_CUDNN comes from cmake/LongfoldCudnn.cmake.
#include <stdexcept>

#include "longfold/kernels/cudnn/attention.h"

namespace longfold::kernels::cudnn {
namespace {

[[noreturn]] void refuse() {
  throw std::runtime_error("[cudnn] expected a build with cuDNN's attention, got one without: " LONGFOLD_WHY_NO_CUDNN);
}

}  // namespace

struct Attention::State {};
Attention::Attention() {
  refuse();
}
Attention::~Attention() = default;
int64_t Attention::workspace_bytes(const ForwardArgs&) {
  refuse();
}
int64_t Attention::workspace_bytes(const BackwardArgs&) {
  refuse();
}
void Attention::run(const ForwardArgs&, void*, Stream) {
  refuse();
}
void Attention::run(const BackwardArgs&, void*, Stream) {
  refuse();
}

std::string missing_in_build() {
  return LONGFOLD_WHY_NO_CUDNN;
}

}  // namespace longfold::kernels::cudnn
