#include "longfold/data/preparation/sequence_writer.h"

#include <utility>

namespace longfold::data {

void Spool::push(const std::vector<int32_t>& ids, const TokenFileWriter& writer) {
  writer.encode(ids, memory_);
  if (memory_.size() < kInMemory) return;
  if (!file_) file_ = std::make_unique<base::NamelessFile>(folder_);
  file_->write(memory_.data(), memory_.size());
  in_file_ = true;
  memory_.clear();
}

void Spool::move_to(TokenFileWriter& writer) {
  if (in_file_) {
    file_->rewind();
    std::vector<char> block(kInMemory);
    while (const size_t count = file_->read(block.data(), block.size())) writer.append_encoded({block.data(), count});
    file_->clear();
    in_file_ = false;
  }
  writer.append_encoded(memory_);
  memory_.clear();
}

SequenceWriter::SequenceWriter(std::string prefix, const Tokenizer& tokenizer, const std::vector<int64_t>& frames,
                               bool with_mask)
    : prefix_(std::move(prefix)), frames_(frames), with_mask_(with_mask), file_(prefix_, tokenizer, with_mask) {
  for (const int64_t frame : frames) {
    encoders_.emplace_back(tokenizer, frame);
    spools_.emplace_back(std::filesystem::path(prefix_).parent_path());
  }
}

void SequenceWriter::add(std::string_view bases) {
  for (size_t i = 0; i < frames_.size(); ++i) {
    ids_.clear();
    std::vector<bool> masked;
    encoders_[i].encode(bases, ids_, with_mask_ ? &masked : nullptr);
    if (with_mask_) file_.append_mask(masked);
    if (i == 0)
      file_.append(ids_);
    else
      spools_[i].push(ids_, file_);
  }
}

void SequenceWriter::end() {
  int64_t tokens_of_record = 0;
  for (size_t i = 0; i < frames_.size(); ++i) {
    const Encoder::Counts counts = encoders_[i].finish();
    if (i == 0) {
      counts_.bases += counts.bases;
      counts_.ambiguous += counts.ambiguous;
    }
    counts_.unknown += counts.unknown;
    counts_.truncated += counts.truncated;
    tokens_of_record += counts.tokens;
    spools_[i].move_to(file_);
    if (counts.tokens == 0) continue;
    info_.frame = frames_[i];
    file_.end_sequence(info_);
    ++num_sequences_;
  }
  ++counts_.records;
  counts_.tokens += tokens_of_record;
  counts_.skipped += tokens_of_record == 0;
}

void SequenceWriter::write(SequenceInfo info, std::string_view bases) {
  begin(std::move(info));
  add(bases);
  end();
}

}  // namespace longfold::data
