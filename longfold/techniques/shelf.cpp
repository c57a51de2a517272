#include "longfold/techniques/shelf.h"

#include <ATen/ATen.h>

#include <future>
#include <optional>
#include <utility>

#include "longfold/memory/dry_run.h"
#include "longfold/techniques/places.h"
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

  std::optional<TemporaryFile> file;  // none of a dry run
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
    at::Tensor from = tensor.detach().contiguous();
    if (!from.is_meta()) {
      if (!from.is_cpu()) from = from.cpu();
      state_->written = std::async(std::launch::async, [file = &*state_->file, from, bytes = bytes_, offset = offset_] {
        file->write(from.const_data_ptr(), bytes, offset);
      });
    }
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
    const bool has_data = options_.device().type() != at::kMeta;
    to_ = at::empty(sizes_, has_data ? options_.device(at::kCPU) : options_);
    if (!has_data) return;
    read_ = std::async(std::launch::async, [file = &*state_->file, to = to_, bytes = bytes_, offset = offset_] {
      file->read(to.mutable_data_ptr(), bytes, offset);
    });
  }

  at::Tensor get() override {
    prefetch();
    if (read_.valid()) read_.get();
    at::Tensor back = std::move(to_);
    return back.to(options_.device());
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
