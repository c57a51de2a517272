// A sequence with its coding sequences (CDS), whatever format it came in.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "longfold/data/readers/location.h"

namespace longfold::data {

struct CodingSequence {
  std::string name;  // locus tag, else protein id, else gene or what the format has; may be empty
  std::string locus_tag;
  std::string protein_id;
  Location location;
  int64_t skip = 0;             // bases before the first whole codon
  int64_t table = 1;            // genetic code, NCBI's number
  bool pseudo = false;          // of a gene that makes no protein
  bool has_exceptions = false;  // single codons that are read otherwise (/transl_except)
  int64_t line = 0;
};

struct AnnotatedRecord {
  std::string name = {};  // accession with version where there is one
  std::string bases = {};
  bool circular = false;
  std::vector<CodingSequence> coding = {};
  int64_t line = 0;  // where it begins, from 1
};

}  // namespace longfold::data
