#include "longfold/parallel/config.h"

#include <string>

#include "longfold/base/error.h"

namespace longfold::parallel {

void ParallelConfig::validate() const {
  const auto expect = [](bool condition, const char* key, const char* expected, const std::string& got) {
    if (!condition)
      throw base::UserError(std::string("expected parallel.") + key + " to be " + expected + ", got " + got);
  };
  expect(processes >= 0, "processes", "0 or more", std::to_string(processes));
  expect(ring >= 1 && ring <= 1 << 16, "ring", "from 1 to 65536", std::to_string(ring));
  expect(ulysses >= 1 && ulysses <= 1 << 16, "ulysses", "from 1 to 65536", std::to_string(ulysses));
  expect(timeout > 0, "timeout", "above 0", std::to_string(timeout));
  if (processes > 0) (void)degrees();
}

Degrees ParallelConfig::degrees() const {
  return degrees_for(processes > 0 ? processes : ring * ulysses, ring, ulysses, 1);
}

}  // namespace longfold::parallel
