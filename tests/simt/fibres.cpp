#include "tests/simt/fibres.h"

#include <boost/context/protected_fixedsize_stack.hpp>
#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace longfold::simt {
namespace {

// AddressSanitizer must know the stack that runs: it unpoisons the whole of it when an exception is thrown.
#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kStackBytes = 1 << 20;  // red zones make frames larger
void start_switch(void** fake_stack, const void* bottom, size_t size) {
  __sanitizer_start_switch_fiber(fake_stack, bottom, size);
}
void finish_switch(void* fake_stack, const void** old_bottom, size_t* old_size) {
  __sanitizer_finish_switch_fiber(fake_stack, old_bottom, old_size);
}
void forget_poison(void* from, size_t size) {
  ASAN_UNPOISON_MEMORY_REGION(from, size);
}
#else
constexpr size_t kStackBytes = 1 << 18;
void start_switch(void**, const void*, size_t) {}
void finish_switch(void*, const void**, size_t*) {}
void forget_poison(void*, size_t) {}
#endif

// Stacks with a guard page below, of which pages never used cost nothing.
struct Stacks {
  boost::context::protected_fixedsize_stack stacks{kStackBytes};

  boost::context::stack_context allocate() { return stacks.allocate(); }
  // The next mapping may come to the same place.
  void deallocate(boost::context::stack_context& stack) {
    forget_poison(static_cast<char*>(stack.sp) - kStackBytes, kStackBytes);
    stacks.deallocate(stack);
  }
};

}  // namespace

Fibres::Fibres(int count, std::function<void(int)> body) : body_(std::move(body)) {
  fibres_.resize(static_cast<size_t>(count + 1));
  for (int i = 0; i < count; ++i) {
    Stacks stacks;
    const boost::context::stack_context stack = stacks.allocate();
    Fibre& fibre = at(i);
    fibre.stack_bottom = static_cast<const char*>(stack.sp) - kStackBytes;
    fibre.stack_size = kStackBytes;
    fibre.suspended =
        boost::context::fiber(std::allocator_arg, boost::context::preallocated(stack.sp, stack.size, stack), stacks,
                              [this, i](boost::context::fiber&&) { return enter(i); });
  }
}

Fibres::~Fibres() {
  is_stopping_ = true;
  for (int i = 0; i + 1 < static_cast<int>(fibres_.size()); ++i) switch_to(i);
}

boost::context::fiber Fibres::enter(int fibre) {
  const bool comes_from_main = at(kMain).stack_bottom == nullptr;
  finish_switch(nullptr, comes_from_main ? &at(kMain).stack_bottom : nullptr,
                comes_from_main ? &at(kMain).stack_size : nullptr);
  try {
    if (!is_stopping_) body_(fibre);
  } catch (const Stopped&) {
  }
  running_ = kMain;
  start_switch(nullptr, at(kMain).stack_bottom, at(kMain).stack_size);
  return std::move(at(kMain).suspended);
}

void Fibres::switch_to(int fibre) {
  const int me = running_;
  if (fibre == me) return;
  running_ = fibre;
  boost::context::fiber target = std::move(at(fibre).suspended);
  void* fake_stack = nullptr;
  start_switch(&fake_stack, at(fibre).stack_bottom, at(fibre).stack_size);
  std::move(target).resume_with([this, me](boost::context::fiber&& suspended) {
    at(me).suspended = std::move(suspended);
    return boost::context::fiber();
  });
  finish_switch(fake_stack, nullptr, nullptr);
  if (is_stopping_ && me != kMain) throw Stopped();
}

}  // namespace longfold::simt
