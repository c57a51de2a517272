// With clang, for one of them:
//   clang++ -std=c++20 -fsanitize=fuzzer,address -DLONGFOLD_FUZZ=fuzz_config -I. tests/exchange/fuzz.cpp ...
#include "tests/exchange/fuzz.h"

#include "longfold/base/error.h"
#include "longfold/exchange/hugging_face/tokenizer.h"
#include "tests/exchange/folder.h"
#include "tests/exchange/small_models.h"

namespace longfold::exchange {
namespace {

// What users are told of is fine; anything else (a crash, an exception of a library) is not.
template <class Read>
void unless_told(Read read) {
  try {
    read();
  } catch (const base::UserError&) {
    return;
  }
}

std::string_view text_of(const uint8_t* bytes, size_t size) {
  return {reinterpret_cast<const char*>(bytes), size};
}

}  // namespace

void fuzz_config(const uint8_t* bytes, size_t size) {
  unless_told([&] { (void)read_hugging_face_config(text_of(bytes, size), "config.json: "); });
}

void fuzz_weights(const uint8_t* bytes, size_t size) {
  static const Folder folder(small_models()[0]);
  put(folder.scratch / "model.safetensors", text_of(bytes, size));
  unless_told([&] { (void)folder.gives_the_same(); });
}

void fuzz_index(const uint8_t* bytes, size_t size) {
  static const Folder folder(small_models()[0]);
  if (std::filesystem::exists(folder.scratch / "model.safetensors")) folder.use_index();
  put(folder.scratch / "model.safetensors.index.json", text_of(bytes, size));
  unless_told([&] { (void)folder.gives_the_same(); });
}

void fuzz_tokenizer(const uint8_t* bytes, size_t size) {
  (void)vocabulary_of_tokenizer(text_of(bytes, size));
}

}  // namespace longfold::exchange

#ifdef LONGFOLD_FUZZ
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  longfold::exchange::LONGFOLD_FUZZ(bytes, size);
  return 0;
}
#endif
