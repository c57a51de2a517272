// Where tensors live that only visit the device: on it after all, in the host's memory, in a file. A tensor at home is
// an ordinary one of the CPU, to be read, saved and filled like any other while it is not visiting.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

namespace longfold::techniques {

class Home {
 public:
  Home() = default;
  virtual ~Home() = default;
  Home(const Home&) = delete;
  Home& operator=(const Home&) = delete;

  // Zeros like that (its sizes and dtype), at home.
  [[nodiscard]] virtual at::Tensor make_like(const at::Tensor& tensor) = 0;

  struct Visit {
    at::Tensor home, here;  // `here` may be read and written after arrive()
    std::optional<c10::Event> arrived;
  };
  // Begins to bring it: memory of the device is taken now.
  [[nodiscard]] virtual Visit bring(const at::Tensor& home) = 0;
  virtual void arrive(Visit& visit) = 0;
  virtual void leave(Visit) {}  // it has not changed: nothing is taken back
  // Begins to take back what it has become.
  virtual void send(Visit visit) = 0;
  // Waits until all are at home.
  virtual void settle() {}

  [[nodiscard]] int64_t bytes() const { return bytes_; }  // off the device

 protected:
  int64_t bytes_ = 0;
};

// place: "none", "host" or "file" (techniques/config.h), in `folder` for files. `device` is what is visited.
[[nodiscard]] std::shared_ptr<Home> make_home(const std::string& place, const std::filesystem::path& folder,
                                              at::Device device);
// For tensors without data (meta): what is at home takes nothing of the device.
[[nodiscard]] std::shared_ptr<Home> make_dry_home(const std::string& place, bool on_gpu);

}  // namespace longfold::techniques
