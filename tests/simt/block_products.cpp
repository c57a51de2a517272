// Products of warpgroups. A thread keeps those that it starts, and its warp does them when it waits: no product can be
// done later, and any that a kernel takes for done earlier gives wrong numbers.
#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>

#include "tests/simt/block.h"

namespace longfold::simt {

void Block::fence_stores_to_products() {
  const int me = fibres_.running();
  clock(me).fence(me);
  ++clock(me)[me];  // so that stores from here on are told from those before
}

void Block::fence_products() {
  thread(fibres_.running()).has_fenced_products = true;
}

void Block::start_product(const Product& product) {
  const int me = fibres_.running();
  const auto fail = [&](const std::string& why) {
    throw Error(thread_name(me) + " came to a product at " + place(product.here) + ", which expected " + why);
  };
  constexpr int kThreadsOfGroup = kLanes * kWarpsOfGroup;
  if (me / kThreadsOfGroup * kThreadsOfGroup + kThreadsOfGroup > static_cast<int>(threads_.size())) {
    fail("four warps in each warpgroup");
  }
  if (!thread(me).has_fenced_products) fail("fence_products since the last wait_for_products");
  if (swizzle_bits(product.descriptor_b) == 0) fail("b to be swizzled");
  if (product.a == nullptr && swizzle_bits(product.descriptor_a) == 0) fail("a to be swizzled");
  if (!product.adds) {
    for (int i = 0; i < product.columns / 2; ++i) product.d[i / 4][i % 4] = std::numeric_limits<float>::quiet_NaN();
  }
  thread(me).products.push_back(product);
}

void Block::commit_products() {
  Thread& me = thread(fibres_.running());
  me.groups.push_back(me.products.size());
}

void Block::wait_for_products(int pending, const Here& here) {
  const int me = fibres_.running();
  Thread& thread = this->thread(me);
  const size_t still = std::min(static_cast<size_t>(pending), thread.groups.size());
  const size_t num_done = thread.groups.size() - still;
  const size_t count = num_done == 0 ? 0 : thread.groups[num_done - 1];
  thread.loaded.resize(count);
  const int lane = me % kLanes, warp = me / kLanes;
  for (size_t i = 0; i < count; ++i) {
    Product& product = thread.products[i];
    product.waited_at = here;
    const auto load = [&](uint32_t from, uint32_t (&to)[4]) {
      alignas(16) uint32_t words[4];
      memory_.load_for_product(by(product.here), from, words);
      std::copy_n(words, 4, to);
    };
    if (product.a == nullptr) load(product.unit_of_a(warp % kWarpsOfGroup * 16, lane), thread.loaded[i].a);
    for (int unit = lane; unit < product.units_of_b(); unit += kLanes) {
      load(product.unit_of_b(unit), thread.loaded[i].b[unit / kLanes]);
    }
    if (lane == 0) check_other_warps(warp, product);
  }
  const ProductsOfLane in{thread.products.data(), thread.loaded.data(), count};
  const auto multiply = cuts_sums() ? multiply_products<Sums::kCut> : multiply_products<Sums::kExact>;
  together("wait_for_products", multiply, &in, nullptr, here);
  thread.products.erase(thread.products.begin(), thread.products.begin() + static_cast<std::ptrdiff_t>(count));
  thread.groups.erase(thread.groups.begin(), thread.groups.begin() + static_cast<std::ptrdiff_t>(num_done));
  for (size_t& end : thread.groups) end -= count;
  thread.has_fenced_products = false;
}

// The four warps of a group come to the same products of the same memory. That a template's code is another one for
// each of its arguments is seen by where it waits.
void Block::check_other_warps(int warp, const Product& product) {
  Warpgroup& group = warpgroups_[static_cast<size_t>(warp / kWarpsOfGroup)];
  size_t& done = group.num_done[static_cast<size_t>(warp % kWarpsOfGroup)];
  if (done == group.products.size()) {
    group.products.push_back(product);
  } else if (const Product& other = group.products[done]; !other.is_like(product)) {
    throw Error("warp " + std::to_string(warp) + " came to a product at " + place(product.here) +
                ", another warp of its warpgroup to one at " + place(other.here) +
                (same_place(product.here, other.here) ? " with other descriptors" : ""));
  } else if (std::strcmp(product.waited_at.function_name(), other.waited_at.function_name()) != 0) {
    throw Error("warp " + std::to_string(warp) + " waits for products in " + product.waited_at.function_name() +
                ", another warp of its warpgroup in " + other.waited_at.function_name());
  }
  ++done;
  if (std::ranges::find(group.num_done, 0u) != group.num_done.end()) return;
  group.products.pop_front();
  for (size_t& of_warp : group.num_done) --of_warp;
}

void Block::after_products(const void* d, size_t num_bytes, const Here& here) {
  const int me = fibres_.running();
  const auto* begin = static_cast<const std::byte*>(d);
  for (const Product& product : thread(me).products) {
    const auto* at = reinterpret_cast<const std::byte*>(product.d);
    if (std::less<>()(at, begin) || !std::less<>()(at, begin + num_bytes)) continue;
    throw Error(thread_name(me) + " came to after_products at " + place(here) + " before it waited for a product at " +
                place(product.here));
  }
}

bool Block::any_of_warpgroup(bool value, int barrier, const Here& here) {
  constexpr int kThreadsOfGroup = kLanes * kWarpsOfGroup;
  const int me = fibres_.running(), first = me / kThreadsOfGroup * kThreadsOfGroup;
  const auto fail = [&](const std::string& why) {
    throw Error(thread_name(me) + " came to any_of_warpgroup at " + place(here) + ", " + why);
  };
  if (barrier < 1 || barrier >= kNamedBarriers) fail("which expected a barrier of 1 to 15");
  if (first + kThreadsOfGroup > static_cast<int>(threads_.size())) fail("which expected four warps in each warpgroup");
  const Warp& warp = warp_of(me);
  if (warp.num_waiting > 0) {
    const int other = me / kLanes * kLanes + warp.first;
    fail(thread_name(other) + " waits in " + waits_for(thread(other)));
  }
  NamedBarrier& named = named_barriers_[static_cast<size_t>(barrier)];
  if (named.group >= 0 && named.group != first) {
    fail("where " + thread_name(named.group) + "'s warpgroup uses barrier " + std::to_string(barrier));
  }
  named.group = first;
  named.any |= value;
  if (++named.num_waiting < kThreadsOfGroup) {
    wait(State::kInWarpgroup, "any_of_warpgroup", here);
    return thread(me).any;
  }
  meet(first, first + kThreadsOfGroup);
  for (int i = first; i < first + kThreadsOfGroup; ++i) {
    thread(i).any = named.any;
    go_on(i);
  }
  named.num_waiting = 0;
  named.any = false;
  let_others_run();
  return thread(me).any;
}

}  // namespace longfold::simt
