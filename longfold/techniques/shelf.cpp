#include "longfold/techniques/shelf.h"

#include <ATen/ATen.h>

#include <future>
#include <optional>
#include <utility>

#include "longfold/memory/dry_run.h"
#include "longfold/techniques/places.h"
#include "longfold/techniques/staged_file.h"
#include "longfold/techniques/temporary_file.h"

namespace longfold::techniques {
namespace {

class OnDevice final : public Shelved {
 public:
  explicit OnDevice(at::Tensor tensor) : tensor_(std::move(tensor)) {}
  at::Tensor get() override { return tensor_; }

 private:
  at::Tensor tensor_;
};

class DeviceShelf final : public Shelf {
 public:
  explicit DeviceShelf(memory::Term term) : term_(term) {}
  std::shared_ptr<Shelved> put(const at::Tensor& tensor) override {
    at::Tensor kept = tensor.contiguous();
    memory::assign_term(kept, term_);
    return std::make_shared<OnDevice>(std::move(kept));
  }

 private:
  memory::Term term_;
};

// Shared by a shelf and what lies on it. One thread of the model uses it; only the file's calls are made by others.
struct FileState {
  FileState(const std::filesystem::path& folder, memory::Term of) : term(of) { file.emplace(folder); }
  explicit FileState(memory::Term of) : term(of) {}
  FileState(const FileState&) = delete;
  FileState& operator=(const FileState&) = delete;
  ~FileState() {
    if (written.valid()) written.wait();
  }

  void finish_writing() {
    if (written.valid()) written.get();
    in_flight.reset();
    owner = nullptr;
  }

  // Begins to write or to read, in another thread.
  enum class Way : uint8_t { kOut, kIn };
  [[nodiscard]] std::future<void> move(Way way, const at::Tensor& tensor, int64_t offset) {
    std::shared_ptr<const c10::Event> ready;  // of a GPU
    if (!tensor.is_cpu()) ready = std::make_shared<c10::Event>(staged_for(tensor.device()).queued());
    return std::async(std::launch::async, [this, way, tensor, ready, offset] {
      const auto bytes = static_cast<int64_t>(tensor.nbytes());
      if (ready != nullptr) {
        way == Way::kOut ? staged->write(tensor, *ready, offset) : staged->read(tensor, *ready, offset);
      } else {
        way == Way::kOut ? file->write(tensor.const_data_ptr(), bytes, offset)
                         : file->read(tensor.mutable_data_ptr(), bytes, offset);
      }
    });
  }
  StagedFile& staged_for(at::Device gpu) {
    if (!staged) staged.emplace(*file, gpu);
    return *staged;
  }

  std::optional<TemporaryFile> file;  // none of a dry run
  std::optional<StagedFile> staged;   // of a GPU: made with the first tensor
  memory::Term term;
  Places places;
  at::Tensor in_flight;         // what is being written
  const void* owner = nullptr;  // the one whose it is
  std::future<void> written;
};

class InFile final : public Shelved {
 public:
  InFile(std::shared_ptr<FileState> state, const at::Tensor& tensor)
      : state_(std::move(state)),
        options_(tensor.options().requires_grad(false)),
        sizes_(tensor.sizes().vec()),
        bytes_(static_cast<int64_t>(tensor.nbytes())),
        offset_(state_->places.take(bytes_)) {
    state_->finish_writing();
    const at::Tensor from = tensor.detach().contiguous();
    if (!from.is_meta()) state_->written = state_->move(FileState::Way::kOut, from, offset_);
    memory::assign_term(from, state_->term);
    state_->in_flight = from;
    state_->owner = this;
  }
  ~InFile() override {
    if (read_.valid()) read_.wait();
    state_->places.free(offset_);
  }
  InFile(const InFile&) = delete;
  InFile& operator=(const InFile&) = delete;

  void prefetch() override {
    if (to_.defined()) return;
    const at::Tensor written = state_->owner == this ? state_->in_flight : at::Tensor();
    state_->finish_writing();
    if (written.defined()) {  // it is still there
      to_ = written;
      return;
    }
    to_ = at::empty(sizes_, options_);
    if (!to_.is_meta()) read_ = state_->move(FileState::Way::kIn, to_, offset_);
  }

  at::Tensor get() override {
    prefetch();
    if (read_.valid()) read_.get();
    return std::move(to_);
  }

 private:
  std::shared_ptr<FileState> state_;
  at::TensorOptions options_;
  std::vector<int64_t> sizes_;
  int64_t bytes_, offset_;
  at::Tensor to_;
  std::future<void> read_;
};

class FileShelf final : public Shelf {
 public:
  explicit FileShelf(std::shared_ptr<FileState> state) : state_(std::move(state)) {}
  std::shared_ptr<Shelved> put(const at::Tensor& tensor) override { return std::make_shared<InFile>(state_, tensor); }
  [[nodiscard]] int64_t bytes() const override { return state_->places.end(); }

 private:
  std::shared_ptr<FileState> state_;
};

}  // namespace

std::shared_ptr<Shelf> device_shelf(memory::Term term) {
  return std::make_shared<DeviceShelf>(term);
}
std::shared_ptr<Shelf> file_shelf(const std::filesystem::path& folder, memory::Term term) {
  return std::make_shared<FileShelf>(std::make_shared<FileState>(folder, term));
}
std::shared_ptr<Shelf> dry_file_shelf(memory::Term term) {
  return std::make_shared<FileShelf>(std::make_shared<FileState>(term));
}

}  // namespace longfold::techniques
