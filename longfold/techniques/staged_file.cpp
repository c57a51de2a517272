#include "longfold/techniques/staged_file.h"

#include <ATen/ATen.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <array>
#include <optional>

namespace longfold::techniques {
namespace {

constexpr int64_t kPiece = 32 << 20;

c10::impl::VirtualGuardImpl cuda() {
  return c10::impl::VirtualGuardImpl(at::kCUDA);
}

struct Span {
  int64_t begin, bytes;
};
Span span_of(int64_t piece, int64_t bytes) {
  return {piece * kPiece, std::min(kPiece, bytes - piece * kPiece)};
}

// A part of a tensor's bytes.
at::Tensor bytes_of(const at::Tensor& tensor, const Span& span) {
  auto* const begin = static_cast<uint8_t*>(tensor.mutable_data_ptr()) + span.begin;
  return at::from_blob(begin, {span.bytes}, at::TensorOptions().dtype(at::kByte).device(tensor.device()));
}

}  // namespace

StagedFile::Lane::Lane(at::Device gpu) : arena(2 * kPiece), stream(cuda().getNewStream(gpu)) {}

at::Tensor StagedFile::Lane::piece(int64_t index, int64_t bytes) const {
  return at::from_blob(arena.at(index % 2 * kPiece), {bytes}, at::TensorOptions().dtype(at::kByte));
}

StagedFile::StagedFile(const TemporaryFile& file, at::Device gpu) : file_(file), gpu_(gpu), out_(gpu), in_(gpu) {}

c10::Event StagedFile::queued() const {
  c10::Event event(at::kCUDA);
  event.record(cuda().getStream(gpu_));
  return event;
}

c10::Event StagedFile::cross(const Lane& lane, const at::Tensor& to, const at::Tensor& from) const {
  const c10::StreamGuard guard(lane.stream);
  to.copy_(from, /*non_blocking=*/true);
  c10::Event done(at::kCUDA);
  done.record(lane.stream);
  return done;
}

void StagedFile::write(const at::Tensor& tensor, const c10::Event& ready, int64_t offset) {
  const std::lock_guard lock(out_.mutex);
  ready.block(out_.stream);
  const auto bytes = static_cast<int64_t>(tensor.nbytes());
  const int64_t pieces = (bytes + kPiece - 1) / kPiece;
  const auto begin = [&](int64_t i) {
    const Span span = span_of(i, bytes);
    return cross(out_, out_.piece(i, span.bytes), bytes_of(tensor, span));
  };
  std::array<std::optional<c10::Event>, 2> crossed;
  for (int64_t i = 0; i < pieces; ++i) {
    if (i == 0) crossed[0] = begin(0);
    if (i + 1 < pieces) crossed[(i + 1) % 2] = begin(i + 1);
    crossed[i % 2]->synchronize();
    const Span span = span_of(i, bytes);
    file_.write(out_.piece(i, span.bytes).const_data_ptr(), span.bytes, offset + span.begin);
  }
}

void StagedFile::read(const at::Tensor& tensor, const c10::Event& ready, int64_t offset) {
  const std::lock_guard lock(in_.mutex);
  ready.block(in_.stream);
  const auto bytes = static_cast<int64_t>(tensor.nbytes());
  std::array<std::optional<c10::Event>, 2> crossed;
  for (int64_t i = 0; i * kPiece < bytes; ++i) {
    const Span span = span_of(i, bytes);
    if (crossed[i % 2]) crossed[i % 2]->synchronize();  // the piece's memory is free again
    const at::Tensor piece = in_.piece(i, span.bytes);
    file_.read(piece.mutable_data_ptr(), span.bytes, offset + span.begin);
    crossed[i % 2] = cross(in_, bytes_of(tensor, span), piece);
  }
  for (const auto& event : crossed) {
    if (event) event->synchronize();
  }
}

}  // namespace longfold::techniques
