// One function for each file of a folder that `longfold import` reads: whatever the bytes are, it returns. libFuzzer
// can drive them, the loops of fuzz_test.cpp do in the tests.
#pragma once

#include <cstddef>
#include <cstdint>

namespace longfold::exchange {

void fuzz_config(const uint8_t* bytes, size_t size);
void fuzz_weights(const uint8_t* bytes, size_t size);
void fuzz_index(const uint8_t* bytes, size_t size);
void fuzz_tokenizer(const uint8_t* bytes, size_t size);

}  // namespace longfold::exchange
