// How the program says that something failed.
#pragma once

#include <string_view>

namespace longfold::cli {

// One line on standard error, whatever the names in it hold, with the rank where several processes were launched.
// Returns the exit code: 0 fine, 1 the run failed, 2 the user asked for something that cannot be.
int fail(int code, std::string_view message);

// The same for the exception that is being handled.
int fail_by_exception();

}  // namespace longfold::cli
