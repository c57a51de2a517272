// A dry run: code runs on torch's meta device, whose tensors have shapes and no data, and what they would take is
// counted. So a step's memory is known without its time, on a machine that need not have that memory.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Allocator.h>

#include <array>
#include <cstdint>
#include <mutex>

namespace longfold::memory {

// What memory is for.
enum class Term : uint8_t {
  kActivations,  // what no other is
  kParameters,
  kOptimizer,
  kGradients,
  kCheckpoints,
  kAttention,
  kScores,
  kBatch,
  kWorkspaces,  // of libraries, for as long as a process lives
  kFree,        // held by the allocator, between tensors
};
inline constexpr size_t kNumTerms = 10;
using BytesByTerm = std::array<int64_t, kNumTerms>;
[[nodiscard]] const char* to_string(Term term);

// While it lives, what is allocated in a dry run is for this term. For one thread at a time.
class TermScope {
 public:
  explicit TermScope(Term term);
  ~TermScope();
  TermScope(const TermScope&) = delete;
  TermScope& operator=(const TermScope&) = delete;

 private:
  Term before_;
};
// From now on it is for that. Tensors with data: nothing happens.
void assign_term(const at::Tensor& tensor, Term term);

// Takes the place of libtorch's allocator of the meta device, and brings the shapes of operators that torch has in
// Python alone. What operators allocate inside themselves on a real device is not seen: kernels of ours say it
// (ops/), torch's own take little.
class DryAllocator final : public c10::Allocator {
 public:
  static DryAllocator& install();

  c10::DataPtr allocate(size_t bytes) override;
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void*, const void*, size_t) const override {}

  [[nodiscard]] int64_t live() const;
  [[nodiscard]] int64_t peak() const;
  [[nodiscard]] BytesByTerm at_peak() const;
  void reset_peak();

 private:
  friend void assign_term(const at::Tensor& tensor, Term term);
  DryAllocator() = default;
  struct Block;
  static void free_block(void* block);
  void count(Term term, int64_t bytes);

  mutable std::mutex mutex_;
  int64_t live_ = 0, peak_ = 0;
  BytesByTerm by_term_{}, at_peak_{};
};

}  // namespace longfold::memory
