// The shared memory of a block, with a shadow that knows of each 4-byte word who wrote and who read it last.
//
// Bytes that nobody wrote are NaN in every floating type, and loading them as numbers is an error. So is every access
// outside, across the alignment, to a barrier, to the destination of a copy under way, or not ordered with another
// thread's access to the same bytes, of which one is a write.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/simt/clocks.h"
#include "tests/simt/error.h"

namespace longfold::simt {

class SharedMemory {
 public:
  // Not 0, so that a forgotten base address is out of bounds.
  static constexpr uint32_t kBase = 1024;

  explicit SharedMemory(size_t num_bytes);
  void reset();

  // Who accesses: a thread, what it knows, and where in the source it is.
  struct By {
    int thread;
    const Clock& clock;
    const Here& here;
  };

  // `bytes` is the alignment too. Matrices may have rows of padding that nobody wrote: their NaN tells enough.
  void load(const By& by, uint32_t from, void* to, uint32_t num_bytes, bool must_be_written);
  // 16 bytes for a product of warpgroups, which sees only what was stored before a fence.
  void load_for_product(const By& by, uint32_t from, void* to);
  void store(const By& by, uint32_t to, const void* from, uint32_t num_bytes);

  // A copy of 16 bytes: under way from start_copy to end_copy, and seen by who knows `time` of `barrier`.
  void start_copy(const By& by, uint32_t to);
  void deliver_copy(uint32_t to, const void* from);
  void end_copy(uint32_t to, int barrier_entity, int32_t time);

  void make_barrier(const By& by, uint32_t address, int index);
  // The index that make_barrier was given.
  [[nodiscard]] int barrier_at(const By& by, uint32_t address) const;

 private:
  static constexpr int32_t kNobody = -1, kCopyUnderWay = -2, kBarrier = -3;  // instead of an entity
  struct Write {
    int32_t entity = kNobody;
    int32_t time = 0;  // kCopyUnderWay: the thread; kBarrier: the index
    Here here;
  };
  struct Read {
    uint16_t thread;
    uint16_t halves;  // bit 0: the lower half of the word, bit 1: the upper
    int32_t time;
    Here here;
  };
  struct Word {
    Write writes[2];          // of each half
    std::vector<Read> reads;  // since the last write
  };

  size_t checked_offset(const By& by, const char* what, uint32_t address, uint32_t num_bytes) const;
  void check_write(const By& by, const char* what, const Word& word, unsigned halves, uint32_t address) const;
  void note_write(Word& word, unsigned halves, const Write& write);
  static void note_read(const By& by, Word& word, uint16_t halves);
  [[noreturn]] static void fail(const By& by, const char* what, uint32_t address, const std::string& why);
  [[noreturn]] void fail_after(const By& by, const char* what, uint32_t address, const Write& write) const;

  struct Free {
    void operator()(std::byte* pointer) const;
  };
  size_t num_bytes_;
  std::unique_ptr<std::byte[], Free> bytes_;  // of the exact size, for AddressSanitizer
  std::vector<Word> words_;
};

}  // namespace longfold::simt
