#include "tests/train/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  longfold::train::fuzz_recipe(bytes, size);
  return 0;
}
