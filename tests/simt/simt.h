// Runs CUDA kernels on the host: their own source, compiled as C++, without a GPU and without the CUDA toolkit.
//
// The target test_simt finds include/longfold/kernels/cuda/ptx.cuh before the real ptx.cuh; the kernels use nothing
// else that C++ lacks but cuda_language.h, which nvcc has built in. A test launches a kernel, or what a kernel calls
// with the address of its shared memory, SharedMemory::kBase:
//
//   simt::launch(num_blocks, num_threads, shared_bytes, mode, kernel<T, 32>, params);
//
// For a kernel that declares `extern __shared__ char shared[]` the test defines that array, of any size, in the
// kernel's namespace.
//
// Blocks run one after the other in one thread of the system, a fibre per CUDA thread (block.h). What is checked:
// - The 32 lanes of a warp come to the same warp function, all threads of the block to sync_block. A thread that ended
//   or waits elsewhere is named, and so is everybody when nobody can go on.
// - Shared memory: bounds, alignment, bytes that nobody wrote (NaN too), barriers that nobody made (shared_memory.h).
// - A copy, of 16 bytes or of a box (tensor_map.h), is seen by those alone who waited for its barrier. copies_arrive
//   publishes copies, barrier_arrive what the thread stored. Delivery says when a copy really lands: test both.
// - Races: two accesses to the same shared bytes by two threads, one of them a write, with nothing in between that
//   orders them (clocks.h). sync_warp orders the lanes of a warp; shuffles, votes and matrix functions do not, which
//   is what PTX promises. The lane that gives a row's address to load_matrices is the one that reads the row.
// - A wait that could miss its phase because the next one ends too.
// - Products of warpgroups are done when they are waited for, and read shared memory then: a kernel that takes them for
//   done earlier gets wrong numbers, NaN or a race. They see what threads stored before fence_stores_to_products alone,
//   want fence_products after each wait, and the same products in the four warps (block_products.cpp).
//
// What is not: bounds of global memory are AddressSanitizer's (allocate each tensor at its exact size). Two threads
// that write one place in global memory, or read what another writes: run more than one Order and compare bits. A
// fence that is missing between a thread's stores to shared memory and a box that is copied there later.
#pragma once

#include <cstddef>
#include <functional>

#include "tests/simt/block.h"
#include "tests/simt/mode.h"

namespace longfold::simt {

inline constexpr size_t kMostSharedBytes = 227 * 1024;  // of sm_90
inline constexpr unsigned kMostThreads = 1024;

void launch_blocks(unsigned num_blocks, unsigned num_threads, size_t shared_bytes, const Mode& mode,
                   std::function<void()> kernel);

// Throws Error, of the first thread that did something wrong.
template <class Kernel, class... Args>
void launch(unsigned num_blocks, unsigned num_threads, size_t shared_bytes, const Mode& mode, const Kernel& kernel,
            const Args&... args) {
  launch_blocks(num_blocks, num_threads, shared_bytes, mode, [&] { kernel(args...); });
}

}  // namespace longfold::simt
