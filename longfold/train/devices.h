// Devices to plan for, which need not be here: their memory and the rates at which this program's steps ran on them.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace longfold::train {

struct DeviceRates {
  std::string_view name;
  int64_t bytes;     // of memory that tensors may take
  double products;   // FLOP/s of matrix products, in 16 bits
  double attention;  // FLOP/s of attention forward
  double attention_backward;
  double peak;  // FLOP/s that the maker states, dense: what MFU is of
  std::string_view source;
};

[[nodiscard]] const std::vector<DeviceRates>& known_devices();

}  // namespace longfold::train
