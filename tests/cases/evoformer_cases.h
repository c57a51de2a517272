// The shapes that matter for Evoformer attention, scaled down to what a test can afford, and the corners.
#pragma once

#include <cstdint>
#include <ostream>
#include <vector>

namespace longfold::cases {

struct EvoformerCase {
  const char* name;
  int64_t B, N, Lq, Lk, H, D;
  bool mask = true;  // mask bias [B, N, 1, 1, Lk]
  bool pair = true;  // pair bias [B, 1, H, Lq, Lk]
  friend std::ostream& operator<<(std::ostream& out, const EvoformerCase& c) { return out << c.name; }
};

inline std::vector<EvoformerCase> evoformer_cases() {
  return {
      {.name = "msa_row", .B = 1, .N = 5, .Lq = 150, .Lk = 150, .H = 3, .D = 32},
      {.name = "msa_column", .B = 1, .N = 6, .Lq = 70, .Lk = 70, .H = 2, .D = 32, .pair = false},
      {.name = "extra_msa_row", .B = 1, .N = 9, .Lq = 96, .Lk = 96, .H = 2, .D = 8},
      {.name = "triangle", .B = 2, .N = 33, .Lq = 33, .Lk = 33, .H = 2, .D = 32},
      {.name = "template_triangle", .B = 1, .N = 40, .Lq = 40, .Lk = 40, .H = 2, .D = 16},
      {.name = "af3_single", .B = 1, .N = 1, .Lq = 130, .Lk = 130, .H = 4, .D = 24},
      {.name = "af3_diffusion", .B = 1, .N = 5, .Lq = 65, .Lk = 65, .H = 2, .D = 48},
      {.name = "atom", .B = 1, .N = 7, .Lq = 32, .Lk = 128, .H = 4, .D = 32},
      {.name = "no_biases", .B = 1, .N = 2, .Lq = 20, .Lk = 300, .H = 1, .D = 64, .mask = false, .pair = false},
      {.name = "pair_only", .B = 2, .N = 3, .Lq = 64, .Lk = 64, .H = 2, .D = 32, .mask = false},
      {.name = "one_key", .B = 1, .N = 2, .Lq = 3, .Lk = 1, .H = 2, .D = 32},
      {.name = "one_query", .B = 1, .N = 3, .Lq = 1, .Lk = 17, .H = 2, .D = 16},
      {.name = "wide_head", .B = 1, .N = 2, .Lq = 66, .Lk = 131, .H = 1, .D = 128},
      {.name = "odd_head", .B = 1, .N = 2, .Lq = 7, .Lk = 9, .H = 2, .D = 5},
      {.name = "three_vectors", .B = 1, .N = 2, .Lq = 13, .Lk = 29, .H = 2, .D = 96},
  };
}

}  // namespace longfold::cases
