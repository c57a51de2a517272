// Which checkpoints of a run stay, and the removal of the others.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace longfold::train {

struct Retention {
  int64_t last = 0;                  // how many of the newest stay; 0: all do
  int64_t every = 0;                 // those of steps that this divides stay; 0: none for that
  std::optional<int64_t> best = {};  // the step that stays for its validation loss
};

// Removes the others. Each is renamed first, so that a checkpoint is whole or not there, whenever the program ends.
// Left alone is what is not a run's own: links, folders of other names or without our manifest, folders into which
// someone put a file. RunError if the disk fails.
void remove_old_checkpoints(const std::filesystem::path& output, const Retention& retention);

}  // namespace longfold::train
