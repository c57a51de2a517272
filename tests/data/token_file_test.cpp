#include "longfold/data/token_file.h"

#include <gtest/gtest.h>

#include <cstring>

#include "longfold/data/token_index.h"
#include "tests/data/scratch.h"

namespace longfold::data {
namespace {

std::string bytes_of(std::initializer_list<int> bytes) {
  std::string text;
  for (const int byte : bytes) text += static_cast<char>(byte);
  return text;
}

std::string open_error(const std::string& prefix) {
  return message_of([&] { TokenFile file(prefix); });
}

// Megatron reads exactly these bytes.
TEST(TokenFile, BytesArePinned) {
  const std::string prefix = write_tokens({{5, 6, 7}, {8}});
  EXPECT_EQ(base::read_file(prefix + ".idx"), bytes_of({
                                                  'M', 'M', 'I', 'D', 'I', 'D', 'X', 0, 0,  // magic
                                                  1,   0,   0,   0,   0,   0,   0,   0,     // version
                                                  8,                                        // u16
                                                  2,   0,   0,   0,   0,   0,   0,   0,     // sequences
                                                  3,   0,   0,   0,   0,   0,   0,   0,     // documents + 1
                                                  3,   0,   0,   0,   1,   0,   0,   0,     // lengths
                                                  0,   0,   0,   0,   0,   0,   0,   0,     // byte offsets
                                                  6,   0,   0,   0,   0,   0,   0,   0,     //
                                                  0,   0,   0,   0,   0,   0,   0,   0,     // document starts
                                                  1,   0,   0,   0,   0,   0,   0,   0,     //
                                                  2,   0,   0,   0,   0,   0,   0,   0,     //
                                              }));
  EXPECT_EQ(base::read_file(prefix + ".bin"), bytes_of({5, 0, 6, 0, 7, 0, 8, 0}));
}

TEST(TokenFile, ReadsBackWhatWasWritten) {
  const std::string prefix = write_tokens({{5, 6, 7, 8, 0}, {8, 5}});
  const TokenFile file(prefix);
  EXPECT_EQ(file.num_sequences(), 2);
  EXPECT_EQ(file.num_tokens(), 7);
  EXPECT_EQ(file.length(0), 5);
  EXPECT_EQ(file.length(1), 2);
  EXPECT_EQ(file.longest(), 5);
  EXPECT_EQ(file.sequence(1).name, "record1");
  EXPECT_EQ(file.tokenizer(), make_tokenizer("nucleotide"));
  EXPECT_EQ(file.info().sources, std::vector<std::string>{"test.fa"});
  EXPECT_EQ(file.tokens(0).scalar_type(), at::kLong);
  EXPECT_EQ(to_vector(file.tokens(0)), (std::vector<int64_t>{5, 6, 7, 8, 0}));
  EXPECT_EQ(to_vector(file.tokens(0, 1, 3)), (std::vector<int64_t>{6, 7, 8}));
  EXPECT_EQ(to_vector(file.tokens(1)), (std::vector<int64_t>{8, 5}));
  EXPECT_EQ(file.tokens(1, 2, 0).numel(), 0);
}

TEST(TokenFile, ContentHashFollowsTheTokens) {
  const std::string first = TokenFile(write_tokens({{5, 6, 7}})).content_hash();
  EXPECT_EQ(first, TokenFile(write_tokens({{5, 6, 7}})).content_hash());
  EXPECT_NE(first, TokenFile(write_tokens({{5, 6, 8}})).content_hash());
}

TEST(TokenFile, AChangedTokenIsFound) {
  const std::string prefix = write_tokens({{5, 6, 7}});
  TokenFile(prefix).check_content();
  put(prefix + ".bin", bytes_of({5, 0, 8, 0, 7, 0}));
  const std::string message = message_of([&] { TokenFile(prefix).check_content(); });
  EXPECT_EQ(message.find("'" + prefix + ".bin': expected content hash fnv1a64:"), 0u) << message;
}

TEST(TokenFile, LargeVocabulariesTakeFourBytes) {
  std::vector<std::string> vocabulary = {"[UNK]", "[PAD]"};
  while (vocabulary.size() < 70'000) vocabulary.push_back(std::to_string(vocabulary.size()));
  const std::string prefix = write_tokens({{2, 69'999}}, Tokenizer("large", vocabulary));
  EXPECT_EQ(base::read_file(prefix + ".bin"), bytes_of({2, 0, 0, 0, 0x6f, 0x11, 1, 0}));
  EXPECT_EQ(to_vector(TokenFile(prefix).tokens(0)), (std::vector<int64_t>{2, 69'999}));
}

// Other tools write other widths.
TEST(TokenFile, ReadsEveryWholeNumberType) {
  const std::vector<int32_t> lengths = {2, 1};
  const auto check = [&]<class T>(TokenDtype dtype, T) {
    const std::string prefix = write_tokens({{5, 6}, {7}});
    const std::vector<char> index = index_bytes(dtype, lengths);
    std::vector<char> tokens;
    for (const int id : {5, 6, 7}) append_bytes(tokens, static_cast<T>(id));
    put(prefix + ".idx", {index.data(), index.size()});
    put(prefix + ".bin", {tokens.data(), tokens.size()});
    const TokenFile file(prefix);
    EXPECT_EQ(to_vector(file.tokens(0)), (std::vector<int64_t>{5, 6})) << static_cast<int>(dtype);
    EXPECT_EQ(to_vector(file.tokens(1)), (std::vector<int64_t>{7})) << static_cast<int>(dtype);
  };
  check(TokenDtype::kU8, uint8_t{});
  check(TokenDtype::kI8, int8_t{});
  check(TokenDtype::kI16, int16_t{});
  check(TokenDtype::kU16, uint16_t{});
  check(TokenDtype::kI32, int32_t{});
  check(TokenDtype::kI64, int64_t{});
}

TEST(TokenFile, SlicesOutsideASequenceAreErrors) {
  const std::string prefix = write_tokens({{5, 6, 7}, {8}});
  const TokenFile file(prefix);
  const auto message = [&](int64_t sequence, int64_t offset, int64_t count) {
    return message_of([&] { (void)file.tokens(sequence, offset, count); });
  };
  constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(message(0, 1, 3), "'" + prefix + "': sequence 0 has 3 tokens, got offset 1 and count 3");
  EXPECT_NE(message(0, 1, kHuge), "");
  EXPECT_NE(message(0, kHuge, 1), "");
  EXPECT_NE(message(0, -1, 1), "");
  EXPECT_NE(message(0, 0, -1), "");
  EXPECT_EQ(message(2, 0, 1), "'" + prefix + "': expected a sequence below 2, got 2");
  EXPECT_NE(message(-1, 0, 1), "");
}

TEST(TokenFile, DamagedIndexIsNamed) {
  const std::string prefix = write_tokens({{5, 6, 7}, {8}});
  const std::string good = base::read_file(prefix + ".idx");
  const auto with = [&](size_t at, std::string_view bytes) {
    std::string bad = good;
    bad.replace(at, bytes.size(), bytes);
    put(prefix + ".idx", bad);
    const std::string message = open_error(prefix);
    const std::string name = "'" + prefix + ".idx'";
    EXPECT_EQ(message.substr(0, name.size()), name);
    return message.substr(std::min(message.size(), name.size()));
  };
  const std::string_view huge("\xff\xff\xff\xff\xff\xff\xff\x7f", 8);
  const std::string_view minus("\xff\xff\xff\xff\xff\xff\xff\xff", 8);
  EXPECT_EQ(with(0, "X"), " is no token index: expected it to begin with MMIDIDX, got 'XMIDIDX\\x00\\x00'");
  EXPECT_EQ(with(9, "\x02"), ": expected version 1, got 2");
  EXPECT_EQ(with(17, "\x07"), ": expected a whole-number dtype code (1-5 or 8), got 7");
  EXPECT_EQ(with(17, "\x63"), ": expected a whole-number dtype code (1-5 or 8), got 99");
  EXPECT_EQ(with(18, "\x03"), ": expected the size of 3 sequences and 3 document starts, got 82 bytes");
  EXPECT_EQ(with(18, huge), ": expected the size of 9223372036854775807 sequences and 3 document starts, got 82 bytes");
  // 12 times this many wraps round to the right size in 64 bits.
  EXPECT_EQ(with(18, std::string_view("\x02\0\0\0\0\0\0\x40", 8)),
            ": expected the size of 4611686018427387906 sequences and 3 document starts, got 82 bytes");
  EXPECT_EQ(with(26, minus),
            ": expected the size of 2 sequences and 18446744073709551615 document starts, got 82 bytes");
  EXPECT_EQ(with(34, minus.substr(0, 4)), ": expected a length of 0 or more, got -1 of sequence 0");
  EXPECT_EQ(with(42, "\x01"), ": expected byte offset 0, got 1 of sequence 0");
  EXPECT_EQ(with(50, huge), ": expected byte offset 6, got 9223372036854775807 of sequence 1");
  EXPECT_EQ(with(58, "\x01"), ": expected document starts that rise from 0 to 2, got 1 at entry 0");
  EXPECT_EQ(with(66, "\x03"), ": expected document starts that rise from 0 to 2, got 3 at entry 1");
  EXPECT_EQ(with(66, minus), ": expected document starts that rise from 0 to 2, got -1 at entry 1");
  EXPECT_EQ(with(74, "\x01"), ": expected document starts that rise from 0 to 2, got 1 at entry 2");
  for (size_t size = 0; size < good.size(); ++size) {
    put(prefix + ".idx", good.substr(0, size));
    EXPECT_NE(open_error(prefix), "") << size;
  }
  put(prefix + ".idx", good);
  EXPECT_EQ(open_error(prefix), "");
}

TEST(TokenFile, SizesMustMatch) {
  const std::string prefix = write_tokens({{5, 6, 7}, {8}});
  put(prefix + ".bin", "1234567");
  EXPECT_EQ(open_error(prefix), "'" + prefix + ".bin': expected 8 bytes, as its .idx says, got 7");
  put(prefix + ".bin", "123456789");
  EXPECT_NE(open_error(prefix), "");
}

TEST(TokenFile, IdsOutsideTheVocabularyAreErrors) {
  const std::string prefix = write_tokens({{5, 6, 7}, {8}});
  put(prefix + ".bin", bytes_of({5, 0, 9, 0, 7, 0, 8, 0}));
  const TokenFile file(prefix);
  EXPECT_EQ(message_of([&] { (void)file.tokens(0); }),
            "'" + prefix + ".bin': expected ids below 9, got 9 at token 1 of sequence 0");
  EXPECT_EQ(to_vector(file.tokens(1)), std::vector<int64_t>{8});
}

TEST(TokenFile, SidecarMustFit) {
  const std::string prefix = write_tokens({{5, 6, 7}, {8}});
  const std::string good = base::read_file(prefix + ".json");
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string bad = good;
    const size_t at = bad.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    put(prefix + ".json", bad.replace(at, from.size(), to));
    return open_error(prefix);
  };
  const std::string name = "'" + prefix + ".json'";
  EXPECT_EQ(with("\"G\"", "\"C\"").substr(0, name.size() + 26), name + ": expected tokenizer hash ");
  EXPECT_EQ(with("\"tokens\": 4", "\"tokens\": 5"),
            name + ": expected 2 sequences and 4 tokens as in the .idx beside it, got 2 and 5");
  EXPECT_EQ(with("\"bases\"", "\"basses\""), name + ": unknown key 'counts.basses', did you mean 'bases'?");
  EXPECT_EQ(with("\"frame\"", "\"from\"").find(name + " is damaged: "), 0u);
  EXPECT_EQ(with("\"version\": 1", "\"version\": 2"),
            name + ": expected format \"longfold tokens\" version 1, got \"longfold tokens\" version 2");
  put(prefix + ".json", good.substr(0, good.size() / 2));
  EXPECT_EQ(open_error(prefix).find(name + " is damaged: "), 0u);
  std::filesystem::remove(prefix + ".json");
  const std::string missing = "cannot read " + name + ": No such file or directory: the .bin and .idx beside it do not";
  EXPECT_EQ(open_error(prefix).substr(0, missing.size()), missing);
}

TEST(TokenFile, AnIndexOfAnotherKindIsNamed) {
  const std::string prefix = write_tokens({{5, 6, 7}});
  const auto with = [&](std::string_view bytes) {
    put(prefix + ".idx", bytes);
    const std::string message = open_error(prefix);
    const std::string begin = "'" + prefix + ".idx' is no token index: expected ";
    EXPECT_EQ(message.substr(0, begin.size()), begin);
    return message.substr(std::min(message.size(), begin.size()));
  };
  EXPECT_EQ(with(std::string("TNTIDX\0\0", 8) + std::string(60, '\0')),
            "it to begin with MMIDIDX, got TNTIDX, the older format of fairseq and Megatron: preprocess the text again "
            "with --dataset-impl mmap");
  EXPECT_EQ(with("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
            "it to begin with MMIDIDX, got a Git LFS pointer instead of the file");
  EXPECT_EQ(with("\x1b[31m and more"), "it to begin with MMIDIDX, got '\\x1b[31m and'");
  EXPECT_EQ(with(""), "a header of 34 bytes, got 0 bytes");
  EXPECT_EQ(with("MMID"), "a header of 34 bytes, got 4 bytes");
}

TEST(TokenFile, APrefixThatIsNoneIsExplained) {
  const auto folder = fresh_folder();
  const auto message = [&](const std::string& prefix) {
    std::string text = open_error(folder / prefix);
    const std::string begin = folder.string() + "/";
    for (size_t at = text.find(begin); at != std::string::npos; at = text.find(begin)) text.erase(at, begin.size());
    return text;
  };
  EXPECT_EQ(message("genome"), "cannot read 'genome.idx': No such file or directory");
  EXPECT_EQ(message("genome.bin"), "cannot read 'genome.bin.idx': No such file or directory");
  base::make_folder(folder / "empty");
  EXPECT_EQ(message("empty"),
            "cannot read 'empty.idx': No such file or directory (a folder, in which there is no data set)");
  for (const std::string name : {"phage", "genome_text_document"}) {
    TokenFileWriter writer(folder / name, make_tokenizer("nucleotide"));
    writer.append(std::vector<int32_t>{5});
    writer.end_sequence({"a", 0});
    TokenFileInfo info;
    info.counts.tokens = 1;
    writer.commit(info);
  }
  EXPECT_EQ(message("phage"), "");
  for (const std::string ending : {".bin", ".idx", ".json", "."}) {
    EXPECT_EQ(message("phage" + ending), "expected the prefix of a data set, got 'phage" + ending + "': type 'phage'");
  }
  EXPECT_EQ(message("genome"),
            "cannot read 'genome.idx': No such file or directory, did you mean 'genome_text_document'?");
  EXPECT_EQ(message("phgae"), "cannot read 'phgae.idx': No such file or directory, did you mean 'phage'?");
  EXPECT_EQ(message("elephant"),
            "cannot read 'elephant.idx': No such file or directory (data sets there: genome_text_document, phage)");
  EXPECT_EQ(open_error(folder).substr(folder.string().size() + 14),
            "idx': No such file or directory (a folder, data sets there: " +
                (folder / "genome_text_document").string() + ", " + (folder / "phage").string() + ")");
}

// What the message about a missing .json tells to write.
TEST(TokenFile, ThreeKeysAreEnoughBesideAPairOfMegatrons) {
  const std::string prefix = write_tokens({{5, 6, 7}, {8}});
  const std::string hash = TokenFile(prefix).content_hash();
  const auto with = [&](const std::string& tokenizer, const std::string& more = "") {
    put(prefix + ".json", "{\"format\": \"longfold tokens\", \"version\": 1, \"tokenizer\": " + tokenizer + more + "}");
    return open_error(prefix);
  };
  EXPECT_EQ(with("{\"name\": \"nucleotide\"}"), "");
  const TokenFile file(prefix);
  EXPECT_EQ(file.tokenizer(), make_tokenizer("nucleotide"));
  EXPECT_EQ(file.content_hash(), hash);
  EXPECT_EQ(file.num_sequences(), 2);
  EXPECT_EQ(file.info().counts.tokens, 4);
  EXPECT_EQ(file.sequence(1).name, "");
  EXPECT_EQ(to_vector(file.tokens(0)), (std::vector<int64_t>{5, 6, 7}));

  EXPECT_EQ(with("{\"name\": \"mine\", \"vocabulary\": [\"[PAD]\", \"[UNK]\", \"?\", \"?\", \"?\", \"A\", \"C\", "
                 "\"G\", \"T\"]}"),
            "");
  EXPECT_EQ(TokenFile(prefix).tokenizer().decode(std::vector<int64_t>{5, 8}), "AT");
  EXPECT_EQ(with("{\"name\": \"mine\"}"), "unknown tokenizer 'mine' (one of: genslm69, nucleotide)");
  EXPECT_EQ(with("{\"name\": \"nucleotide\", \"hash\": \"fnv1a64:0\"}")
                .find("'" + prefix + ".json': expected tokenizer hash"),
            0u);
  EXPECT_EQ(with("{\"name\": \"nucleotide\"}", ", \"frame\": \"0\"").find("'" + prefix + ".json' is damaged: "), 0u)
      << "more keys than three must be all of them";
}

TEST(TokenFile, MissingFilesAreNamed) {
  EXPECT_EQ(open_error("/nowhere/x"), "cannot read '/nowhere/x.idx': No such file or directory");
  const auto folder = fresh_folder();
  base::make_folder(folder / "x.idx");
  EXPECT_EQ(open_error(folder / "x"), "cannot read '" + (folder / "x.idx").string() + "': not a regular file");
}

TEST(TokenFile, NothingAppearsBeforeCommit) {
  const auto folder = fresh_folder();
  {
    TokenFileWriter writer(folder / "x", make_tokenizer("nucleotide"));
    writer.append(std::vector<int32_t>(100'000, 5));
    writer.end_sequence({"a", 0});
  }
  EXPECT_EQ(names_in(folder), std::vector<std::string>{});
}

TEST(TokenFile, AHalfWrittenSetCannotBeOpened) {
  const std::string prefix = write_tokens({{5, 6, 7}});
  const std::string index = base::read_file(prefix + ".idx");
  std::filesystem::remove(prefix + ".idx");
  base::make_folder(prefix + ".idx");  // so that the second rename fails
  {
    TokenFileWriter writer(prefix, make_tokenizer("nucleotide"));
    writer.append(std::vector<int32_t>{8, 8, 8});
    writer.end_sequence({"new", 0});
    EXPECT_NE(message_of<base::RunError>([&] { writer.commit({}); }), "");
  }
  std::filesystem::remove(prefix + ".idx");
  put(prefix + ".idx", index);  // new tokens beside the old index
  EXPECT_EQ(base::read_file(prefix + ".bin"), bytes_of({8, 0, 8, 0, 8, 0}));
  const std::string missing = "cannot read '" + prefix + ".json': No such file or directory";
  EXPECT_EQ(open_error(prefix).substr(0, missing.size()), missing);
}

// Headers come in any encoding; the sidecar must stay JSON.
TEST(TokenFile, NamesThatAreNotUtf8AreReplaced) {
  const std::string prefix = fresh_folder() / "x";
  TokenFileWriter writer(prefix, make_tokenizer("nucleotide"));
  writer.append(std::vector<int32_t>{5});
  writer.end_sequence({"caf\xe9", 0});
  TokenFileInfo info;
  info.counts.tokens = 1;
  writer.commit(info);
  EXPECT_EQ(TokenFile(prefix).sequence(0).name, "caf\xef\xbf\xbd");
}

}  // namespace
}  // namespace longfold::data
