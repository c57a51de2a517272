// Values of every dtype as fp64, in the logical order of their tensor.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "longfold/kernels/dtype.h"

namespace longfold::kernels {

using Numbers = std::vector<double>;

template <class T>
T from_double(double value) {
  if constexpr (std::is_same_v<T, bfloat16>)
    return to_bfloat16(static_cast<float>(value));
  else if constexpr (std::is_same_v<T, float16>)
    return to_float16(static_cast<float>(value));
  else if constexpr (std::is_same_v<T, uint8_t>)  // of DType::kBool
    return value != 0;
  else
    return static_cast<T>(value);
}
template <class T>
double as_double(T value) {
  if constexpr (std::is_same_v<T, bfloat16> || std::is_same_v<T, float16>)
    return to_float(value);
  else
    return static_cast<double>(value);
}

template <class T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, bfloat16>) return DType::kBFloat16;
  if constexpr (std::is_same_v<T, float16>) return DType::kFloat16;
  if constexpr (std::is_same_v<T, uint8_t>) return DType::kBool;
  return std::is_same_v<T, double> ? DType::kFloat64 : DType::kFloat32;
}

// Calls body.operator()<T>() for the element type that `dtype` names.
template <class Body>
auto with_dtype(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::kFloat64:
      return body.template operator()<double>();
    case DType::kBFloat16:
      return body.template operator()<bfloat16>();
    case DType::kFloat16:
      return body.template operator()<float16>();
    case DType::kBool:
      return body.template operator()<uint8_t>();
    default:
      return body.template operator()<float>();
  }
}

// Values are rounded first, so that every dtype, fp64 included, solves the same problem.
inline void round_to(DType dtype, Numbers& numbers) {
  with_dtype(dtype, [&]<class T>() {
    for (double& number : numbers) number = as_double(from_double<T>(number));
  });
}

inline Numbers random_numbers(DType dtype, int64_t count, double std, uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<double> normal(0.0, std);
  Numbers numbers(static_cast<size_t>(count));
  for (double& number : numbers) number = normal(generator);
  round_to(dtype, numbers);
  return numbers;
}

// Largest absolute difference; infinite if anything but an equal infinity is not finite.
inline double error(const Numbers& got, const Numbers& expected) {
  double worst = got.size() == expected.size() ? 0 : INFINITY;
  for (size_t i = 0; i < std::min(got.size(), expected.size()); ++i) {
    if (got[i] == expected[i]) continue;
    const double difference = std::abs(got[i] - expected[i]);
    worst = std::isfinite(difference) ? std::max(worst, difference) : INFINITY;
  }
  return worst;
}

inline double largest(const Numbers& numbers) {
  double worst = 0;
  for (const double number : numbers) {
    if (std::isfinite(number)) worst = std::max(worst, std::abs(number));
  }
  return worst;
}

// Zeros of different sign differ; equal NaN do not.
inline bool same_bits(const Numbers& a, const Numbers& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0);
}

}  // namespace longfold::kernels
