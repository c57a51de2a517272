#include "longfold/techniques/home.h"

#include <ATen/ATen.h>

#include <deque>
#include <utility>

#include "longfold/techniques/gpu_copies.h"
#include "longfold/techniques/host_arena.h"
#include "longfold/techniques/temporary_file.h"

namespace longfold::techniques {
namespace {

// Tensors that were visiting and are on their way home: memory is free for kernels that come after the copy.
constexpr size_t kMostInFlight = 6;

class OnDevice final : public Home {
 public:
  explicit OnDevice(at::Device device) : device_(device) {}

  at::Tensor make_like(const at::Tensor& tensor) override { return at::zeros_like(tensor, device_); }
  Visit bring(const at::Tensor& home) override { return {home, home, {}}; }
  void arrive(Visit&) override {}
  void send(Visit) override {}

 private:
  at::Device device_;
};

class OnHost final : public Home {
 public:
  explicit OnHost(at::Device device) : device_(device) {}
  OnHost(const OnHost&) = delete;
  OnHost& operator=(const OnHost&) = delete;
  ~OnHost() override { settle(); }

  at::Tensor make_like(const at::Tensor& tensor) override {
    const auto bytes = static_cast<int64_t>(tensor.nbytes());
    bytes_ += bytes;
    auto arena = std::make_shared<HostArena>(bytes);
    void* const begin = arena->at(0);
    return at::from_blob(begin, tensor.sizes(), [arena](void*) {}, tensor.options().device(at::kCPU));
  }
  Visit bring(const at::Tensor& home) override {
    Visit visit{home, at::empty(home.sizes(), home.options().device(device_)), {}};
    visit.arrived = copies().bring(visit.here, home);
    return visit;
  }
  void arrive(Visit& visit) override {
    if (visit.arrived) visit.arrived->block(copies().current());
    visit.arrived.reset();
  }
  void send(Visit visit) override {
    while (in_flight_.size() >= kMostInFlight) release_oldest();
    visit.arrived = copies().send(visit.home, visit.here);
    in_flight_.push_back(std::move(visit));
  }
  void settle() override {
    while (!in_flight_.empty()) {
      in_flight_.back().arrived->synchronize();  // the copies follow each other
      in_flight_.clear();
    }
  }

 private:
  GpuCopies& copies() {
    if (!copies_) copies_.emplace(device_);
    return *copies_;
  }
  void release_oldest() {
    in_flight_.front().arrived->block(copies().current());
    in_flight_.pop_front();
  }

  at::Device device_;
  std::optional<GpuCopies> copies_;
  std::deque<Visit> in_flight_;
};

class InFile final : public Home {
 public:
  InFile(const std::filesystem::path& folder, at::Device device)
      : device_(device), file_(std::make_shared<TemporaryFile>(folder)) {}

  at::Tensor make_like(const at::Tensor& tensor) override {
    const auto bytes = static_cast<int64_t>(tensor.nbytes());
    bytes_ += bytes;
    void* const begin = file_->map_more(bytes);
    return at::from_blob(
        begin, tensor.sizes(), [file = file_, bytes](void* data) { file->unmap(data, bytes); },
        tensor.options().device(at::kCPU));
  }
  Visit bring(const at::Tensor& home) override { return {home, home.to(device_), {}}; }
  void arrive(Visit&) override {}
  void leave(Visit visit) override {
    file_->let_go(visit.home.mutable_data_ptr(), static_cast<int64_t>(visit.home.nbytes()));
  }
  void send(Visit visit) override {
    if (!visit.here.is_same(visit.home)) visit.home.copy_(visit.here);
    file_->let_go(visit.home.mutable_data_ptr(), static_cast<int64_t>(visit.home.nbytes()));
  }

 private:
  at::Device device_;
  std::shared_ptr<TemporaryFile> file_;
};

// A tensor of the meta device that nobody allocated.
at::Tensor unallocated_like(const at::Tensor& tensor) {
  auto storage = c10::Storage(c10::Storage::use_byte_size_t(), tensor.nbytes(),
                              c10::DataPtr(nullptr, c10::Device(c10::kMeta)), nullptr, /*resizable=*/false);
  at::Tensor made = at::detail::make_tensor<c10::TensorImpl>(
      std::move(storage), c10::DispatchKeySet(c10::DispatchKey::Meta), tensor.dtype());
  made.unsafeGetTensorImpl()->set_sizes_contiguous(tensor.sizes());
  return made;
}

class Dry final : public Home {
 public:
  Dry(bool moves, size_t most_in_flight) : moves_(moves), most_in_flight_(most_in_flight) {}

  at::Tensor make_like(const at::Tensor& tensor) override {
    bytes_ += static_cast<int64_t>(tensor.nbytes());
    return unallocated_like(tensor);
  }
  Visit bring(const at::Tensor& home) override { return {home, moves_ ? at::empty_like(home) : home, {}}; }
  void arrive(Visit&) override {}
  void send(Visit visit) override {
    if (!in_flight_.empty() && in_flight_.size() >= most_in_flight_) in_flight_.pop_front();
    if (most_in_flight_ > 0) in_flight_.push_back(std::move(visit));
  }
  void settle() override { in_flight_.clear(); }

 private:
  bool moves_;
  size_t most_in_flight_;
  std::deque<Visit> in_flight_;
};

}  // namespace

std::shared_ptr<Home> make_home(const std::string& place, const std::filesystem::path& folder, at::Device device) {
  if (place == "host") return std::make_shared<OnHost>(device);
  if (place == "file") return std::make_shared<InFile>(folder, device);
  return std::make_shared<OnDevice>(device);
}

std::shared_ptr<Home> make_dry_home(const std::string& place, bool on_gpu) {
  if (place == "none") return std::make_shared<OnDevice>(at::kMeta);
  return std::make_shared<Dry>(on_gpu, place == "host" ? kMostInFlight : 0);
}

}  // namespace longfold::techniques
