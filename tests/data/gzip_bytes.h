// gzip and BGZF as bytes, made here so that tests can cut, join and damage them.
#pragma once

#include <zlib.h>

#include <stdexcept>
#include <string>
#include <string_view>

namespace longfold::data {

// One gzip member; `extra` is the extra field of its header, if it is to have one.
inline std::string gzip_member(std::string_view text, std::string extra = "") {
  z_stream zlib{};
  gz_header header{};
  header.os = 255;
  header.extra = reinterpret_cast<Bytef*>(extra.data());
  header.extra_len = static_cast<uInt>(extra.size());
  std::string bytes(text.size() + text.size() / 1000 + 200 + extra.size(), '\0');
  zlib.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  zlib.avail_in = static_cast<uInt>(text.size());
  zlib.next_out = reinterpret_cast<Bytef*>(bytes.data());
  zlib.avail_out = static_cast<uInt>(bytes.size());
  const bool done = deflateInit2(&zlib, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK &&
                    (extra.empty() || deflateSetHeader(&zlib, &header) == Z_OK) &&
                    deflate(&zlib, Z_FINISH) == Z_STREAM_END;
  bytes.resize(zlib.total_out);
  deflateEnd(&zlib);
  if (!done) throw std::logic_error("zlib does not compress");
  return bytes;
}

// One block: a member whose header has a field "BC" of two bytes, the block's size less one. `before` are fields
// before.
inline std::string bgzf_block(std::string_view text, const std::string& before = "") {
  constexpr size_t kHeader = 12;  // of a member, up to the extra field
  std::string block = gzip_member(text, before + std::string("BC\2\0\0\0", 6));
  const size_t last = block.size() - 1;
  block[kHeader + before.size() + 4] = static_cast<char>(last & 255);
  block[kHeader + before.size() + 5] = static_cast<char>(last >> 8);
  return block;
}

// The bytes of the SAM specification that close a BGZF file.
inline std::string bgzf_end() {
  return {"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0\x42\x43\x02\0\x1b\0\x03\0\0\0\0\0\0\0\0\0", 28};
}

// Without bgzf_end().
inline std::string bgzf_blocks(std::string_view text, size_t block_size = 0xff00) {
  std::string bytes;
  for (size_t at = 0; at < text.size(); at += block_size) bytes += bgzf_block(text.substr(at, block_size));
  return bytes;
}

}  // namespace longfold::data
