#include "longfold/parallel/mesh.h"

#include <algorithm>
#include <vector>

#include "longfold/base/error.h"

namespace longfold::parallel {
namespace {

// Ranks whose place differs from `rank`'s along these axes alone, in order.
std::vector<int64_t> ranks_along(const Degrees& degrees, int64_t rank, const std::vector<Axis>& axes) {
  std::vector<int64_t> ranks;
  for (int64_t other = 0; other < degrees.processes(); ++other) {
    bool belongs = true;
    for (const Axis axis : kAxes) {
      const bool may_differ = std::ranges::find(axes, axis) != axes.end();
      belongs = belongs && (may_differ || coordinate(degrees, other, axis) == coordinate(degrees, rank, axis));
    }
    if (belongs) ranks.push_back(other);
  }
  return ranks;
}

}  // namespace

const char* to_string(Axis axis) {
  constexpr std::array kNames{"data", "ring", "ulysses", "tensor"};
  return kNames[static_cast<size_t>(axis)];
}

int64_t Degrees::of(Axis axis) const {
  return std::array{data, ring, ulysses, tensor}[static_cast<size_t>(axis)];
}

Degrees degrees_for(int64_t processes, int64_t ring, int64_t ulysses, int64_t tensor) {
  const int64_t others = ring * ulysses * tensor;
  if (others < 1 || processes % others != 0) {
    throw base::UserError("expected parallel.ring x ulysses x tensor, which is " + std::to_string(others) +
                          ", to divide the number of processes, got " + std::to_string(processes));
  }
  return {processes / others, ring, ulysses, tensor};
}

int64_t coordinate(const Degrees& degrees, int64_t rank, Axis axis) {
  int64_t stride = 1;
  for (size_t i = kAxes.size(); i-- > 0;) {
    if (kAxes[i] == axis) break;
    stride *= degrees.of(kAxes[i]);
  }
  return rank / stride % degrees.of(axis);
}

Mesh::Mesh(World& world, const Degrees& degrees) : degrees_(degrees), rank_(world.rank()) {
  TORCH_CHECK(degrees.processes() == world.size(), "[mesh] expected ", degrees.processes(), " processes, got ",
              world.size());
  for (const Axis axis : kAxes) along_[static_cast<size_t>(axis)] = world.group(ranks_along(degrees, rank_, {axis}));
  sharers_ = world.group(ranks_along(degrees, rank_, {Axis::kRing, Axis::kUlysses}));
  replicas_ = world.group(ranks_along(degrees, rank_, {Axis::kData, Axis::kRing, Axis::kUlysses}));
  all_ = world.group(ranks_along(degrees, rank_, {kAxes.begin(), kAxes.end()}));
}

Mesh Mesh::dry(const Degrees& degrees) {
  Mesh mesh;
  mesh.degrees_ = degrees;
  for (const Axis axis : kAxes) mesh.along_[static_cast<size_t>(axis)] = Communicator::dry(0, degrees.of(axis));
  mesh.sharers_ = Communicator::dry(0, degrees.sequence());
  mesh.replicas_ = Communicator::dry(0, degrees.data * degrees.sequence());
  mesh.all_ = Communicator::dry(0, degrees.processes());
  return mesh;
}

Traffic Mesh::traffic() const {
  Traffic sum;
  for (const Communicator& one : along_) sum += one.traffic();
  for (const Communicator* one : {&sharers_, &replicas_, &all_}) sum += one->traffic();
  return sum;
}

}  // namespace longfold::parallel
