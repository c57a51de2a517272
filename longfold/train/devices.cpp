#include "longfold/train/devices.h"

namespace longfold::train {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

}  // namespace

const std::vector<DeviceRates>& known_devices() {
  // Rates of GPUs: docs/results/training-step-cuda-bf16-2026-11-30.md, whose GPU is an H200: an H100 has the same
  // processor. Of an A100 they are its share of the peak, a guess.
  static const std::vector<DeviceRates> devices{
      {"h200", 139 * kGiB, 620e12, 500e12, 440e12, 989e12, "measured on an H200"},
      {"h100", 79 * kGiB, 620e12, 500e12, 440e12, 989e12, "measured on an H200, which has an H100's processor"},
      {"a100-80", 79 * kGiB, 200e12, 180e12, 140e12, 312e12, "guessed from its peak"},
      {"a100-40", 39 * kGiB, 200e12, 180e12, 140e12, 312e12, "guessed from its peak"},
  };
  return devices;
}

}  // namespace longfold::train
