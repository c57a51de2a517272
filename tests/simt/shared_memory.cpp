#include "tests/simt/shared_memory.h"

#include <bit>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

namespace longfold::simt {
namespace {

constexpr int kPoison = 0xff;  // NaN in fp16, bf16 and fp32
constexpr uint32_t kCopyBytes = 16, kBarrierBytes = 8;
constexpr size_t kReadsBeforeTidying = 256;

std::string hexadecimal(uint32_t number) {
  char text[16];
  std::snprintf(text, sizeof text, "0x%x", number);
  return text;
}

// f(word, halves of it) for the words that [offset, offset + num_bytes) lies in.
template <class Words, class F>
void for_words(Words& words, size_t offset, uint32_t num_bytes, F f) {
  if (num_bytes < 4) {
    f(words[offset / 4], offset % 4 == 0 ? 1u : 2u);
  } else {
    for (size_t word = offset / 4; word < (offset + num_bytes) / 4; ++word) f(words[word], 3u);
  }
}

}  // namespace

void SharedMemory::Free::operator()(std::byte* pointer) const {
  std::free(pointer);
}

SharedMemory::SharedMemory(size_t num_bytes) : num_bytes_(num_bytes), words_((num_bytes + 3) / 4) {
  void* pointer = nullptr;
  if (posix_memalign(&pointer, 128, num_bytes) != 0) throw std::bad_alloc();
  bytes_.reset(static_cast<std::byte*>(pointer));
  reset();
}

void SharedMemory::reset() {
  if (num_bytes_ > 0) std::memset(bytes_.get(), kPoison, num_bytes_);
  for (Word& word : words_) {
    word.writes[0] = word.writes[1] = {};
    word.reads.clear();
  }
}

void SharedMemory::fail(const By& by, const char* what, uint32_t address, const std::string& why) {
  throw Error(thread_name(by.thread) + " " + what + " shared byte " + hexadecimal(address - kBase) + " at " +
              place(by.here) + ", " + why);
}

void SharedMemory::fail_after(const By& by, const char* what, uint32_t address, const Write& write) const {
  if (write.entity == kNobody) fail(by, what, address, "which nobody wrote");
  if (write.entity == kBarrier) fail(by, what, address, "which is a barrier since " + place(write.here));
  if (write.entity == kCopyUnderWay) {
    fail(by, what, address,
         "where a copy of " + thread_name(write.time) + " from " + place(write.here) +
             " is under way: wait for the barrier that its copies_arrive names");
  }
  if (write.entity >= by.clock.num_threads()) {
    fail(by, what, address,
         "copied there from " + place(write.here) + ", without a wait for the barrier of the copy in between");
  }
  fail(by, what, address,
       "written by " + thread_name(write.entity) + " at " + place(write.here) + " with no barrier in between");
}

size_t SharedMemory::checked_offset(const By& by, const char* what, uint32_t address, uint32_t num_bytes) const {
  // Below kBase the difference is a large number.
  if (static_cast<size_t>(address - kBase) + num_bytes > num_bytes_) {
    throw Error(thread_name(by.thread) + " " + what + " " + std::to_string(num_bytes) + " shared bytes from " +
                std::to_string(static_cast<int64_t>(address) - kBase) + " on at " + place(by.here) +
                ", the block has " + std::to_string(num_bytes_));
  }
  if (address % num_bytes != 0) fail(by, what, address, "which is not a multiple of " + std::to_string(num_bytes));
  return address - kBase;
}

void SharedMemory::load(const By& by, uint32_t from, void* to, uint32_t num_bytes, bool must_be_written) {
  constexpr const char* kWhat = "loads";
  const size_t offset = checked_offset(by, kWhat, from, num_bytes);
  for_words(words_, offset, num_bytes, [&](Word& word, unsigned halves) {
    for (unsigned half = 0; half < 2; ++half) {
      const Write& write = word.writes[half];
      if ((halves >> half & 1u) == 0 || (write.entity == kNobody && !must_be_written)) continue;
      if (write.entity < 0 || by.clock[write.entity] < write.time) {
        fail_after(by, kWhat, kBase + static_cast<uint32_t>(&word - words_.data()) * 4 + half * 2, write);
      }
    }
    note_read(by, word, static_cast<uint16_t>(halves));
  });
  std::memcpy(to, bytes_.get() + offset, num_bytes);
}

void SharedMemory::load_for_product(const By& by, uint32_t from, void* to) {
  load(by, from, to, kCopyBytes, true);
  for_words(words_, from - kBase, kCopyBytes, [&](const Word& word, unsigned) {
    for (const Write& write : word.writes) {
      if (write.entity >= by.clock.num_threads() || by.clock.fenced(write.entity) >= write.time) continue;
      fail(by, "loads by a product", kBase + static_cast<uint32_t>(&word - words_.data()) * 4,
           "written by " + thread_name(write.entity) + " at " + place(write.here) +
               " with no fence_stores_to_products after it");
    }
  });
}

void SharedMemory::note_read(const By& by, Word& word, uint16_t halves) {
  const int32_t now = by.clock[by.thread];
  const Read read{static_cast<uint16_t>(by.thread), halves, now, by.here};
  if (!word.reads.empty() && word.reads.back().thread == read.thread && word.reads.back().halves == halves) {
    word.reads.back() = read;
    return;
  }
  word.reads.push_back(read);
  if (word.reads.size() < kReadsBeforeTidying || !std::has_single_bit(word.reads.size())) return;
  // Of a thread's reads of the same halves the last tells all.
  std::stable_sort(word.reads.begin(), word.reads.end(), [](const Read& a, const Read& b) {
    return a.thread != b.thread ? a.thread < b.thread : a.halves != b.halves ? a.halves < b.halves : a.time > b.time;
  });
  const auto end = std::unique(word.reads.begin(), word.reads.end(), [](const Read& a, const Read& b) {
    return a.thread == b.thread && a.halves == b.halves;
  });
  word.reads.erase(end, word.reads.end());
}

void SharedMemory::check_write(const By& by, const char* what, const Word& word, unsigned halves,
                               uint32_t address) const {
  for (unsigned half = 0; half < 2; ++half) {
    const Write& write = word.writes[half];
    if ((halves >> half & 1u) == 0 || write.entity == kNobody) continue;
    if (write.entity < 0 || by.clock[write.entity] < write.time) fail_after(by, what, address, write);
  }
  for (const Read& read : word.reads) {
    if ((read.halves & halves) == 0 || by.clock[read.thread] >= read.time) continue;
    fail(by, what, address,
         "read by " + thread_name(read.thread) + " at " + place(read.here) + " with no barrier in between");
  }
}

void SharedMemory::note_write(Word& word, unsigned halves, const Write& write) {
  for (unsigned half = 0; half < 2; ++half) {
    if ((halves >> half & 1u) != 0) word.writes[half] = write;
  }
  if (halves == 3) {
    word.reads.clear();
  } else {
    std::erase_if(word.reads, [&](Read& read) { return (read.halves &= static_cast<uint16_t>(~halves)) == 0; });
  }
}

void SharedMemory::store(const By& by, uint32_t to, const void* from, uint32_t num_bytes) {
  constexpr const char* kWhat = "stores to";
  const size_t offset = checked_offset(by, kWhat, to, num_bytes);
  for_words(words_, offset, num_bytes, [&](Word& word, unsigned halves) {
    check_write(by, kWhat, word, halves, to);
    note_write(word, halves, {by.thread, by.clock[by.thread], by.here});
  });
  std::memcpy(bytes_.get() + offset, from, num_bytes);
}

void SharedMemory::start_copy(const By& by, uint32_t to) {
  constexpr const char* kWhat = "copies to";
  const size_t offset = checked_offset(by, kWhat, to, kCopyBytes);
  for_words(words_, offset, kCopyBytes, [&](Word& word, unsigned halves) {
    check_write(by, kWhat, word, halves, to);
    note_write(word, halves, {kCopyUnderWay, by.thread, by.here});
  });
  std::memset(bytes_.get() + offset, kPoison, kCopyBytes);
}

void SharedMemory::deliver_copy(uint32_t to, const void* from) {
  std::memcpy(bytes_.get() + (to - kBase), from, kCopyBytes);
}

void SharedMemory::end_copy(uint32_t to, int barrier_entity, int32_t time) {
  for_words(words_, to - kBase, kCopyBytes, [&](Word& word, unsigned halves) {
    note_write(word, halves, {barrier_entity, time, word.writes[0].here});
  });
}

void SharedMemory::make_barrier(const By& by, uint32_t address, int index) {
  constexpr const char* kWhat = "makes a barrier of";
  const size_t offset = checked_offset(by, kWhat, address, kBarrierBytes);
  for_words(words_, offset, kBarrierBytes, [&](Word& word, unsigned halves) {
    check_write(by, kWhat, word, halves, address);
    note_write(word, halves, {kBarrier, index, by.here});
  });
}

int SharedMemory::barrier_at(const By& by, uint32_t address) const {
  constexpr const char* kWhat = "takes for a barrier";
  const Write& write = words_[checked_offset(by, kWhat, address, kBarrierBytes) / 4].writes[0];
  if (write.entity != kBarrier) fail(by, kWhat, address, "which barrier_init was not called for");
  return write.time;
}

}  // namespace longfold::simt
