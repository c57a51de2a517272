// Processes in a grid of four axes, data x ring x ulysses x tensor, the last one changing fastest: neighbours, which
// exchange most, are next to each other.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "longfold/parallel/communicator.h"
#include "longfold/parallel/world.h"

namespace longfold::parallel {

enum class Axis : uint8_t { kData, kRing, kUlysses, kTensor };
inline constexpr std::array kAxes{Axis::kData, Axis::kRing, Axis::kUlysses, Axis::kTensor};
[[nodiscard]] const char* to_string(Axis axis);

struct Degrees {
  int64_t data = 1, ring = 1, ulysses = 1, tensor = 1;

  [[nodiscard]] int64_t of(Axis axis) const;
  [[nodiscard]] int64_t sequence() const { return ring * ulysses; }
  [[nodiscard]] int64_t processes() const { return data * sequence() * tensor; }
  friend bool operator==(const Degrees&, const Degrees&) = default;
};

// With data = processes / the others. base::UserError where they do not divide the processes.
[[nodiscard]] Degrees degrees_for(int64_t processes, int64_t ring, int64_t ulysses, int64_t tensor);
// A process's place along an axis.
[[nodiscard]] int64_t coordinate(const Degrees& degrees, int64_t rank, Axis axis);

class Mesh {
 public:
  Mesh() = default;  // of one process
  // All processes of the world call it.
  Mesh(World& world, const Degrees& degrees);
  // Of a dry run, as the first process has it: Communicator::dry().
  static Mesh dry(const Degrees& degrees);

  [[nodiscard]] const Degrees& degrees() const { return degrees_; }
  [[nodiscard]] int64_t rank() const { return rank_; }  // in the world
  [[nodiscard]] int64_t at(Axis axis) const { return coordinate(degrees_, rank_, axis); }
  // Where in the sequence: ring * ulysses degree + ulysses.
  [[nodiscard]] int64_t in_sequence() const { return at(Axis::kRing) * degrees_.ulysses + at(Axis::kUlysses); }

  // Those that differ from this one along an axis alone.
  [[nodiscard]] const Communicator& along(Axis axis) const { return along_[static_cast<size_t>(axis)]; }
  // Those that share a sequence: along ring and ulysses.
  [[nodiscard]] const Communicator& sharers() const { return sharers_; }
  // Those with the same parameters, which see other tokens: along data, ring and ulysses. Gradients are summed there.
  [[nodiscard]] const Communicator& replicas() const { return replicas_; }
  [[nodiscard]] const Communicator& all() const { return all_; }

  [[nodiscard]] Traffic traffic() const;  // of all of these together

 private:
  Degrees degrees_;
  int64_t rank_ = 0;
  std::array<Communicator, 4> along_;
  Communicator sharers_, replicas_, all_;
};

}  // namespace longfold::parallel
