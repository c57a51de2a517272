#include "tests/base/fuzz.h"

#include <cstdlib>
#include <vector>

#include "longfold/base/error.h"
#include "longfold/base/safetensors.h"
#include "tests/fuzz/input_file.h"

namespace longfold::base {

// A file that is read has exactly the bytes that its shapes say, each of one tensor.
void fuzz_safetensors(const uint8_t* bytes, size_t size) {
  const InputFile input(bytes, size);
  try {
    const SafetensorsFile file(input.path());
    uint64_t end = 0;
    for (const TensorEntry& entry : file.tensors()) {
      uint64_t expected = safetensors_element_size(entry.dtype).value();
      for (const int64_t length : entry.shape) expected *= static_cast<uint64_t>(length);
      if (entry.begin != end || entry.end - entry.begin != expected || entry.end > size) std::abort();
      end = entry.end;
      std::vector<std::byte> read(expected);
      file.read(entry, read);
    }
  } catch (const UserError&) {
    return;
  }
}

}  // namespace longfold::base
