// One function for each reader: whatever the bytes are, it returns. libFuzzer drives them (tests/fuzz/).
#pragma once

#include <cstddef>
#include <cstdint>

namespace longfold::train {

void fuzz_recipe(const uint8_t* bytes, size_t size);

}  // namespace longfold::train
