#include "longfold/cli/failure.h"

#include <chrono>
#include <cstdio>
#include <exception>
#include <string>
#include <thread>

#include "longfold/base/error.h"
#include "longfold/base/text.h"
#include "longfold/cli/launch.h"

namespace longfold::cli {

int fail(int code, std::string_view message) {
  const int rank = launched_rank();
  // What is wrong with all of them the first one says, and ends them.
  if (rank > 0) std::this_thread::sleep_for(std::chrono::seconds(3));
  const std::string who = rank > 0 ? "process " + std::to_string(rank) + ": " : "";
  std::fprintf(stderr, "longfold: %s%s\n", who.c_str(), base::printable(message).c_str());
  return code;
}

int fail_by_exception() {
  try {
    throw;
  } catch (const base::UserError& error) {
    return fail(2, error.what());
  } catch (const base::RunError& error) {
    return fail(1, error.what());
  } catch (const std::exception& error) {
    const std::string_view message = error.what();
    return fail(1, message.substr(0, message.find('\n')));  // libtorch appends a stack trace
  }
}

}  // namespace longfold::cli
