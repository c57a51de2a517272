// A recipe's [parallel] section: how several processes share the work of a run.
#pragma once

#include <cstdint>

#include "longfold/parallel/mesh.h"

namespace longfold::parallel {

struct ParallelConfig {
  int64_t processes = 0;
  int64_t ring = 1;
  int64_t ulysses = 1;
  double timeout = 600;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit) {
    visit("processes", self.processes,
          "how many there are; 0 = as many as were started (mpirun -n 4 longfold train ...)");
    visit("ring", self.ring, "that share a sequence by passing keys and values around");
    visit("ulysses", self.ulysses, "that share a sequence by exchanging tokens for heads; the rest share the batch");
    visit("timeout", self.timeout,
          "seconds that a process waits for another, which may be saving, before the run ends");
  }
  void validate() const;  // base::UserError that names the key
  friend bool operator==(const ParallelConfig&, const ParallelConfig&) = default;

  // Of `processes`, or if that is 0 of as many as share a sequence.
  [[nodiscard]] Degrees degrees() const;
};

}  // namespace longfold::parallel
