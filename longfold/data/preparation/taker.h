// From whole records to the sequences of the data sets: what of a record is taken, without duplicates, to which part of
// a split it goes, in windows and from both strands. In this order, so that no sequence is in two parts of a split.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "longfold/data/data_set_info.h"
#include "longfold/data/preparation/options.h"
#include "longfold/data/preparation/sequence_key.h"
#include "longfold/data/preparation/sequence_writer.h"
#include "longfold/data/preparation/splits.h"
#include "longfold/data/readers/annotated_record.h"

namespace longfold::data {

class Taker {
 public:
  // One writer for each of splits.parts(), or one for all.
  Taker(const PrepareOptions& options, const Splits& splits, int64_t letters_per_token,
        std::span<const std::unique_ptr<SequenceWriter>> writers);

  void take(const AnnotatedRecord& record);
  [[nodiscard]] const Taking& taking() const { return taking_; }  // but for the part
  [[nodiscard]] const std::vector<LeftOut>& left_out() const { return left_out_; }

 private:
  struct Unit {
    SequenceInfo info;
    std::string_view bases;
    int64_t begin = 0, end = 0;  // in the record
    int64_t record_length = 0;
  };

  void take_coding_sequences(const AnnotatedRecord& record);
  void take_by_position(const AnnotatedRecord& record);
  void assign(const Unit& unit);
  void write(SequenceWriter& writer, const SequenceInfo& info, std::string_view bases);
  [[nodiscard]] bool is_duplicate(const SequenceKey& key);

  const PrepareOptions& options_;
  const Splits& splits_;
  int64_t letters_per_token_;
  std::span<const std::unique_ptr<SequenceWriter>> writers_;
  std::unordered_set<SequenceKey, SequenceKey::Hash> seen_;
  Taking taking_;
  std::vector<LeftOut> left_out_;
};

}  // namespace longfold::data
