// The shapes that matter for Evoformer attention, scaled down to what a test can afford, and the corners. One list for
// comparing with fp64, gradients, determinism and the bench.
#pragma once

#include <algorithm>
#include <cstdint>
#include <ostream>
#include <utility>
#include <vector>

namespace longfold::cases {

// A bias is broadcast to [B, N, H, Lq, Lk] from the shape of its kind.
enum class BiasKind : uint8_t {
  kMask,        // [B, N, 1, 1, Lk]
  kPair,        // [B, 1, H, Lq, Lk]
  kSharedPair,  // [B, 1, 1, Lq, Lk], the same for all heads
  kGeneral,     // [B, N, H, Lq, Lk]
  kHeadMask,    // [B, N, H, 1, Lk]
};

enum class ElementType : uint8_t { kOfQueries, kFloat32, kFloat64, kBFloat16, kFloat16 };

struct Bias {
  BiasKind kind;
  ElementType type = ElementType::kFloat32;
};

// How q, k, v, biases and gradients lie in memory. Only the contiguous one has no element between two neighbours.
enum class Layout : uint8_t {
  kContiguous,
  kLengthFirst,  // rows and length swapped, as around the ending node; biases have their queries innermost
  kHeadsFirst,   // [B, N, H, L, D], as OpenFold holds it
  kWider,        // a third of a wider last dim, as a chunk of one projection for q, k and v
  kInnerStride,  // the length innermost, so that neighbours in a head lie H * L elements apart; biases have heads there
  kSharedBatch,  // k, v and biases expanded along B, grad_out along everything, as out.sum().backward() makes it
};

struct EvoformerCase {
  const char* name;
  int64_t B, N, Lq, Lk, H, D;
  std::vector<Bias> biases = {{BiasKind::kMask}, {BiasKind::kPair}};
  Layout layout = Layout::kContiguous;
  friend std::ostream& operator<<(std::ostream& out, const EvoformerCase& c) { return out << c.name; }
};

// What models call it with, with fewer rows, heads and shorter lengths.
inline std::vector<EvoformerCase> model_cases() {
  using enum BiasKind;
  using enum ElementType;
  return {
      {.name = "msa_row", .B = 1, .N = 3, .Lq = 70, .Lk = 70, .H = 8, .D = 32},
      {.name = "msa_column", .B = 1, .N = 5, .Lq = 70, .Lk = 70, .H = 4, .D = 32, .biases = {{kMask}}},
      {.name = "msa_column_as_view",
       .B = 1,
       .N = 6,
       .Lq = 40,
       .Lk = 40,
       .H = 2,
       .D = 32,
       .biases = {{kMask}},
       .layout = Layout::kLengthFirst},
      {.name = "extra_msa_row", .B = 1, .N = 17, .Lq = 48, .Lk = 48, .H = 8, .D = 8},
      {.name = "triangle_starting", .B = 2, .N = 33, .Lq = 33, .Lk = 33, .H = 2, .D = 32},
      {.name = "triangle_ending", .B = 1, .N = 40, .Lq = 40, .Lk = 40, .H = 4, .D = 32, .layout = Layout::kLengthFirst},
      {.name = "template_triangle", .B = 1, .N = 40, .Lq = 40, .Lk = 40, .H = 2, .D = 16},
      {.name = "af3_single", .B = 1, .N = 1, .Lq = 130, .Lk = 130, .H = 8, .D = 24, .biases = {{kPair}}},
      {.name = "af3_diffusion", .B = 1, .N = 5, .Lq = 65, .Lk = 65, .H = 4, .D = 48, .biases = {{kPair}}},
      {.name = "atom", .B = 1, .N = 7, .Lq = 32, .Lk = 128, .H = 4, .D = 32},
      {.name = "openfold_heads_first",
       .B = 1,
       .N = 4,
       .Lq = 70,
       .Lk = 70,
       .H = 4,
       .D = 32,
       .biases = {{kMask, kOfQueries}, {kPair, kOfQueries}},
       .layout = Layout::kHeadsFirst},
      {.name = "chunk_of_projection", .B = 1, .N = 4, .Lq = 70, .Lk = 70, .H = 4, .D = 24, .layout = Layout::kWider},
  };
}

// Biases of every kind, of other types than the queries, several at once, and none.
inline std::vector<EvoformerCase> bias_cases() {
  using enum BiasKind;
  using enum ElementType;
  const auto bias_case = [](const char* name, std::vector<Bias> biases, Layout layout = Layout::kContiguous) {
    return EvoformerCase{name, 2, 3, 67, 73, 2, 16, std::move(biases), layout};
  };
  return {
      bias_case("no_bias", {}),
      bias_case("mask_only", {{kMask}}),
      bias_case("pair_only", {{kPair}}),
      bias_case("shared_pair", {{kSharedPair}}),
      bias_case("general", {{kGeneral}}),
      bias_case("general_of_queries_type", {{kGeneral, kOfQueries}}),
      bias_case("head_mask", {{kHeadMask}}),
      bias_case("biases_of_queries_type", {{kMask, kOfQueries}, {kPair, kOfQueries}}),
      bias_case("bfloat16_biases", {{kMask, kBFloat16}, {kPair, kBFloat16}}),
      bias_case("float16_biases", {{kMask, kFloat16}, {kPair, kFloat16}, {kGeneral, kFloat16}}),
      bias_case("float64_biases", {{kMask, kFloat64}, {kPair, kFloat64}}),
      bias_case("two_masks_two_pairs", {{kMask}, {kPair, kBFloat16}, {kMask, kFloat64}, {kSharedPair}}),
      bias_case("every_kind", {{kGeneral}, {kSharedPair}, {kPair, kFloat64}, {kHeadMask}, {kMask, kBFloat16}}),
      bias_case("every_kind_swapped", {{kGeneral}, {kSharedPair}, {kPair, kFloat64}, {kMask, kBFloat16}},
                Layout::kLengthFirst),
      bias_case("every_kind_strided", {{kGeneral, kBFloat16}, {kPair, kFloat64}, {kMask}}, Layout::kInnerStride),
      bias_case("mask_and_pair_strided", {{kMask}, {kPair}}, Layout::kInnerStride),
      bias_case("every_kind_wider", {{kGeneral}, {kPair, kFloat16}, {kMask, kFloat64}}, Layout::kWider),
      bias_case("shared_batch", {{kMask}, {kPair}, {kGeneral}}, Layout::kSharedBatch),
  };
}

// Lengths that differ, lengths of 1, head dims that fill vectors and that do not.
inline std::vector<EvoformerCase> size_cases() {
  return {
      {.name = "one_query_one_key", .B = 2, .N = 2, .Lq = 1, .Lk = 1, .H = 2, .D = 32},
      {.name = "one_key", .B = 1, .N = 2, .Lq = 3, .Lk = 1, .H = 2, .D = 32},
      {.name = "one_query", .B = 1, .N = 3, .Lq = 1, .Lk = 17, .H = 2, .D = 16},
      {.name = "two", .B = 1, .N = 1, .Lq = 2, .Lk = 2, .H = 1, .D = 8},
      {.name = "fifteen", .B = 1, .N = 2, .Lq = 15, .Lk = 15, .H = 2, .D = 32},
      {.name = "one_panel_one_block", .B = 1, .N = 2, .Lq = 64, .Lk = 64, .H = 2, .D = 32},
      {.name = "one_more", .B = 1, .N = 2, .Lq = 65, .Lk = 65, .H = 2, .D = 32},
      {.name = "many_queries", .B = 1, .N = 2, .Lq = 300, .Lk = 20, .H = 2, .D = 32},
      {.name = "many_keys", .B = 1, .N = 2, .Lq = 20, .Lk = 300, .H = 2, .D = 32},
      {.name = "head_1", .B = 1, .N = 2, .Lq = 19, .Lk = 23, .H = 3, .D = 1},
      {.name = "head_5", .B = 1, .N = 2, .Lq = 7, .Lk = 9, .H = 2, .D = 5},
      {.name = "head_8", .B = 1, .N = 2, .Lq = 66, .Lk = 131, .H = 2, .D = 8},
      {.name = "head_16", .B = 1, .N = 2, .Lq = 66, .Lk = 131, .H = 2, .D = 16},
      {.name = "head_24", .B = 1, .N = 2, .Lq = 66, .Lk = 131, .H = 2, .D = 24},
      {.name = "head_48", .B = 1, .N = 2, .Lq = 66, .Lk = 131, .H = 2, .D = 48},
      {.name = "head_64", .B = 1, .N = 2, .Lq = 66, .Lk = 131, .H = 2, .D = 64},
      {.name = "head_72", .B = 1, .N = 2, .Lq = 66, .Lk = 131, .H = 1, .D = 72},
      {.name = "head_96", .B = 1, .N = 2, .Lq = 66, .Lk = 131, .H = 1, .D = 96},
      {.name = "head_128", .B = 1, .N = 2, .Lq = 66, .Lk = 131, .H = 1, .D = 128},
      {.name = "head_200", .B = 1, .N = 2, .Lq = 66, .Lk = 131, .H = 1, .D = 200},
  };
}

// The sizes of models, with as many rows N as the logits of code that materialises them leave room for: for measuring,
// too long for comparing with plain loops.
inline std::vector<EvoformerCase> full_size_cases() {
  return {
      {.name = "triangle", .B = 1, .N = 64, .Lq = 256, .Lk = 256, .H = 4, .D = 32},
      {.name = "extra_msa_row", .B = 1, .N = 128, .Lq = 256, .Lk = 256, .H = 8, .D = 8},
      {.name = "msa_row", .B = 1, .N = 32, .Lq = 512, .Lk = 512, .H = 8, .D = 32},
      {.name = "triangle_384", .B = 1, .N = 64, .Lq = 384, .Lk = 384, .H = 4, .D = 32},
      {.name = "triangle_1024", .B = 1, .N = 16, .Lq = 1024, .Lk = 1024, .H = 4, .D = 32},
      {.name = "template_triangle", .B = 1, .N = 64, .Lq = 256, .Lk = 256, .H = 4, .D = 16},
      {.name = "af3_single", .B = 1, .N = 1, .Lq = 384, .Lk = 384, .H = 16, .D = 24},
      {.name = "af3_diffusion", .B = 1, .N = 5, .Lq = 384, .Lk = 384, .H = 16, .D = 48},
      {.name = "one_row", .B = 1, .N = 1, .Lq = 1024, .Lk = 1024, .H = 4, .D = 32},
  };
}

inline std::vector<EvoformerCase> evoformer_cases() {
  std::vector<EvoformerCase> all = model_cases();
  for (const auto& more : {bias_cases(), size_cases()}) all.insert(all.end(), more.begin(), more.end());
  return all;
}

// The same where all rows lie in whole units of 16 bytes, as GPUs copy them at once: cases with a pair bias have a few
// more keys. And some that go through every kernel that wants it so.
inline std::vector<EvoformerCase> evoformer_cases_in_units() {
  using enum BiasKind;
  const std::vector<Bias> of_queries = {{kMask, ElementType::kOfQueries}, {kPair, ElementType::kOfQueries}};
  std::vector<EvoformerCase> shapes = evoformer_cases();
  for (EvoformerCase& shape : shapes) {
    const auto is_mask = [](const Bias& bias) { return bias.kind == kMask || bias.kind == kHeadMask; };
    if (!std::ranges::all_of(shape.biases, is_mask)) shape.Lk = (shape.Lk + 7) / 8 * 8;
  }
  const auto add = [&](const char* name, int64_t N, int64_t D, std::vector<Bias> biases) {
    shapes.push_back({name, 1, N, D > 64 ? 150 : 70, 136, 2, D, std::move(biases)});  // for more than one block
  };
  add("bias_of_queries_type", 4, 32, of_queries);
  add("bias_of_queries_type_8", 2, 8, of_queries);
  add("bias_of_queries_type_24", 2, 24, of_queries);
  add("bias_of_queries_type_64", 4, 64, of_queries);
  add("bias_of_queries_type_96", 2, 96, of_queries);
  add("bias_of_queries_type_128", 3, 128, of_queries);
  add("one_row_of_queries_type", 1, 32, of_queries);
  add("one_wide_row", 1, 128, {{kMask}, {kPair}});
  add("wide_without_pair", 2, 96, {{kMask}});
  add("wide_without_bias", 2, 128, {});
  add("one_row_without_pair", 1, 32, {{kMask}});
  add("pair_alone", 2, 32, {{kPair}});
  add("no_bias_at_all", 2, 32, {});
  return shapes;
}

}  // namespace longfold::cases
