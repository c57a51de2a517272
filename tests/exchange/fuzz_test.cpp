#include "tests/exchange/fuzz.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <random>

#include "longfold/base/error.h"
#include "longfold/exchange/hugging_face/tokenizer.h"
#include "tests/exchange/folder.h"
#include "tests/exchange/small_models.h"

namespace longfold::exchange {
namespace {

using Json = nlohmann::ordered_json;

// Calls with each of the eight bits of every `stride`-th byte flipped, from `begin` to `end`.
void with_flipped_bits(const std::string& bytes, size_t begin, size_t end, size_t stride,
                       const std::function<void(const std::string&, size_t)>& call) {
  std::string flipped = bytes;
  for (size_t at = begin; at < end; at += stride) {
    for (int bit = 0; bit < 8; ++bit) {
      flipped[at] = static_cast<char>(bytes[at] ^ (1 << bit));
      call(flipped, at);
    }
    flipped[at] = bytes[at];
  }
}

// True: it was refused.
bool is_refused(const std::function<void()>& read) {
  try {
    read();
  } catch (const base::UserError&) {
    return true;
  }
  return false;
}

std::vector<std::string> all_keys(const Json& json) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : json.items()) {
    keys.push_back(key);
    if (value.is_object()) {
      const std::vector<std::string> inner = all_keys(value);
      keys.insert(keys.end(), inner.begin(), inner.end());
    }
  }
  return keys;
}

// A flipped bit in a value is another value, as if someone had written it. One in a name must not bring a default.
TEST(ImportFuzz, AFlippedBitInTheNameOfAKeyOfConfigNeverChangesTheModel) {
  for (const model::ModelConfig& config : small_models()) {
    const std::string text = hugging_face_config(config, 50).dump(2);
    const model::ModelConfig right = read_hugging_face_config(text, "").model;
    const std::vector<std::string> keys = all_keys(Json::parse(text));
    with_flipped_bits(text, 0, text.size(), 1, [&](const std::string& flipped, size_t at) {
      ReadConfig read;
      if (is_refused([&] { read = read_hugging_face_config(flipped, ""); })) return;
      if (all_keys(Json::parse(flipped)) == keys) return;
      EXPECT_EQ(read.model, right) << "byte " << at << " of " << text;
    });
    for (size_t size = 0; size < text.size(); ++size) {
      EXPECT_TRUE(is_refused([&] { (void)read_hugging_face_config(text.substr(0, size), ""); })) << size;
    }
  }
}

TEST(ImportFuzz, AHeaderOfWeightsIsRefusedOrRight) {
  const Folder folder(small_models()[5]);
  const std::string bytes = folder.weights();
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), sizeof header);
  int64_t num_refused = 0, num_right = 0;
  with_flipped_bits(bytes, 0, sizeof header + header, 11, [&](const std::string& flipped, size_t at) {
    put(folder.scratch / "model.safetensors", flipped);
    bool same = true;
    if (is_refused([&] { same = folder.gives_the_same(); })) {
      ++num_refused;
    } else {
      ++num_right;
      EXPECT_TRUE(same) << "byte " << at;
    }
  });
  EXPECT_GT(num_refused, 100 * num_right) << "of flips that leave the data what it is there are few";
  for (size_t size = 0; size < bytes.size(); size += 97) {
    put(folder.scratch / "model.safetensors", bytes.substr(0, size));
    EXPECT_TRUE(is_refused([&] { (void)folder.gives_the_same(); })) << size;
  }
}

// The format has no checksum: what docs/exchange.md says.
TEST(ImportFuzz, AFlippedBitOfTheDataIsAnotherNumberAndNothingElse) {
  const Folder folder(small_models()[0]);
  const std::string bytes = folder.weights();
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), sizeof header);
  with_flipped_bits(bytes, sizeof header + header, bytes.size(), 97, [&](const std::string& flipped, size_t at) {
    put(folder.scratch / "model.safetensors", flipped);
    const ReadWeights read = read_hugging_face_weights(folder.scratch.path(), folder.config);
    int64_t different = 0;
    for (size_t i = 0; i < read.parameters.size(); ++i) {
      different += read.parameters[i].value.ne(folder.parameters[i].value).sum().item<int64_t>();
    }
    EXPECT_EQ(different, 1) << "byte " << at;
  });
}

TEST(ImportFuzz, AnIndexIsRefusedOrRight) {
  const Folder folder(small_models()[2]);
  folder.use_index();
  const auto path = folder.scratch / "model.safetensors.index.json";
  const std::string text = base::read_file(path);
  ASSERT_TRUE(folder.gives_the_same());
  with_flipped_bits(text, 0, text.size(), 11, [&](const std::string& flipped, size_t at) {
    put(path, flipped);
    bool same = true;
    if (is_refused([&] { same = folder.gives_the_same(); })) return;
    EXPECT_TRUE(same) << "byte " << at;
  });
  for (size_t size = 0; size < text.size(); size += 97) {
    put(path, text.substr(0, size));
    EXPECT_TRUE(is_refused([&] { (void)folder.gives_the_same(); })) << size;
  }
}

TEST(ImportFuzz, ATokenizerIsOursAsItIsOrNone) {
  const std::vector<std::string> vocabulary{"[UNK]", "[PAD]", "A", "C", "G", "T"};
  const std::string text = tokenizer_json("mine", vocabulary, 1).dump(1);
  ASSERT_EQ(vocabulary_of_tokenizer(text), vocabulary);
  with_flipped_bits(text, 0, text.size(), 1, [&](const std::string& flipped, size_t at) {
    const auto read = vocabulary_of_tokenizer(flipped);
    if (!read || read == vocabulary) return;
    // A letter of a text became another: the table says so, and so does its hash in the checkpoint.
    EXPECT_EQ(read->size(), vocabulary.size()) << "byte " << at;
  });
}

// Good inputs, spoiled: bits, bytes, words of the format, pieces cut, doubled and moved.
void run(void (*fuzz)(const uint8_t*, size_t), const std::vector<std::string>& seeds,
         const std::vector<std::string>& words) {
  std::mt19937 random(20'261'130);
  const auto below = [&](size_t bound) { return static_cast<size_t>(random()) % std::max<size_t>(bound, 1); };
  for (int i = 0; i < 1000; ++i) {
    std::string input = seeds[below(seeds.size())];
    for (size_t changes = below(4) + 1; changes > 0; --changes) {
      const size_t at = below(input.size()), kind = below(5);
      if (kind == 0 && !input.empty()) input[at] = static_cast<char>(input[at] ^ (1 << below(8)));
      if (kind == 1) input.insert(at, words[below(words.size())]);
      if (kind == 2) input.erase(at, below(20));
      if (kind == 3) input.insert(below(input.size()), input.substr(at, below(80)));
      if (kind == 4 && below(4) == 0) input.resize(at);
    }
    fuzz(reinterpret_cast<const uint8_t*>(input.data()), input.size());
  }
}

TEST(ImportFuzz, NoBytesMakeItCrash) {
  std::vector<std::string> configs;
  for (const model::ModelConfig& config : small_models()) configs.push_back(hugging_face_config(config, 50).dump());
  const std::vector<std::string> words{"{",     "}",   "[",    "]",    "\"",
                                       ":",     ",",   "-",    "0",    "999999999999",
                                       "1e999", "\0",  "null", "true", "\"rope_scaling\":",
                                       "[[[[",  "\xff"};
  std::string deep = configs[0];
  deep.insert(deep.find("16"), std::string(100'000, '['));
  configs.push_back(deep);
  run(fuzz_config, configs, words);
  const Folder folder(small_models()[0]);
  run(fuzz_weights, {folder.weights()}, words);
  run(fuzz_index, {folder.index.dump()}, words);
  const std::vector<std::string> vocabulary{"[UNK]", "[PAD]", "A", "C", "G", "T"};
  run(fuzz_tokenizer, {tokenizer_json("mine", vocabulary, 1).dump()}, words);
}

}  // namespace
}  // namespace longfold::exchange
