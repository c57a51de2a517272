// Where the time of a training step goes: torch's profiler (Kineto) over operators on the CPU, or over kernels on a
// GPU.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace longfold::cli {

struct ProfileRow {
  std::string name;    // of an operator, or of a kernel
  double seconds = 0;  // without what it calls
  int64_t calls = 0;
};

class StepProfile {
 public:
  explicit StepProfile(bool on_gpu);
  ~StepProfile();
  StepProfile(const StepProfile&) = delete;
  StepProfile& operator=(const StepProfile&) = delete;

  // Ends it. The longest first.
  [[nodiscard]] std::vector<ProfileRow> rows();

 private:
  bool on_gpu_, runs_ = true;
};

}  // namespace longfold::cli
