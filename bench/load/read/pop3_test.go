package read

import (
	"bufio"
	"bytes"
	"testing"
)

func TestReadText(t *testing.T) {
	long := bytes.Repeat([]byte("x"), 3*maxPOP3Line)
	for _, c := range []struct{ wire, want string }{
		{"a\r\n.\r\n", "a\r\n"},
		{".\r\n", ""},
		{"..\r\n.\r\n", ".\r\n"},
		{"..a\r\nb\r\n.\r\nrest", ".a\r\nb\r\n"},
		{string(long) + "\r\n.\r\n", string(long) + "\r\n"},
		{"." + string(long) + ".\r\n.\r\n", string(long) + ".\r\n"},
	} {
		got, err := readText(bufio.NewReaderSize(bytes.NewReader([]byte(c.wire)), maxPOP3Line))
		if err != nil || string(got) != c.want {
			t.Errorf("%.40q: %.40q, %v", c.wire, got, err)
		}
	}
	if _, err := readText(bufio.NewReader(bytes.NewReader([]byte("no end\r\n")))); err == nil {
		t.Error("a text without an end was taken")
	}
}

// FuzzPOP3: whatever a server sends, each parser gives an error or something within its bounds.
func FuzzPOP3(f *testing.F) {
	for _, s := range []string{"+OK 2 320\r\n", "-ERR no\r\n", "+OK\r\n1 a\r\n2 b\r\n.\r\n", "+OK\r\n..x\r\n.\r\n", "\r\n", "+OK -1 -1\r\n0 x\r\n.\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fresh := func() *bufio.Reader { return bufio.NewReaderSize(bytes.NewReader(b), maxPOP3Line) }
		if text, err := readStatus(fresh()); err == nil {
			if messages, size, err := parseStat(text); err == nil && (messages < 0 || size < 0) {
				t.Fatalf("STAT: %d %d", messages, size)
			}
		}
		if raw, err := readText(fresh()); err == nil && len(raw) > len(b) {
			t.Fatalf("%d bytes out of %d", len(raw), len(b))
		}
		_ = readLines(fresh(), func(line []byte) error { // an error is as good as a listing
			if n, uid, err := parseUIDL(line); err == nil && (n < 1 || n > maxPOP3Lines || uid == "") {
				t.Fatalf("UIDL: %d %q", n, uid)
			}
			return nil
		})
	})
}
