// Recipes, spoiled: refused by a UserError, or a recipe that is whole.
#include <gtest/gtest.h>

#include "tests/spoil.h"
#include "tests/train/fuzz.h"

namespace longfold::train {
namespace {

constexpr const char* kRecipe =
    "# A comment\n[model]\npreset = \"genslm-25m\"\nnum_layers = 2\nrotary_pct = 0.25\ntie_embeddings = false\n\n"
    "[data]\npath = 'x'\nsequence_length = 1024\nmixture = \"y 0.5, z 2\"\nbatch_size = 4\n\n"
    "[optimizer]\nlearning_rate = 1e-3\nschedule = \"wsd\"\nwarmup_tokens = 8_192\ndecay_tokens = 40_960\n\n"
    "[train]\noutput = \"run\"\ntokens = 1_000_000\n\n[compute]\nmemory_limit = \"2GiB\"\nthreads = 2\n";

void fuzz(const std::string& text) {
  fuzz_recipe(reinterpret_cast<const uint8_t*>(text.data()), text.size());
}

TEST(RecipeFuzz, FlippedBits) {
  for_each_flip(kRecipe, 0, 1, [](const std::string& text, size_t) { fuzz(text); });
}

TEST(RecipeFuzz, Cuts) {
  for_each_cut(kRecipe, 1, [](const std::string& text, size_t) { fuzz(text); });
}

TEST(RecipeFuzz, WhateverTheBytes) {
  for_each_spoiled({kRecipe, "[train]\noutput = 'x'\n[data]\npath = 'y'\n"},
                   {"[",
                    "]",
                    "[[",
                    "{",
                    "}",
                    "=",
                    "\"",
                    "'''",
                    "\n",
                    "\r",
                    ".",
                    ",",
                    "#",
                    "0x",
                    "-",
                    "inf",
                    "nan",
                    "9223372036854775807",
                    "-9223372036854775808",
                    "1e400",
                    "1979-05-27T07:32:00Z",
                    "true",
                    "\xff",
                    "\\uD800",
                    "a.a.a.a.a",
                    "batch_size = 9223372036854775807\n",
                    "sequence_length",
                    "steps",
                    "tokens"},
                   20'000, fuzz);
}

TEST(RecipeFuzz, DeepNesting) {
  for (const char* piece : {"[", "{a=", "a.", "[["}) {
    for (const char* before : {"", "x = ", "[", "["}) {
      std::string text = before;
      for (int i = 0; i < 20'000; ++i) text += piece;
      fuzz(text);
      fuzz(text + "a]\nb = 1\n");
      fuzz(text + "a = 1\n");
    }
  }
}

}  // namespace
}  // namespace longfold::train
