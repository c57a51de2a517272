// Cuts calls into items, and chooses between the reference (double) and the CPU kernels of the selected instruction set
// (all else).
#include "longfold/kernels/causal_attention.h"

#include <type_traits>

#include "longfold/kernels/causal/reference.h"
#include "longfold/kernels/causal/tile_size.h"
#include "longfold/kernels/cpu/causal/buffers.h"
#include "longfold/kernels/cpu/causal/isa_kernels.h"
#include "longfold/kernels/isa.h"

namespace longfold::kernels {
namespace {

template <class Args>
CausalShape shape_of(const Args& args) {
  return {.B = args.q.sizes[0],
          .Sq = args.q.sizes[1],
          .Sk = args.k.sizes[1],
          .H = args.q.sizes[2],
          .KV = args.k.sizes[2],
          .D = args.q.sizes[3]};
}

template <class T>
CausalKernels<T> selected_kernels() {
  switch (selected_isa()) {
    case Isa::kAvx512Bf16:
      if constexpr (std::is_same_v<T, bfloat16>) return avx512_bf16_causal_kernels();
      [[fallthrough]];
    case Isa::kAvx512:
      return avx512_causal_kernels<T>();
    case Isa::kAvx2:
      return avx2_causal_kernels<T>();
    case Isa::kNeon:
      return neon_causal_kernels<T>();
    case Isa::kPortable:
      break;
  }
  return portable_causal_kernels<T>();
}

float* floats(std::span<std::byte> bytes) {
  return reinterpret_cast<float*>(bytes.data());
}

std::span<double> doubles(std::span<std::byte> bytes) {
  return {reinterpret_cast<double*>(bytes.data()), bytes.size() / sizeof(double)};
}

template <class T>
constexpr bool kOnReference = std::is_same_v<T, double>;

int64_t num_documents(DocumentStarts documents) {
  return static_cast<int64_t>(documents.size()) - 1;
}

// The squares of all documents, by colour.
template <class Args>
void add_squares(const Args& args, CausalBackwardPlan& plan) {
  std::vector<std::vector<CausalSquare>> by_colour;
  for (size_t d = 0; d + 1 < args.documents.size(); ++d) {
    const CausalTokens tokens = tokens_of(args, d);
    if (tokens.queries == 0) continue;
    const ChunkGrid grid(tokens, args.window);
    if (std::ssize(by_colour) < grid.num_colours()) by_colour.resize(static_cast<size_t>(grid.num_colours()));
    for (int64_t i = 0; i < grid.q_chunks; ++i) {
      for (int64_t j = grid.first_k_chunk(i); j < grid.end_k_chunk(i); ++j) {
        by_colour[static_cast<size_t>(grid.colour(i, j))].push_back(
            {static_cast<int32_t>(d), static_cast<int32_t>(i), static_cast<int32_t>(j)});
      }
    }
  }
  for (const auto& squares : by_colour) {
    plan.colours.push_back(std::ssize(plan.squares));
    plan.squares.insert(plan.squares.end(), squares.begin(), squares.end());
  }
  plan.colours.push_back(std::ssize(plan.squares));
}

}  // namespace

template <class T>
CausalForwardPlan plan_causal_forward(const CausalForwardArgs<T>& args) {
  const CausalShape shape = shape_of(args);
  CausalForwardPlan plan;
  if constexpr (kOnReference<T>) {
    plan.num_items = num_documents(args.documents) * shape.KV;
    plan.scratch_bytes =
        reference_causal_scratch(args.documents, shape.Sk - shape.Sq, shape.D) * int64_t{sizeof(double)};
  } else {
    plan.document_groups = {0};
    for (size_t d = 0; d + 1 < args.documents.size(); ++d) {
      plan.document_groups.push_back(plan.document_groups.back() + num_panel_groups(tokens_of(args, d).queries));
    }
    plan.num_items = plan.document_groups.back() * shape.H;
    plan.scratch_bytes = CausalForwardBuffers(shape, nullptr).num_floats * int64_t{sizeof(float)};
  }
  return plan;
}

template <class T>
void run_causal_forward(const CausalForwardArgs<T>& args, const CausalForwardPlan& plan, int64_t begin, int64_t end,
                        std::span<std::byte> scratch) {
  if constexpr (kOnReference<T>)
    reference_causal_forward(args, begin, end, doubles(scratch));
  else
    selected_kernels<T>().forward(args, plan, shape_of(args), begin, end, floats(scratch));
}

template <class T>
CausalBackwardPlan plan_causal_backward(const CausalBackwardArgs<T>& args) {
  const CausalShape shape = shape_of(args);
  CausalBackwardPlan plan;
  if constexpr (kOnReference<T>) {
    plan.phases = {num_documents(args.documents) * shape.KV};
    plan.scratch_bytes =
        reference_causal_scratch(args.documents, shape.Sk - shape.Sq, shape.D) * int64_t{sizeof(double)};
  } else {
    add_squares(args, plan);
    const int64_t colours = std::ssize(plan.colours) - 1;
    const int64_t of_one_head = divide_up(std::ssize(plan.squares), std::max<int64_t>(1, colours));
    plan.heads_at_once = std::min(shape.KV, divide_up(kEnoughSquares, std::max<int64_t>(1, of_one_head)));
    const int64_t blocks = shape.B * num_token_blocks(shape);
    for (int64_t head = 0; head < shape.KV; head += plan.heads_at_once) {
      const int64_t heads = std::min(plan.heads_at_once, shape.KV - head);
      plan.phases.push_back(heads * blocks);
      for (int64_t c = 0; c < colours; ++c) {
        const auto at = static_cast<size_t>(c);
        plan.phases.push_back(heads * (plan.colours[at + 1] - plan.colours[at]));
      }
      plan.phases.push_back(heads * blocks);
    }
    const bool has_pairs = std::is_same_v<T, bfloat16>;
    plan.scratch_bytes = CausalBackwardBuffers(shape, has_pairs, nullptr).num_floats * int64_t{sizeof(float)};
    plan.workspace_bytes = CausalSums(shape, plan.heads_at_once, nullptr).num_floats * int64_t{sizeof(float)};
  }
  return plan;
}

template <class T>
void run_causal_backward(const CausalBackwardArgs<T>& args, const CausalBackwardPlan& plan, int64_t phase,
                         int64_t begin, int64_t end, std::span<std::byte> scratch, std::span<std::byte> workspace) {
  if constexpr (kOnReference<T>)
    reference_causal_backward(args, begin, end, doubles(scratch));
  else
    selected_kernels<T>().backward(args, plan, shape_of(args), phase, begin, end, floats(scratch), floats(workspace));
}

#define LONGFOLD_INSTANTIATE(T)                                                                                   \
  template CausalForwardPlan plan_causal_forward<T>(const CausalForwardArgs<T>&);                                 \
  template void run_causal_forward<T>(const CausalForwardArgs<T>&, const CausalForwardPlan&, int64_t, int64_t,    \
                                      std::span<std::byte>);                                                      \
  template CausalBackwardPlan plan_causal_backward<T>(const CausalBackwardArgs<T>&);                              \
  template void run_causal_backward<T>(const CausalBackwardArgs<T>&, const CausalBackwardPlan&, int64_t, int64_t, \
                                       int64_t, std::span<std::byte>, std::span<std::byte>);
LONGFOLD_INSTANTIATE(float)
LONGFOLD_INSTANTIATE(double)
LONGFOLD_INSTANTIATE(bfloat16)
LONGFOLD_INSTANTIATE(float16)
#undef LONGFOLD_INSTANTIATE

}  // namespace longfold::kernels
