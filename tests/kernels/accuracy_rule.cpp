#include "tests/kernels/accuracy_rule.h"

#include <sstream>

namespace longfold::kernels {

// What a result is rounded to, times the size of the terms that are added up to make it: near-zero results of large
// terms (the gradient through a single key, say) cannot be better than that. And one rounding of each logit, by d,
// which changes a weight w by w (1 - w) d and an output by d / 2 times the largest value at most. Over the queries that
// grad_mask sums these add up as errors that know nothing of each other do.
template <class T>
double epsilon_of(const std::string& name, const Problem& p, const Solution& exact) {
  const double rounding = std::is_same_v<T, bfloat16> ? 0x1p-9 : std::is_same_v<T, float16> ? 0x1p-12 : 0x1p-22;
  const double summed = name == "grad_mask" ? std::sqrt(static_cast<double>(p.shape.Lq)) : 1;
  return rounding + 0x1p-25 * largest_logit(exact.lse) * summed;
}
template <class T>
double floor_of(const std::string& name, const Problem& p, const Solution& exact) {
  if (name == "log_sum_exp") return 0x1p-22 * (1 + largest_logit(exact.lse));
  const double epsilon = epsilon_of<T>(name, p, exact);
  const double grad_weights = largest(p.grad_out) * largest(p.v) * std::sqrt(static_cast<double>(p.shape.D));
  if (name == "out") return epsilon * largest(p.v);
  if (name == "grad_v") return epsilon * largest(exact.grad_v);
  if (name == "grad_q") return epsilon * grad_weights * std::abs(p.scale) * largest(p.k);
  if (name == "grad_k") return epsilon * grad_weights * std::abs(p.scale) * largest(p.q);
  return epsilon * grad_weights;
}

// What the floor of grad_v lacks where its terms, weights times output gradients, cancel: their size takes another
// solution, so that it is asked for only where the floor alone does not do.
template <class T>
double rest_of_floor(const std::string& name, const Problem& p, const Solution& exact) {
  if (name != "grad_v") return 0;
  Problem sizes = p;
  for (double& number : sizes.grad_out) number = std::abs(number);
  const double terms = largest(solve_with_reference<double>(sizes).grad_v);
  return epsilon_of<T>(name, p, exact) * (terms - largest(exact.grad_v));
}

// Fully masked rows hold their largest logit, -1e9 and the like: relative to that.
Numbers comparable_lse(Numbers lse, const Numbers& exact) {
  for (size_t i = 0; i < lse.size(); ++i) {
    if (exact[i] <= kFullyMaskedLogit && std::isfinite(exact[i])) lse[i] /= exact[i];
  }
  return lse;
}

template <class T>
std::vector<BrokenResult> broken_results(const Problem& problem, const Solution& got, const Solution& plain,
                                         const Solution& exact) {
  std::vector<BrokenResult> broken;
  const auto fast = got.judged(), slow = plain.judged(), truth = exact.judged();
  for (size_t i = 0; i < fast.size(); ++i) {
    const std::string& name = fast[i].first;
    const auto error_of = [&](const Numbers& numbers) {
      if (name != "log_sum_exp") return error(numbers, *truth[i].second);
      return error(comparable_lse(numbers, exact.lse), comparable_lse(exact.lse, exact.lse));
    };
    double allowed = 2 * error_of(*slow[i].second) + floor_of<T>(name, problem, exact);
    const double made = error_of(*fast[i].second);
    if (made > allowed) allowed += rest_of_floor<T>(name, problem, exact);
    if (!(made <= allowed)) broken.push_back({name, made, allowed});
  }
  return broken;
}

template <class T>
std::string broken_rule(const Problem& problem, const Solution& got, const Solution& plain, const Solution& exact) {
  if (!got.damage.empty()) return "written " + got.damage;
  std::ostringstream message;
  for (const BrokenResult& result : broken_results<T>(problem, got, plain, exact)) {
    message << result.name << ": error " << result.error << ", allowed " << result.allowed << "; ";
  }
  return message.str();
}

template double floor_of<float>(const std::string&, const Problem&, const Solution&);
template double floor_of<bfloat16>(const std::string&, const Problem&, const Solution&);
template double floor_of<float16>(const std::string&, const Problem&, const Solution&);
template std::vector<BrokenResult> broken_results<float>(const Problem&, const Solution&, const Solution&,
                                                         const Solution&);
template std::vector<BrokenResult> broken_results<bfloat16>(const Problem&, const Solution&, const Solution&,
                                                            const Solution&);
template std::vector<BrokenResult> broken_results<float16>(const Problem&, const Solution&, const Solution&,
                                                           const Solution&);
template std::string broken_rule<float>(const Problem&, const Solution&, const Solution&, const Solution&);
template std::string broken_rule<bfloat16>(const Problem&, const Solution&, const Solution&, const Solution&);
template std::string broken_rule<float16>(const Problem&, const Solution&, const Solution&, const Solution&);

}  // namespace longfold::kernels
