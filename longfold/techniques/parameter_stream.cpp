#include "longfold/techniques/parameter_stream.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <utility>

#include "longfold/memory/dry_run.h"

namespace longfold::techniques {

using memory::Term;
using memory::TermScope;

ParameterStream::~ParameterStream() {
  for (auto& [key, one] : adopted_) {
    if (one.coming) home_->arrive(*one.coming);  // or its memory would be another's while it is written
  }
}

void ParameterStream::adopt(const at::Tensor& parameter, const at::Tensor& exact) {
  adopted_.insert_or_assign(parameter.unsafeGetTensorImpl(), Adopted{exact.detach(), {}});
  empty(parameter);
}

void ParameterStream::prefetch(const std::vector<at::Tensor>& parameters) {
  for (const at::Tensor& parameter : parameters) {
    if (Adopted* const one = find(parameter)) begin(*one);
  }
}

void ParameterStream::begin(Adopted& one) {
  if (one.coming) return;
  const at::NoGradGuard no_grad;
  const TermScope scope(Term::kParameters);
  one.coming = home_->bring(one.exact);
}

ParameterStream::Adopted* ParameterStream::find(const at::Tensor& parameter) {
  const auto found = adopted_.find(parameter.unsafeGetTensorImpl());
  return found == adopted_.end() ? nullptr : &found->second;
}

void ParameterStream::empty(const at::Tensor& parameter) const {
  parameter.set_data(at::empty({0}, parameter.options().device(device_).requires_grad(false)));
}

ParameterStream::Stay::Stay(ParameterStream* stream, std::vector<at::Tensor> parameters)
    : stream_(stream), parameters_(std::move(parameters)) {
  if (stream_ == nullptr) return;
  const at::NoGradGuard no_grad;
  const TermScope scope(Term::kParameters);
  stream_->prefetch(parameters_);
  for (const at::Tensor& parameter : parameters_) {
    Adopted* const one = stream_->find(parameter);
    if (one == nullptr) continue;
    Home::Visit visit = *std::exchange(one->coming, std::nullopt);
    stream_->home_->arrive(visit);
    parameter.set_data(visit.here.to(parameter.scalar_type()));
    stream_->home_->leave(std::move(visit));
  }
}

ParameterStream::Stay::~Stay() {
  if (stream_ == nullptr) return;
  for (const at::Tensor& parameter : parameters_) {
    if (stream_->find(parameter) != nullptr) stream_->empty(parameter);
  }
}

}  // namespace longfold::techniques
