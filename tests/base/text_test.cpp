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

TEST(Text, PrintableShowsWhatWouldSteerATerminal) {
  EXPECT_EQ(printable("chr1 caf\u00e9 \u6d77 \U0001f9ec '\\'"), "chr1 caf\u00e9 \u6d77 \U0001f9ec '\\'");
  EXPECT_EQ(printable("\x1b[31mred\x1b[0m\a\x7f"), "\\x1b[31mred\\x1b[0m\\x07\\x7f");
  EXPECT_EQ(printable(std::string_view("a\0b\r\n\tc", 7)), "a\\x00b\\x0d\\n\\tc");
  EXPECT_EQ(printable("\u009b1m\u202etxt\u2066\u200f\u2028\ufeff"),
            "\\xc2\\x9b1m\\xe2\\x80\\xaetxt\\xe2\\x81\\xa6\\xe2\\x80\\x8f\\xe2\\x80\\xa8\\xef\\xbb\\xbf");
  const std::string shown = printable("\x1b[31m\n\xff");
  EXPECT_EQ(printable(shown), shown) << "twice is once";
}

TEST(Text, PrintableShowsBytesThatAreNoUtf8) {
  EXPECT_EQ(printable("caf\xe9"), "caf\\xe9");
  EXPECT_EQ(printable("\x9b"
                      "1m"),
            "\\x9b1m");                                                // a control of 8-bit terminals
  EXPECT_EQ(printable("\xc0\x9b|\xc1\xbf"), "\\xc0\\x9b|\\xc1\\xbf");  // longer than need be
  EXPECT_EQ(printable("\xe0\x80\x9b"), "\\xe0\\x80\\x9b");
  EXPECT_EQ(printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");           // half of a pair
  EXPECT_EQ(printable("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");  // beyond the last character
  EXPECT_EQ(printable("\xe6\xb5"), "\\xe6\\xb5");                    // cut
}

TEST(Text, PrintableCutsWhatIsLong) {
  EXPECT_EQ(printable("abc", 3), "abc");
  EXPECT_EQ(printable("abcd", 3), "abc... (4 bytes)");
  EXPECT_EQ(printable(std::string(900'000, 'n'), 5), "nnnnn... (900,000 bytes)");
  EXPECT_EQ(printable("ab\u00e9", 3), "ab... (4 bytes)") << "never within a character";
  EXPECT_EQ(printable("ab\x1b", 4), "ab... (3 bytes)") << "nor within an escape";
  EXPECT_EQ(printable(""), "");
}

}  // namespace
}  // namespace longfold::base
