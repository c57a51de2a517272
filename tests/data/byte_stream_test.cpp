#include "longfold/data/readers/byte_stream.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

#include "tests/data/gzip_bytes.h"
#include "tests/data/scratch.h"

namespace longfold::data {
namespace {

namespace fs = std::filesystem;

// What a stream gave: its text, and its warning or its error, both without the name of the input.
struct Outcome {
  std::string text;
  std::string remark;
  friend bool operator==(const Outcome&, const Outcome&) = default;
  friend std::ostream& operator<<(std::ostream& out, const Outcome& outcome) {
    return out << outcome.text.size() << " bytes, '" << outcome.remark << "'";
  }
};

Outcome read_path(const std::string& path) {
  Outcome outcome;
  const auto without_name = [&](std::string text) {
    for (size_t at = text.find(path); at != std::string::npos; at = text.find(path)) text.replace(at, path.size(), "X");
    return text;
  };
  try {
    ByteStream stream(path);
    std::vector<char> piece(1 << 18);
    while (const size_t count = stream.read(piece)) outcome.text.append(piece.data(), count);
    EXPECT_NO_THROW(EXPECT_EQ(stream.read(piece), 0u)) << "the end stays the end";
    outcome.remark = without_name(stream.warning());
  } catch (const base::UserError& error) {
    return {"", without_name(error.what())};
  }
  return outcome;
}

// Through a pipe that brings `piece` bytes at a time.
Outcome read_pipe(std::string_view bytes, size_t piece) {
  int ends[2];
  if (::pipe2(ends, O_DIRECT | O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
  const int out = ends[1];
  std::jthread writer([bytes, piece, out] {
    for (size_t at = 0; at < bytes.size(); at += piece) {
      const std::string_view next = bytes.substr(at, piece);
      if (::write(out, next.data(), next.size()) < 0) break;  // the reader has seen enough
    }
    ::close(out);
  });
  const Outcome outcome = read_path("/proc/self/fd/" + std::to_string(ends[0]));
  std::vector<char> rest(1 << 16);
  while (::read(ends[0], rest.data(), rest.size()) > 0) continue;
  writer.join();
  ::close(ends[0]);
  return outcome;
}

// The same from a file and from pipes, or a failure.
Outcome read(std::string_view bytes) {
  const fs::path path = fresh_folder() / "x";
  put(path, bytes);
  const Outcome outcome = read_path(path.string());
  if (bytes.size() < 2000) {
    EXPECT_EQ(read_pipe(bytes, 1), outcome);
  }
  EXPECT_EQ(read_pipe(bytes, 4000), outcome);
  return outcome;
}

std::string some_text(size_t count) {
  std::string text;
  uint32_t state = 1;
  for (size_t i = 0; i < count; ++i) {
    state = state * 1664525 + 1013904223;
    text += "ACGT"[state >> 30];
  }
  return text;
}

const std::string kTruncated = "cannot read 'X': the compressed file is truncated";
const std::string kNoEndMarker =
    "cannot read 'X': the compressed file is truncated, or was written without the end marker of BGZF: if you know "
    "that it is whole, type gzip -dc 'X' | longfold prepare - -o PREFIX";

Outcome whole(const std::string& text) {
  return {text, ""};
}
Outcome warned(const std::string& text, const std::string& ignored) {
  return {text, "'X': ignored " + ignored + " after the end of its gzip data, as gzip does"};
}

TEST(ByteStream, PlainBytesComeAsTheyAre) {
  for (const std::string& text : {std::string(), std::string("\x1f"), std::string("A"), std::string("\x1f\x9d\0x", 4),
                                  some_text(1000), some_text(300'000)}) {
    EXPECT_EQ(read(text), whole(text));
  }
}

TEST(ByteStream, MembersFollowEachOther) {
  const std::string text = some_text(500);
  const std::string member = gzip_member(text);
  EXPECT_EQ(read(member), whole(text));
  EXPECT_EQ(read(member + gzip_member("") + member), whole(text + text));
  const std::string large = some_text(700'000);
  EXPECT_EQ(read(gzip_member(large) + member), whole(large + text));
  EXPECT_EQ(read(gzip_member("")), whole(""));
}

TEST(ByteStream, ZerosAroundMembersAreSkipped) {
  const std::string member = gzip_member("ACGT");
  for (const size_t count : {1, 2, 511, 200'000}) {
    const std::string zeros(count, '\0');
    EXPECT_EQ(read(member + zeros), whole("ACGT")) << count;
    EXPECT_EQ(read(member + zeros + member), whole("ACGTACGT")) << count;
    EXPECT_EQ(read(bgzf_block("ACGT") + bgzf_end() + zeros), whole("ACGT")) << count;
  }
}

TEST(ByteStream, OtherBytesAfterTheLastMemberAreCounted) {
  const std::string member = gzip_member("ACGT");
  EXPECT_EQ(read(member + "\n"), warned("ACGT", "1 byte"));
  EXPECT_EQ(read(member + "garbage"), warned("ACGT", "7 bytes"));
  EXPECT_EQ(read(member + "\x1fx"), warned("ACGT", "2 bytes"));
  EXPECT_EQ(read(member + std::string(3, '\0') + "end"), warned("ACGT", "6 bytes"));
  EXPECT_EQ(read(member + std::string(200'000, 'x')), warned("ACGT", "200,000 bytes"));
  EXPECT_EQ(read(bgzf_block("ACGT") + bgzf_end() + "garbage"), warned("ACGT", "7 bytes"));
}

TEST(ByteStream, NoCutOfAMemberPasses) {
  const std::string first = gzip_member(some_text(300));
  const std::string second = gzip_member(some_text(20));
  for (size_t size = 2; size < first.size(); ++size) {
    EXPECT_EQ(read(first.substr(0, size)).remark, kTruncated) << size << " of " << first.size();
  }
  for (size_t size = 1; size < second.size(); ++size) {
    const Outcome outcome = read(first + second.substr(0, size));
    EXPECT_EQ(outcome.remark.substr(0, kTruncated.size()), kTruncated) << size << " of " << second.size();
  }
}

TEST(ByteStream, DamageIsNamed) {
  const std::string member = gzip_member(some_text(300));
  const std::string damaged = "cannot read 'X': the compressed data are damaged near byte ";
  for (const size_t at : {size_t{2}, size_t{3}, member.size() - 6, member.size() - 1}) {  // method, flags, sums
    std::string bad = member;
    bad[at] = static_cast<char>(bad[at] ^ 0x80);
    EXPECT_EQ(read(bad).remark.substr(0, damaged.size()), damaged) << at;
    EXPECT_EQ(read(member + bad).remark.substr(0, damaged.size()), damaged) << at;
  }
  std::string bad = member;
  bad[bad.size() - 6] ^= 1;
  const std::string remark = read(bad).remark;
  EXPECT_NEAR(std::stod(remark.substr(damaged.size())), static_cast<double>(bad.size()), 8) << remark;
}

TEST(ByteStream, BgzfNeedsItsEndMarker) {
  const std::string text = some_text(200'000);
  const std::string blocks = bgzf_blocks(text);
  EXPECT_EQ(read(blocks + bgzf_end()), whole(text));
  EXPECT_EQ(read(blocks), (Outcome{"", kNoEndMarker}));
  EXPECT_EQ(read(blocks + std::string(512, '\0')), (Outcome{"", kNoEndMarker}));
  EXPECT_EQ(read(blocks + "garbage"), (Outcome{"", kNoEndMarker}));
  EXPECT_EQ(read(bgzf_end()), whole(""));
  const std::string other_field("XY\3\0abc", 7);
  EXPECT_EQ(read(bgzf_block("ACGT", other_field)), (Outcome{"", kNoEndMarker}));
  EXPECT_EQ(read(gzip_member("ACGT", other_field)), whole("ACGT"));
}

TEST(ByteStream, BgzfNeedsItsEndMarkerBeforeWhatFollows) {
  const std::string blocks = bgzf_blocks("ACGTACGT", 4);
  const std::string gzip = gzip_member("GG");
  EXPECT_EQ(read(blocks + gzip), (Outcome{"", kNoEndMarker}));
  EXPECT_EQ(read(blocks + gzip + bgzf_end()), (Outcome{"", kNoEndMarker}));
  EXPECT_EQ(read(gzip + blocks), (Outcome{"", kNoEndMarker}));
  EXPECT_EQ(read(blocks + bgzf_end() + blocks), (Outcome{"", kNoEndMarker}));
  EXPECT_EQ(read(blocks + bgzf_end() + gzip), whole("ACGTACGTGG"));
  EXPECT_EQ(read(gzip + blocks + bgzf_end()), whole("GGACGTACGT"));
  EXPECT_EQ(read(blocks + bgzf_end() + blocks + bgzf_end()), whole("ACGTACGTACGTACGT"));
}

TEST(ByteStream, ThroughNamesACommandForTheInput) {
  const fs::path folder = fresh_folder();
  const auto command = [&](const std::string& name, std::string_view bytes) {
    const std::string path = folder / name;
    put(path, bytes);
    ByteStream stream(path);
    std::vector<char> piece(10);
    (void)stream.read(piece);
    std::string line = stream.through("tool % out");
    line.erase(line.find(folder.string()), folder.string().size() + 1);
    return line;
  };
  EXPECT_EQ(command("x", "plain"), "tool 'x' out | longfold prepare - -o PREFIX");
  EXPECT_EQ(command("x.gz", gzip_member("A")), "gzip -dc 'x.gz' | tool - out | longfold prepare - -o PREFIX");
  EXPECT_EQ(command("it's", "plain"), "tool 'it'\\''s' out | longfold prepare - -o PREFIX");
}

TEST(ByteStream, WhatCannotBeOpenedIsNamed) {
  EXPECT_EQ(message_of([] { ByteStream("/nowhere/x.fa"); }), "cannot read '/nowhere/x.fa': No such file or directory");
  EXPECT_EQ(
      message_of([] { ByteStream("https://host/x.fa.gz"); }),
      "cannot read 'https://host/x.fa.gz': expected a file, got an address: type curl -fL 'https://host/x.fa.gz' | "
      "longfold prepare - -o PREFIX");
  const fs::path folder = fresh_folder();
  EXPECT_EQ(read_path(folder.string()).remark, "cannot read 'X': Is a directory");
}

}  // namespace
}  // namespace longfold::data
