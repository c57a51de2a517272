#include "longfold/kernels/cuda/mma/problem.h"

#include <algorithm>
#include <limits>
#include <type_traits>

#include "longfold/kernels/cuda/mma/pair_groups.h"
#include "longfold/kernels/evoformer/tile_size.h"

namespace longfold::kernels::cuda::mma {
namespace {

constexpr int64_t kUnit = 16;  // bytes that are copied at a time
constexpr int64_t kLongest = std::numeric_limits<int32_t>::max() / 2;
constexpr double kSmallestScale = 0x1p-20, kLargestScale = 0x1p20;

bool is_aligned(const void* data) {
  return reinterpret_cast<uintptr_t>(data) % kUnit == 0;
}

template <class T>
constexpr DType kDType = std::is_same_v<T, bfloat16> ? DType::kBFloat16 : DType::kFloat16;

BiasForm form_of(const Bias& pair, DType of_queries) {
  if (pair.data == nullptr) return BiasForm::kNone;
  return pair.dtype == of_queries ? BiasForm::k16 : BiasForm::k32;
}

bool lies_in_units(const Bias& pair, BiasForm form, const Shape& shape) {
  const int64_t size = size_of(pair.dtype);
  bool in_units = is_aligned(pair.data) && pair.strides[4] == 1 && shape.Lk * size % kUnit == 0;
  for (const size_t dim : {0, 1, 2, 3}) in_units &= pair.strides[dim] * size % kUnit == 0;
  return in_units && (form == BiasForm::k16 || pair.dtype == DType::kFloat32);
}

}  // namespace

int64_t size_of(DType dtype) {
  return dtype == DType::kFloat64 ? 8 : dtype == DType::kFloat32 ? 4 : dtype == DType::kBool ? 1 : 2;
}

template <class T>
Rows rows_of_view(const TensorView<T, 5>& view) {
  Rows rows{.data = const_cast<std::remove_const_t<T>*>(view.data), .strides = {}, .in_units = is_aligned(view.data)};
  for (size_t dim = 0; dim < 5; ++dim) rows.strides[dim] = view.sizes[dim] == 1 ? 0 : view.strides[dim];
  for (const size_t dim : {0, 1, 2, 3}) rows.in_units &= rows.strides[dim] * int64_t{sizeof(T)} % kUnit == 0;
  rows.in_units &= rows.strides[4] == 1;
  return rows;
}

template <class T, class Args>
std::optional<Call> call_of(const Args& args) {
  const auto& q = args.q.sizes;
  const Shape shape{.B = q[0], .N = q[1], .Lq = q[2], .Lk = args.k.sizes[2], .H = q[3], .D = q[4]};
  if (std::max({shape.B, shape.N, shape.Lq, shape.Lk, shape.H}) > kLongest) return {};
  if (!(args.scale >= kSmallestScale && args.scale <= kLargestScale)) return {};
  Call call{};
  Problem& p = call.problem;
  for (const BiasView& bias : args.biases) {
    const BiasKind kind = kind_of(bias, shape);
    Bias& place = kind == BiasKind::kMask || kind == BiasKind::kHidden ? p.mask : p.pair;
    if (place.data != nullptr) return {};
    place = {.data = bias.data, .dtype = bias.dtype, .strides = {}};
    std::copy(bias.strides.begin(), bias.strides.end(), place.strides);
  }
  call.form = form_of(p.pair, kDType<T>);
  call.one_row = shape.N == 1 || (p.pair.data != nullptr && p.pair.strides[1] != 0);
  p.q = rows_of_view(args.q), p.k = rows_of_view(args.k), p.v = rows_of_view(args.v);
  p.B = static_cast<int>(shape.B), p.N = static_cast<int>(shape.N), p.H = static_cast<int>(shape.H);
  p.Lq = static_cast<int>(shape.Lq), p.Lk = static_cast<int>(shape.Lk);
  p.scale = static_cast<float>(args.scale);
  p.mean_if_masked = args.fully_masked == FullyMasked::kMean;
  if (p.pair.data != nullptr && !lies_in_units(p.pair, call.form, shape)) {
    call.pair_copy = pair_copy(p.pair, call.form, p);
    p.pair = call.pair_copy.to;
  }
  return call;
}

PairCopy pair_copy(const Bias& pair, BiasForm form, const Problem& p) {
  const int64_t size = form == BiasForm::k16 ? 2 : 4, pitch = kernels::round_up(p.Lk, kUnit / size);
  const auto differing = [&](int count, size_t dim) { return pair.strides[dim] == 0 ? 1 : count; };
  PairCopy copy{.from = pair,
                .to = {},
                .B = differing(p.B, 0),
                .N = differing(p.N, 1),
                .H = differing(p.H, 2),
                .Lq = p.Lq,
                .Lk = p.Lk};
  const int64_t of_head = p.Lq * pitch, of_n = copy.H * of_head, of_b = copy.N * of_n;
  copy.to = {.data = nullptr,
             .dtype = form == BiasForm::k16 ? pair.dtype : DType::kFloat32,
             .strides = {copy.B == 1 ? 0 : of_b, copy.N == 1 ? 0 : of_n, copy.H == 1 ? 0 : of_head, pitch, 1}};
  return copy;
}

int64_t num_bytes(const PairCopy& copy) {
  if (copy.from.data == nullptr) return 0;
  return int64_t{copy.B} * copy.N * copy.H * copy.Lq * copy.to.strides[3] * size_of(copy.to.dtype);
}

int64_t rows_at_once(const PairCopy& copy, int64_t N) {
  constexpr int64_t kMostBytes = int64_t{64} << 20;
  if (copy.from.data == nullptr || copy.N == 1) return N;
  return std::clamp(kMostBytes / (num_bytes(copy) / copy.N), int64_t{1}, N);
}

void set_pair_copy(Call& call, void* data) {
  if (call.pair_copy.from.data != nullptr) call.pair_copy.to.data = call.problem.pair.data = data;
}

template <class T>
ForwardParams params_of(const ForwardArgs<T>& args, const Problem& problem) {
  ForwardParams params{};
  params.problem = problem;
  params.out = rows_of_view(args.out);
  params.log_sum_exp = args.log_sum_exp.data;
  params.lse_correction = args.lse_correction.data;
  std::ranges::copy(args.log_sum_exp.strides, params.lse_strides);
  return params;
}

template <class T>
BackwardParams params_of(const BackwardArgs<T>& args, const Problem& problem) {
  BackwardParams params{};
  params.problem = problem;
  params.out = rows_of_view(args.out);
  params.grad_out = rows_of_view(args.grad_out);
  params.grad_q = rows_of_view(args.grad_q);
  params.grad_k = rows_of_view(args.grad_k);
  params.grad_v = rows_of_view(args.grad_v);
  params.log_sum_exp = args.log_sum_exp.data;
  params.lse_correction = args.lse_correction.data;
  params.grad_log_sum_exp = args.grad_log_sum_exp.data;
  params.grad_mask = args.grad_mask.data;
  std::ranges::copy(args.log_sum_exp.strides, params.lse_strides);
  std::ranges::copy(args.lse_correction.strides, params.correction_strides);
  std::ranges::copy(args.grad_log_sum_exp.strides, params.grad_lse_strides);
  std::ranges::copy(args.grad_mask.strides, params.grad_mask_strides);
  params.statistics_pitch = divide_up(problem.Lq, kMostQueries) * kMostQueries;
  if (args.grad_pair.data != nullptr) {
    params.pair_groups = pair_groups(int64_t{problem.B} * problem.H, problem.N, problem.Lq, problem.Lk);
  }
  return params;
}

Rows columns_at(void* data, const BackwardParams& params) {
  const Problem& p = params.problem;
  const int64_t of_head = params.statistics_pitch * kColumns, of_row = p.H * of_head;
  return {.data = data, .strides = {p.N * of_row, of_row, kColumns, of_head, 1}, .in_units = true};
}

#define LONGFOLD_INSTANTIATE(T)                                            \
  template Rows rows_of_view(const TensorView<T, 5>&);                     \
  template Rows rows_of_view(const TensorView<const T, 5>&);               \
  template std::optional<Call> call_of<T>(const ForwardArgs<T>&);          \
  template std::optional<Call> call_of<T>(const BackwardArgs<T>&);         \
  template ForwardParams params_of(const ForwardArgs<T>&, const Problem&); \
  template BackwardParams params_of(const BackwardArgs<T>&, const Problem&);
LONGFOLD_INSTANTIATE(bfloat16)
LONGFOLD_INSTANTIATE(float16)
#undef LONGFOLD_INSTANTIATE

}  // namespace longfold::kernels::cuda::mma
