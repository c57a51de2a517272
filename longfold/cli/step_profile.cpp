#include "longfold/cli/step_profile.h"

#include <torch/csrc/autograd/profiler_kineto.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <tuple>

namespace longfold::cli {
namespace {

namespace profiler = torch::autograd::profiler;

struct Event {
  std::string name;
  uint64_t thread, begin, end;  // nanoseconds
};

// An operator's time without that of operators within it: events of a thread are nested.
std::vector<std::pair<std::string, double>> own_times(std::vector<Event> events) {
  std::ranges::sort(events, [](const Event& a, const Event& b) {
    return std::tuple(a.thread, a.begin, b.end) < std::tuple(b.thread, b.begin, a.end);
  });
  std::vector<std::pair<std::string, double>> times;
  std::vector<size_t> open;
  for (size_t i = 0; i < events.size(); ++i) {
    const Event& event = events[i];
    const double seconds = 1e-9 * static_cast<double>(event.end - event.begin);
    while (!open.empty() && (events[open.back()].thread != event.thread || events[open.back()].end <= event.begin)) {
      open.pop_back();
    }
    if (!open.empty()) times[open.back()].second -= seconds;
    open.push_back(i);
    times.emplace_back(event.name, seconds);
  }
  return times;
}

}  // namespace

StepProfile::StepProfile(bool on_gpu) : on_gpu_(on_gpu) {
  using torch::profiler::impl::ActivityType, torch::profiler::impl::ProfilerState;
  const torch::profiler::impl::ProfilerConfig config(ProfilerState::KINETO);
  std::set<ActivityType> activities{ActivityType::CPU};
  if (on_gpu) activities.insert(ActivityType::CUDA);
  ::setenv("KINETO_LOG_LEVEL", "99", /*overwrite=*/0);  // it says on standard error that there is no GPU
  profiler::prepareProfiler(config, activities);
  // Every thread: backward runs in those of autograd.
  profiler::enableProfiler(config, activities, {at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION});
}

StepProfile::~StepProfile() {
  if (runs_) profiler::disableProfiler();
}

std::vector<ProfileRow> StepProfile::rows() {
  runs_ = false;
  const auto result = profiler::disableProfiler();
  std::vector<Event> events;
  for (const auto& event : result->events()) {
    if (event.deviceType() != (on_gpu_ ? c10::DeviceType::CUDA : c10::DeviceType::CPU)) continue;
    const auto begin = static_cast<uint64_t>(event.startNs());
    const uint64_t thread = on_gpu_ ? static_cast<uint64_t>(event.deviceResourceId()) : event.startThreadId();
    events.push_back({event.name(), thread, begin, begin + event.durationNs()});
  }
  std::map<std::string, ProfileRow> by_name;
  for (const auto& [name, seconds] : own_times(std::move(events))) {
    ProfileRow& row = by_name[name];
    row.name = name;
    row.seconds += seconds;
    ++row.calls;
  }
  std::vector<ProfileRow> rows;
  for (auto& [name, row] : by_name) rows.push_back(std::move(row));
  std::ranges::stable_sort(rows, std::greater{}, &ProfileRow::seconds);
  return rows;
}

}  // namespace longfold::cli
