// Fibres: stacks of their own in one thread of the system, of which one runs until it switches to another.
#pragma once

#include <boost/context/fiber.hpp>
#include <functional>
#include <vector>

namespace longfold::simt {

class Fibres {
 public:
  static constexpr int kMain = -1;  // whoever made the fibres

  // Fibre i runs body(i) from the first switch to it on. The body switches away for good when it has nothing left to
  // do: it must not return, and throw nothing of its own.
  Fibres(int count, std::function<void(int)> body);
  // Unwinds what is left on the fibres' stacks.
  ~Fibres();
  Fibres(const Fibres&) = delete;
  Fibres& operator=(const Fibres&) = delete;

  // Comes back when something switches to the caller.
  void switch_to(int fibre);
  [[nodiscard]] int running() const { return running_; }

 private:
  struct Stopped {};
  struct Fibre {
    boost::context::fiber suspended;  // empty while it runs
    const void* stack_bottom = nullptr;
    size_t stack_size = 0;
  };

  boost::context::fiber enter(int fibre);
  Fibre& at(int fibre) { return fibres_[static_cast<size_t>(fibre + 1)]; }

  std::function<void(int)> body_;
  std::vector<Fibre> fibres_;  // kMain first
  int running_ = kMain;
  bool is_stopping_ = false;
};

}  // namespace longfold::simt
