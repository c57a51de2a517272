// Ctrl-C as a request to stop in order.
#pragma once

#include <atomic>

namespace longfold::cli {

// From now on the first SIGINT or SIGTERM sets the flag that is returned and prints `message` to standard error; the
// second ends the program at once. A file-size limit becomes a write error, like a full disk, instead of a signal.
const std::atomic<bool>& catch_signals(const char* message);

}  // namespace longfold::cli
