// The ways a longfold program ends badly. All carry one line that names the thing, what was expected and what
// came.
#pragma once

#include <stdexcept>
#include <string>

namespace longfold::base {

// The user asked for something that cannot be: a wrong file, key, value or shape. The program exits with code 2.
class UserError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The request was fine but the run failed: a full disk, a memory limit. The program exits with code 1.
class RunError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Of these: memory that there is not, or that a limit does not allow.
class MemoryError : public RunError {
 public:
  using RunError::RunError;
};

}  // namespace longfold::base
