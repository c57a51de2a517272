#include "tests/data/fuzz.h"

#include <memory>
#include <string_view>
#include <vector>

#include "longfold/base/error.h"
#include "longfold/data/preparation/coding.h"
#include "longfold/data/readers/fasta.h"
#include "longfold/data/readers/genbank.h"
#include "longfold/data/readers/gff.h"
#include "longfold/data/token_index.h"
#include "tests/fuzz/input_file.h"

namespace longfold::data {
namespace {

// What users are told of is fine; anything else (a crash, std::bad_alloc, an exception of the library) is not.
template <class Read>
void with_file(const uint8_t* bytes, size_t size, Read read) {
  const InputFile input(bytes, size);
  try {
    read(std::make_unique<ByteStream>(input.path()));
  } catch (const base::UserError&) {
    return;
  }
}

void take_all(const AnnotatedRecord& record) {
  std::string bases;
  LeftOut left_out;
  for (const CodingSequence& coding : record.coding) (void)take_coding(coding, record, true, bases, left_out);
}

}  // namespace

void fuzz_fasta(const uint8_t* bytes, size_t size) {
  with_file(bytes, size, [](std::unique_ptr<ByteStream> stream) {
    FastaReader reader(std::move(stream));
    FastaEvent event;
    while (reader.next(event)) continue;
  });
}

void fuzz_genbank(const uint8_t* bytes, size_t size) {
  with_file(bytes, size, [](std::unique_ptr<ByteStream> stream) {
    GenBankReader reader(std::move(stream));
    AnnotatedRecord record;
    while (reader.next(record)) take_all(record);
  });
}

void fuzz_gff(const uint8_t* bytes, size_t size) {
  with_file(bytes, size, [](std::unique_ptr<ByteStream> stream) {
    Gff gff = read_gff(std::move(stream));
    for (AnnotatedRecord& record : gff.annotations) {
      if (!gff.sequences.empty()) record.bases = gff.sequences[0].bases;
      take_all(record);
    }
  });
}

void fuzz_index(const uint8_t* bytes, size_t size) {
  try {
    const TokenIndex index({reinterpret_cast<const char*>(bytes), size}, "input");
    index.check_bin_size(4 * size, "input");
    const std::vector<char> bin(4 * size);
    for (int64_t i = 0; i < index.num_sequences(); ++i) {
      std::vector<int64_t> ids(static_cast<size_t>(index.length(i)));
      index.read(bin, i, 0, ids);
    }
  } catch (const base::UserError&) {
    return;
  }
}

}  // namespace longfold::data
