#include "tests/data/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  longfold::data::fuzz_gff(bytes, size);
  return 0;
}
