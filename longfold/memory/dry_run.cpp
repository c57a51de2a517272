#include "longfold/memory/dry_run.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <tuple>

namespace longfold::memory {
namespace {

using at::SymInt;
using OptionalTensor = std::optional<at::Tensor>;

at::Tensor embedding(const at::Tensor& weight, const at::Tensor& indices, SymInt, bool, bool) {
  std::vector<int64_t> sizes = indices.sizes().vec();
  sizes.push_back(weight.size(1));
  return at::empty(sizes, weight.options());
}

at::Tensor embedding_dense_backward(const at::Tensor& grad, const at::Tensor&, SymInt num_weights, SymInt, bool) {
  return at::empty({num_weights.guard_int(__FILE__, __LINE__), grad.size(-1)}, grad.options());
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> native_layer_norm(const at::Tensor& x, c10::SymIntArrayRef normalized,
                                                                 const OptionalTensor&, const OptionalTensor&, double) {
  std::vector<int64_t> sizes = x.sizes().vec();
  for (size_t i = sizes.size() - normalized.size(); i < sizes.size(); ++i) sizes[i] = 1;
  const bool is_half = x.scalar_type() == at::kBFloat16 || x.scalar_type() == at::kHalf;
  const auto options = x.options().dtype(is_half ? at::kFloat : x.scalar_type());
  return {at::empty(x.sizes(), x.options()), at::empty(sizes, options), at::empty(sizes, options)};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> native_layer_norm_backward(
    const at::Tensor&, const at::Tensor& x, c10::SymIntArrayRef, const at::Tensor&, const at::Tensor&,
    const OptionalTensor& weight, const OptionalTensor& bias, std::array<bool, 3> wanted) {
  const auto like = [](const OptionalTensor& one, bool is_wanted) {
    return is_wanted && one && one->defined() ? at::empty(one->sizes(), one->options()) : at::Tensor();
  };
  return {like(x, wanted[0]), like(weight, wanted[1]), like(bias, wanted[2])};
}

thread_local Term current_term = Term::kActivations;

}  // namespace

const char* to_string(Term term) {
  constexpr std::array<const char*, kNumTerms> kNames{"activations", "parameters", "optimizer", "gradients",
                                                      "checkpoints", "attention",  "scores",    "batch",
                                                      "workspaces",  "free"};
  return kNames[static_cast<size_t>(term)];
}

TermScope::TermScope(Term term) : before_(current_term) {
  current_term = term;
}
TermScope::~TermScope() {
  current_term = before_;
}

struct DryAllocator::Block {
  DryAllocator* allocator;
  int64_t bytes;
  Term term;
};

void assign_term(const at::Tensor& tensor, Term term) {
  if (!tensor.defined() || !tensor.is_meta()) return;
  auto* block = static_cast<DryAllocator::Block*>(tensor.storage().data_ptr().get_context());
  if (block == nullptr) return;  // made before the dry run
  const std::lock_guard lock(block->allocator->mutex_);
  block->allocator->by_term_[static_cast<size_t>(block->term)] -= block->bytes;
  block->allocator->by_term_[static_cast<size_t>(term)] += block->bytes;
  block->term = term;
}

DryAllocator& DryAllocator::install() {
  static DryAllocator* const allocator = [] {
    auto* made = new DryAllocator;  // never destroyed, as tensors in static storage may outlive everything else
    c10::SetAllocator(c10::kMeta, made, /*priority=*/1);
    static torch::Library shapes(torch::Library::IMPL, "aten", c10::DispatchKey::Meta, __FILE__, __LINE__);
    shapes.impl("embedding", embedding);
    shapes.impl("embedding_dense_backward", embedding_dense_backward);
    shapes.impl("native_layer_norm", native_layer_norm);
    shapes.impl("native_layer_norm_backward", native_layer_norm_backward);
    return made;
  }();
  return *allocator;
}

void DryAllocator::count(Term term, int64_t bytes) {
  const std::lock_guard lock(mutex_);
  live_ += bytes;
  by_term_[static_cast<size_t>(term)] += bytes;
  if (live_ <= peak_) return;
  peak_ = live_;
  at_peak_ = by_term_;
}

c10::DataPtr DryAllocator::allocate(size_t bytes) {
  auto* block = new Block{this, static_cast<int64_t>(bytes), current_term};
  count(block->term, block->bytes);
  return {nullptr, block, &free_block, c10::Device(c10::kMeta)};
}

void DryAllocator::free_block(void* data) {
  const auto* block = static_cast<Block*>(data);
  block->allocator->count(block->term, -block->bytes);
  delete block;
}

int64_t DryAllocator::live() const {
  const std::lock_guard lock(mutex_);
  return live_;
}
int64_t DryAllocator::peak() const {
  const std::lock_guard lock(mutex_);
  return peak_;
}
BytesByTerm DryAllocator::at_peak() const {
  const std::lock_guard lock(mutex_);
  return at_peak_;
}
void DryAllocator::reset_peak() {
  const std::lock_guard lock(mutex_);
  peak_ = live_;
  at_peak_ = by_term_;
}

}  // namespace longfold::memory
