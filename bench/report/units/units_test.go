package units

import (
	"math"
	"testing"
)

func TestFormat(t *testing.T) {
	for _, c := range []struct {
		v    float64
		unit string
		want string
	}{
		{0.000123, "s", "123 µs"}, {0, "s", "0 s"}, {0.0481, "s", "48.1 ms"}, {0.9996, "s", "1 s"}, {0.5e-7, "s", "50 ns"}, {0.000_999_6, "s", "1 ms"},
		{2.998, "s", "3 s"}, {119, "s", "119 s"}, {600, "s", "10 min"}, {4 * 3600, "s", "4 h"}, {86400 * 3, "s", "3 days"}, {-0.002, "s", "-2 ms"},
		{12300, "B", "12.3 kB"}, {999, "B", "999 B"}, {999.9, "B", "1 kB"}, {1 << 30, "B", "1.07 GB"}, {3.2e15, "B", "3.2 PB"}, {125e6, "B/s", "125 MB/s"}, {0, "B", "0 B"},
		{8e6, "bit/s", "8 Mbit/s"}, {-4096, "B/h", "-4.1 kB/h"},
		{1302.4, "1/s", "1,302/s"}, {0.25, "1/s", "0.25/s"}, {1234567, "messages", "1,234,567 messages"}, {0, "messages", "0 messages"}, {1, "messages", "1 message"}, {math.Copysign(0, -1), "", "0"},
		{1.386, "ratio", "1.39"}, {0.9999, "ratio", "1"}, {9.996, "ratio", "10"}, {0.00012, "ratio", "0.00012"}, {3e-7, "ratio", "3e-07"}, {99.5, "%", "99.5 %"}, {99.96, "", "100"},
		{math.NaN(), "s", "–"}, {math.Inf(1), "B", "–"}, {2e18, "", "2e+18"}, {-1234567, "", "-1,234,567"}, {-0.2, "", "-0.2"},
	} {
		if got := Format(c.v, c.unit); got != c.want {
			t.Errorf("Format(%v, %q) = %q, want %q", c.v, c.unit, got, c.want)
		}
	}
}
