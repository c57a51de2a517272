#include "longfold/data/readers/formats.h"

#include <algorithm>
#include <cctype>
#include <string>

namespace longfold::data {
namespace {

using namespace std::string_view_literals;

struct Known {
  std::string_view magic;
  Format format;
  size_t at = 0;
};

constexpr std::string_view kNoFasta = "the download has probably failed: look into it, then fetch it again";
constexpr std::string_view kUngap = "export it as FASTA, without gaps";
constexpr std::string_view kGenome = "give the FASTA file of the genome that it belongs to";
constexpr std::string_view kPattern = "where it holds more than FASTA, add a name or pattern such as '*.fna'";

constexpr Format kZip = {"a zip archive", "unzip -p %", kPattern, true};
constexpr Format kZstd = {"zstd data", "zstd -dc %", ""};
constexpr Format kTwoBit = {"a 2bit file", "twoBitToFa % stdout", "", true};
constexpr Format kUtf16 = {"text in UTF-16", "iconv -f UTF-16 -t UTF-8 %", ""};
constexpr Format kUtf32 = {"text in UTF-32", "iconv -f UTF-32 -t UTF-8 %", ""};
constexpr Format kSam = {"a SAM file", "samtools fasta %", ""};

// In the order in which they are tried.
constexpr Known kKnown[] = {
    {"ustar", {"a tar archive", "tar -xOf %", "where it holds more than FASTA, add the names of the files"}, 257},
    {"\x1f\x8b", {"gzip data", "gzip -dc %", ""}},
    {"\x1f\x9d", {"data of compress (.Z)", "gzip -dc %", ""}},
    {"\xfd\x37zXZ\0"sv, {"xz data", "xz -dc %", ""}},
    {"\x5d\0\0"sv, {"lzma data", "xz -dc %", ""}},
    {"\x28\xb5\x2f\xfd", kZstd},
    {"\x2a\x4d\x18", kZstd, 1},  // a frame to skip, as pzstd writes
    {"BZh", {"bzip2 data", "bzip2 -dc %", ""}},
    {"\x04\x22\x4d\x18", {"lz4 data", "lz4 -dc %", ""}},
    {"LZIP", {"lzip data", "lzip -dc %", ""}},
    {"PK\x03\x04", kZip},
    {"PK\x05\x06", kZip},
    {"7z\xbc\xaf\x27\x1c", {"a 7z archive", "7z x -so %", kPattern, true}},
    {"Rar!", {"a rar archive", "unrar p -inul %", kPattern, true}},
    {"BAM\1", {"a BAM file", "samtools fasta %", ""}},
    {"CRAM", {"a CRAM file", "samtools fasta %", ""}},
    {"@HD\t", kSam},
    {"@SQ\t", kSam},
    {"BCF\2", {"a file of variants (BCF)", "", kGenome}},
    {"##fileformat=VCF", {"a file of variants (VCF)", "", kGenome}},
    {"@", {"FASTQ", "seqtk seq -A %", ""}},
    {"\x43\x27\x41\x1a", kTwoBit},
    {"\x1a\x41\x27\x43", kTwoBit},
    {"LOCUS ", {"a GenBank file", "", "longfold prepare reads it"}},
    {"ID   ", {"an EMBL file", "any2fasta %", ""}},
    {"##gff", {"a GFF file", "", "longfold prepare reads it, with the FASTA file of its genome"}},
    {"# STOCKHOLM", {"a Stockholm alignment", "", kUngap}},
    {"CLUSTAL", {"a Clustal alignment", "", kUngap}},
    {"#NEXUS", {"a NEXUS file", "", kUngap}},
    {"<?xml", {"XML", "", kNoFasta}},
    {"{\\rtf", {"formatted text (RTF)", "", "save it as plain text"}},
    {"{", {"JSON", "", kNoFasta}},
    {"%PDF", {"a PDF document", "", "save it as plain text"}},
    {"\xd0\xcf\x11\xe0", {"an Office document", "", "save it as plain text"}},
    {"\x89HDF", {"an HDF5 file", "", "export it as FASTA"}},
    {"MMIDIDX", {"the index of a data set", "", "it is prepared already, longfold inspect PREFIX shows it"}},
    {"version https://git-lfs", {"a Git LFS pointer instead of the file", "", "type git lfs pull"}},
    {"\xff\xfe\0\0"sv, kUtf32},
    {"\0\0\xfe\xff"sv, kUtf32},
    {"\xff\xfe", kUtf16},
    {"\xfe\xff", kUtf16},
    {">\0"sv, {"text in UTF-16", "iconv -f UTF-16LE -t UTF-8 %", ""}},
    {"\0>"sv, {"text in UTF-16", "iconv -f UTF-16BE -t UTF-8 %", ""}},
};

bool is_html(std::string_view bytes) {
  std::string start(bytes.substr(0, 14));
  std::ranges::transform(start, start.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return start.starts_with("<!doctype html") || start.starts_with("<html") || start.starts_with("<head") ||
         start.starts_with("<!--");
}

// The first line that is no comment.
std::string_view first_line(std::string_view bytes) {
  const auto length = [&] { return std::min(bytes.find_first_of("\r\n"), bytes.size()); };
  while (bytes.starts_with('#')) {
    bytes.remove_prefix(length());
    bytes.remove_prefix(std::min(bytes.find_first_not_of("\r\n"), bytes.size()));
  }
  return bytes.substr(0, length());
}

}  // namespace

std::optional<Format> recognise(std::string_view bytes) {
  for (const Known& known : kKnown) {
    if (bytes.size() > known.at && bytes.substr(known.at).starts_with(known.magic)) return known.format;
  }
  if (is_html(bytes)) return Format{"a web page (HTML)", "", kNoFasta};
  const std::string_view line = first_line(bytes);
  if (std::ranges::count(line, '\t') >= 2) return Format{"a table (GFF, GTF, BED or the like)", "", kGenome};
  if (!line.empty() && line.find_first_not_of("ACGTUNacgtun") == std::string_view::npos) {
    return Format{"a sequence without a header", "sed '1i >NAME' %", ""};
  }
  return std::nullopt;
}

}  // namespace longfold::data
