#include "longfold/data/preparation/taker.h"

#include <algorithm>
#include <utility>

#include "longfold/data/preparation/coding.h"
#include "longfold/data/readers/nucleotides.h"

namespace longfold::data {
namespace {

// [begin, end) of the record that all parts lie in; on a circle, all of it where one goes over the origin.
std::pair<int64_t, int64_t> extent(const std::vector<Part>& parts, int64_t length) {
  int64_t begin = length, end = 0;
  for (const Part& part : parts) {
    if (part.end > length || part.end <= part.begin) return {0, length};
    begin = std::min(begin, part.begin);
    end = std::max(end, part.end);
  }
  return {begin, end};
}

}  // namespace

Taker::Taker(const PrepareOptions& options, const Splits& splits, int64_t letters_per_token,
             std::span<const std::unique_ptr<SequenceWriter>> writers)
    : options_(options), splits_(splits), letters_per_token_(letters_per_token), writers_(writers) {
  taking_.take = options.take;
  taking_.keep_partial = options.keep_partial;
  taking_.window = options.window;
  taking_.stride = options.window > 0 && options.stride == 0 ? options.window : options.stride;
  taking_.soft_mask = options.soft_mask;
  taking_.reverse_complement = options.reverse_complement;
  taking_.drop_duplicates = options.drop_duplicates || options.split.wanted();
  if (!options.split.wanted()) return;
  taking_.split_by = options.split.by;
  taking_.val = options.split.val;
  taking_.test = options.split.test;
  taking_.split_seed = options.split.seed;
}

void Taker::take(const AnnotatedRecord& record) {
  if (options_.coding()) return take_coding_sequences(record);
  if (splits_.by_position()) return take_by_position(record);
  const auto length = std::ssize(record.bases);
  assign({{.name = record.name}, record.bases, 0, length, length});
}

void Taker::take_coding_sequences(const AnnotatedRecord& record) {
  std::string bases;
  for (const CodingSequence& coding : record.coding) {
    ++taking_.coding;
    LeftOut left_out;
    if (!take_coding(coding, record, options_.keep_partial, bases, left_out)) {
      taking_.pseudo += left_out.kind == "pseudo";
      taking_.remote += left_out.kind == "remote";
      taking_.partial += left_out.kind == "partial";
      taking_.broken += left_out.kind == "broken";
      left_out_.push_back(std::move(left_out));
      continue;
    }
    const auto length = std::ssize(record.bases);
    const auto [begin, end] = extent(coding.location.parts, length);
    assign({{.name = coding.name.empty() ? record.name + ":" + coding.location.text : coding.name,
             .record = record.name,
             .location = coding.location.text,
             .locus_tag = coding.locus_tag,
             .protein_id = coding.protein_id,
             .table = coding.table},
            bases,
            begin,
            end,
            length});
  }
}

void Taker::take_by_position(const AnnotatedRecord& record) {
  if (is_duplicate(sequence_key(record.bases))) return;
  const auto length = std::ssize(record.bases);
  const std::vector<size_t> parts = splits_.parts();
  for (size_t i = 0; i < parts.size(); ++i) {
    const auto [begin, end] = splits_.range(parts[i], length);
    if (begin == end) continue;
    const std::string_view piece =
        std::string_view(record.bases).substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
    const SequenceInfo info{
        .name = record.name, .record = record.name, .location = location_text({{begin, end, false}})};
    write(*writers_[i], info, piece);
  }
}

void Taker::assign(const Unit& unit) {
  if (!taking_.drop_duplicates) return write(*writers_[0], unit.info, unit.bases);
  const SequenceKey key = sequence_key(unit.bases);
  if (is_duplicate(key)) return;
  if (!options_.split.wanted()) return write(*writers_[0], unit.info, unit.bases);
  const std::vector<size_t> parts = splits_.parts();
  const size_t wanted = splits_.by_position() ? 0 : splits_.part_of(unit.info, key);
  for (size_t i = 0; i < parts.size(); ++i) {
    const auto [begin, end] = splits_.range(parts[i], unit.record_length);
    const bool within = splits_.by_position() ? begin <= unit.begin && unit.end <= end : parts[i] == wanted;
    if (within) return write(*writers_[i], unit.info, unit.bases);
  }
  ++taking_.across;
}

void Taker::write(SequenceWriter& writer, const SequenceInfo& info, std::string_view bases) {
  const auto emit = [&](SequenceInfo piece, std::string_view letters) {
    writer.write(piece, letters);
    if (!options_.reverse_complement) return;
    piece.reverse = true;
    writer.write(piece, reverse_complement(letters));
  };
  const auto letters = static_cast<size_t>(letters_per_token_);
  const size_t window = static_cast<size_t>(taking_.window) * letters;
  const size_t stride = static_cast<size_t>(taking_.stride) * letters;
  const size_t usable = bases.size() - bases.size() % letters;
  if (window == 0 || usable <= window) return emit(info, bases);
  for (size_t begin = 0;; begin += stride) {
    const bool last = begin + window >= usable;  // takes the bases behind the last token along, for the counts
    SequenceInfo piece = info;
    piece.window = static_cast<int64_t>(begin);
    emit(std::move(piece), bases.substr(begin, last ? std::string_view::npos : window));
    if (last || begin + stride >= usable) return;
  }
}

bool Taker::is_duplicate(const SequenceKey& key) {
  if (!taking_.drop_duplicates || seen_.insert(key).second) return false;
  ++taking_.duplicates;
  return true;
}

}  // namespace longfold::data
