#include "longfold/base/text.h"

#include <gtest/gtest.h>

namespace longfold::base {
namespace {

TEST(Text, BytesAreReadAndWritten) {
  EXPECT_EQ(parse_bytes("1536")->count, 1536);
  EXPECT_EQ(parse_bytes("1.5 KiB")->count, 1536);
  EXPECT_EQ(parse_bytes("2GiB")->count, int64_t{2} << 30);
  EXPECT_EQ(parse_bytes("2GB")->count, 2'000'000'000);
  for (const char* wrong : {"", "GiB", "-1GiB", "2 elephants", "1e40TiB", "nan"}) {
    EXPECT_FALSE(parse_bytes(wrong)) << wrong;
  }
  EXPECT_EQ(format_bytes(1536), "1.50 KiB");
  EXPECT_EQ(format_bytes(999), "999 B");
  EXPECT_EQ(format_bytes(int64_t{150} << 20), "150 MiB");
}

TEST(Text, CountsAndDurations) {
  EXPECT_EQ(format_count(48502), "48,502");
  EXPECT_EQ(format_count(-1234567), "-1,234,567");
  EXPECT_EQ(format_count(12), "12");
  EXPECT_EQ(format_duration(65.2), "1:05");
  EXPECT_EQ(format_duration(3725), "1:02:05");
}

TEST(Text, NearestFindsTyposAndNothingElse) {
  const std::vector<std::string> words{"hidden_size", "num_layers", "num_heads"};
  EXPECT_EQ(nearest("hiden_size", words), "hidden_size");
  EXPECT_EQ(nearest("num_head", words), "num_heads");
  EXPECT_EQ(nearest("zzz", words), "");
  EXPECT_EQ(suggestion("zzz", words), " (one of: hidden_size, num_layers, num_heads)");
}

}  // namespace
}  // namespace longfold::base
