// GenBank flat files, a record at a time. Of a record's features only coding sequences (CDS) are kept. Everything that
// can be checked is: the length that LOCUS tells, the number at the head of each line of the sequence, the closing //.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "longfold/data/readers/annotated_record.h"
#include "longfold/data/readers/lines.h"

namespace longfold::data {

class GenBankReader {
 public:
  explicit GenBankReader(std::unique_ptr<ByteStream> stream) : lines_(std::move(stream)) {}
  // False at the end. UserError that names the line if the record is damaged, cut, or has no sequence of nucleotides.
  [[nodiscard]] bool next(AnnotatedRecord& record);
  // What was odd and was passed over, once next() was false; else empty.
  [[nodiscard]] const std::string& warning() const { return lines_.stream().warning(); }

 private:
  struct Feature {
    std::string location;
    std::map<std::string, std::string, std::less<>> qualifiers;  // the first of each name
    int64_t line = 0;
  };

  [[nodiscard]] bool read(std::string_view& line);
  void read_locus(std::string_view line, AnnotatedRecord& record);
  void read_features(AnnotatedRecord& record);
  void read_origin(AnnotatedRecord& record);
  void read_qualifier(Feature& feature, std::string_view text);
  void add_coding(const Feature& feature, AnnotatedRecord& record) const;

  LineReader lines_;
  std::string_view line_;
  bool held_ = false;  // line_ is still to be read
  std::string locus_, accession_, version_;
  int64_t length_ = 0;  // as LOCUS tells
};

}  // namespace longfold::data
