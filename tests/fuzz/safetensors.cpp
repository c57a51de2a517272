#include "tests/base/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  longfold::base::fuzz_safetensors(bytes, size);
  return 0;
}
