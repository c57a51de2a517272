#include "longfold/train/share.h"

#include <ATen/ATen.h>

#include <vector>

#include "longfold/model/layers.h"
#include "longfold/parallel/sequence_layout.h"

namespace longfold::train {
namespace {

// Documents of rows [first, last) of `length` tokens, counted in rows of `padded`: padding is of a row's last one.
at::Tensor documents_of(const at::Tensor& documents, int64_t first, int64_t last, int64_t length, int64_t padded) {
  std::vector<int64_t> begins;
  const auto* at_token = documents.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < documents.numel(); ++i) {
    const int64_t token = at_token[i];
    if (token < first * length || token >= last * length) continue;
    begins.push_back((token / length - first) * padded + token % length);
  }
  begins.push_back((last - first) * padded);
  return at::tensor(begins, at::kLong);
}

data::Batch rows_of(const data::Batch& batch, int64_t first, int64_t count) {
  const auto rows = [&](const at::Tensor& x) { return x.narrow(0, first, count); };
  const int64_t S = batch.tokens.size(1);
  return {.tokens = rows(batch.tokens),
          .labels = rows(batch.labels),
          .positions = rows(batch.positions),
          .documents = documents_of(batch.documents, first, first + count, S, S),
          .weights = rows(batch.weights),
          .held_out_weights = rows(batch.held_out_weights),
          .packed = batch.packed};
}

}  // namespace

data::Batch tokens_of(const data::Batch& batch, const parallel::Mesh& mesh) {
  const int64_t B = batch.tokens.size(0), S = batch.tokens.size(1);
  const parallel::SequenceLayout layout(S, mesh.degrees().ring, mesh.degrees().ulysses);
  if (layout.is_whole()) return batch;
  const auto tokens = [&](const at::Tensor& x, const at::Scalar& padding) {
    return layout.local(x, mesh.in_sequence(), padding);
  };
  return {.tokens = tokens(batch.tokens, 0),
          .labels = tokens(batch.labels, model::kIgnoredLabel),
          .positions = tokens(batch.positions, 0),
          .documents = documents_of(batch.documents, 0, B, S, layout.padded_length()),
          .weights = tokens(batch.weights, 0),
          .held_out_weights = tokens(batch.held_out_weights, 0),
          .packed = true};  // documents are needed: a row's tokens are not all here
}

Share share_of(const data::Batch& batch, const parallel::Mesh& mesh) {
  const int64_t rows = batch.tokens.size(0), data = mesh.degrees().data;
  TORCH_CHECK(rows % data == 0, "[share] expected rows that ", data, " processes divide, got ", rows);
  const int64_t count = rows / data, first = mesh.at(parallel::Axis::kData) * count;
  return {tokens_of(data == 1 ? batch : rows_of(batch, first, count), mesh), first};
}

}  // namespace longfold::train
