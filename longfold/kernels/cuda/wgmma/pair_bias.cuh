// The pair bias of 16 queries, those of a warp, by 64 keys: read while products run, added when they are done.
//
// s, products, become the exponents of weights: s to_log2 + bias log2 e + shift, in which a bias of any size and the
// shift of its row, minus log_sum_exp or what stands for it, are rounded once, when they have cancelled each other.
#pragma once

#include "longfold/kernels/cuda/mma/logits.cuh"

namespace longfold::kernels::cuda::wgmma {

template <mma::BiasForm Form>
__device__ __forceinline__ float exponent(float product, float to_log2, float bias, float shift) {
  return fmaf(product, to_log2, Form == mma::BiasForm::kNone ? shift : fmaf(bias, mma::kLog2E, shift));
}

template <class T, mma::BiasForm Form, class Tile>
class PairBias {
 public:
  PairBias() = default;
  // `rows`: where the first query's biases lie; from the `first`'th key on.
  __device__ __forceinline__ PairBias(uint32_t rows, int lane, int first = 0)
      : rows_(rows), lane_(lane), first_(first) {
    if constexpr (Form == mma::BiasForm::k16) {
      // Units that are two apart: swapped, their addresses differ in two bits.
      static_assert(Tile::kChunk == 128);
      const uint32_t units = Tile::unit(rows, lane % 16, first / 8 + lane / 16);
#pragma unroll
      for (int k = 0; k < 4; ++k) ptx::load_matrices(words_[k], units ^ 32 * k);
    }
  }

  __device__ __forceinline__ void to_exponents(float (&s)[8][4], float to_log2, const float (&shift)[2]) const {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      float two[2][4] = {};
      if constexpr (Form == mma::BiasForm::k16) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float2 pair = ptx::unpack<T>(words_[k][i]);
          two[i / 2][i % 2 * 2] = pair.x;
          two[i / 2][i % 2 * 2 + 1] = pair.y;
        }
      } else {
        mma::read_pair_bias<T, Form, Tile>(two, rows_, first_ + 16 * k, lane_);
      }
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        float& number = s[2 * k + i / 4][i % 4];
        number = exponent<Form>(number, to_log2, two[i / 4][i % 4], shift[i % 4 / 2]);
      }
    }
  }

 private:
  uint32_t rows_ = 0;
  int lane_ = 0, first_ = 0;
  uint32_t words_[4][4];
};

// The same in fp32, read at once and held in registers.
template <class T, class Tile>
class HeldPairBias {
 public:
  HeldPairBias() = default;
  __device__ __forceinline__ HeldPairBias(uint32_t rows, int lane, int first) {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      float two[2][4];
      mma::read_pair_bias<T, mma::BiasForm::k32, Tile>(two, rows, first + 16 * k, lane);
#pragma unroll
      for (int i = 0; i < 8; ++i) numbers_[2 * k + i / 4][i % 4] = two[i / 4][i % 4];
    }
  }

  __device__ __forceinline__ void to_exponents(float (&s)[8][4], float to_log2, const float (&shift)[2]) const {
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      float& number = s[i / 4][i % 4];
      number = exponent<mma::BiasForm::k32>(number, to_log2, numbers_[i / 4][i % 4], shift[i % 4 / 2]);
    }
  }

 private:
  float numbers_[8][4];
};

// 16 keys, those of a warp, by 64 queries of a tile whose rows are queries: transposed.
template <class T, mma::BiasForm Form, class Tile>
class PairBiasOfKeys {
 public:
  // `rows`: where the tile lies; `key`: the warp's first one in it.
  __device__ __forceinline__ PairBiasOfKeys(uint32_t rows, int key, int lane) : rows_(rows), key_(key), lane_(lane) {
    if constexpr (Form == mma::BiasForm::k16) {
      const uint32_t units = Tile::unit(rows, lane / 16 * 8 + lane % 8, key / 8 + lane / 8 % 2);
#pragma unroll
      for (int k = 0; k < 4; ++k) ptx::load_matrices_transposed(words_[k], units + 16 * k * Tile::kChunk);
    }
  }

  __device__ __forceinline__ void to_exponents(float (&s)[8][4], float to_log2, const float (&shift)[2]) const {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
#pragma unroll
      for (int i = 0; i < 8; i += 2) {
        float2 pair{0, 0};
        if constexpr (Form == mma::BiasForm::k16) {
          pair = ptx::unpack<T>(words_[k][i / 2]);
        } else if constexpr (Form == mma::BiasForm::k32) {
          const int query = 16 * k + i / 4 * 8 + lane_ % 4 * 2, column = key_ + i % 4 / 2 * 8 + lane_ / 4;
          pair.x = ptx::load_shared<float>(Tile::unit(rows_, query, column / 4) + column % 4 * 4);
          pair.y = ptx::load_shared<float>(Tile::unit(rows_, query + 1, column / 4) + column % 4 * 4);
        }
        float* const at = &s[2 * k + i / 4][i % 4];
        at[0] = exponent<Form>(at[0], to_log2, pair.x, shift[i % 4 / 2]);
        at[1] = exponent<Form>(at[1], to_log2, pair.y, shift[i % 4 / 2]);
      }
    }
  }

 private:
  uint32_t rows_;
  int key_, lane_;
  uint32_t words_[4][4];
};

}  // namespace longfold::kernels::cuda::wgmma
