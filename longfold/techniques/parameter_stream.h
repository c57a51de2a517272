// Parameters of blocks that are on the device only while their block runs: their exact (fp32) selves live at home
// (techniques/home.h), come while the block before runs, and are rounded to what the model computes with.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "longfold/techniques/home.h"

namespace longfold::techniques {

class ParameterStream {
 public:
  // `device`: where parameters are while their block runs; meta in a dry run.
  ParameterStream(std::shared_ptr<Home> home, at::Device device) : home_(std::move(home)), device_(device) {}
  ~ParameterStream();
  ParameterStream(const ParameterStream&) = delete;
  ParameterStream& operator=(const ParameterStream&) = delete;

  // From now on `parameter` has no data but within a Stay: then that of `exact`, at home, rounded to its dtype.
  void adopt(const at::Tensor& parameter, const at::Tensor& exact);

  // Begins to bring them. Tensors that were not adopted are passed over, here and in a Stay.
  void prefetch(const std::vector<at::Tensor>& parameters);

  // While it lives they have data. What autograd keeps of them for backward must be gone before it is.
  class Stay {
   public:
    Stay(ParameterStream* stream, std::vector<at::Tensor> parameters);  // null: nothing is streamed
    ~Stay();
    Stay(const Stay&) = delete;
    Stay& operator=(const Stay&) = delete;

   private:
    ParameterStream* stream_;
    std::vector<at::Tensor> parameters_;
  };

 private:
  struct Adopted {
    at::Tensor exact;
    std::optional<Home::Visit> coming;
  };
  void begin(Adopted& one);
  Adopted* find(const at::Tensor& parameter);
  void empty(const at::Tensor& parameter) const;

  std::shared_ptr<Home> home_;
  at::Device device_;
  std::unordered_map<const void*, Adopted> adopted_;  // by the parameter's c10::TensorImpl
};

}  // namespace longfold::techniques
