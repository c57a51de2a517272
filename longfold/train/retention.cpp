#include "longfold/train/retention.h"

#include <algorithm>
#include <vector>

#include "longfold/base/error.h"
#include "longfold/base/files.h"
#include "longfold/train/checkpoint.h"

namespace longfold::train {
namespace {

namespace fs = std::filesystem;

bool stays(int64_t step, int64_t newer, const Retention& retention) {
  return newer < retention.last || (retention.every > 0 && step % retention.every == 0) || step == retention.best;
}

}  // namespace

void remove_old_checkpoints(const fs::path& output, const Retention& retention) {
  if (retention.last == 0) return;
  std::vector<int64_t> steps = own_checkpoints(output);
  std::ranges::sort(steps, std::greater<>());
  for (size_t newer = 0; newer < steps.size(); ++newer) {
    if (stays(steps[newer], static_cast<int64_t>(newer), retention)) continue;
    base::remove_folder(checkpoint_path(output, steps[newer]));
  }
}

}  // namespace longfold::train
