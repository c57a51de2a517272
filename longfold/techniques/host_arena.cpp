#include "longfold/techniques/host_arena.h"

#include <sys/mman.h>

#include <ATen/Parallel.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "longfold/base/error.h"
#include "longfold/base/text.h"
#include "longfold/kernels/cuda/host_memory.h"

namespace longfold::techniques {
namespace {

[[noreturn]] void fail(int64_t bytes, const std::string& why) {
  throw base::RunError("cannot register " + base::format_bytes(bytes) +
                       " of the host's memory for what waits there by [memory]: " + why +
                       " (file takes a file in place of it)");
}

}  // namespace

HostArena::HostArena(int64_t bytes) : bytes_(bytes) {
  constexpr int64_t kPage = 4096;
  void* begin = ::mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (begin == MAP_FAILED) fail(bytes, std::strerror(errno));
  begin_ = static_cast<std::byte*>(begin);
  ::madvise(begin, static_cast<size_t>(bytes), MADV_HUGEPAGE);
  // The system gives each page when it is first touched: many threads are faster at that than the registration.
  at::parallel_for(0, (bytes + kPage - 1) / kPage, kPage, [&](int64_t first, int64_t last) {
    for (int64_t page = first; page < last; ++page) begin_[page * kPage] = std::byte{0};
  });
  const std::string problem = kernels::cuda::register_host_memory(begin, static_cast<size_t>(bytes));
  if (problem.empty()) return;
  ::munmap(begin, static_cast<size_t>(bytes));
  fail(bytes, problem);
}

HostArena::~HostArena() {
  kernels::cuda::unregister_host_memory(begin_);
  ::munmap(begin_, static_cast<size_t>(bytes_));
}

}  // namespace longfold::techniques
