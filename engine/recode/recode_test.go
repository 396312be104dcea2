package recode

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

// lines is base64 of b in lines of width×4 characters.
func lines(b []byte, width int) []byte {
	var out []byte
	for len(b) > 0 {
		n := min(3*width, len(b))
		out = append(base64.StdEncoding.AppendEncode(out, b[:n]), '\r', '\n')
		b = b[n:]
	}
	return out
}

func noise(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// there and back; says whether anything was recoded.
func roundTrip(t testing.TB, raw []byte) bool {
	t.Helper()
	coded, ok := Encode([]byte("before"), raw)
	if string(coded[:6]) != "before" {
		t.Fatal("what was in dst is gone")
	}
	if !ok {
		if len(coded) != 6 {
			t.Fatal("bytes appended without a result")
		}
		return false
	}
	if coded = coded[6:]; len(coded) >= len(raw) {
		t.Fatalf("%d bytes became %d", len(raw), len(coded))
	}
	back, err := Decode([]byte("before"), coded, len(raw))
	if err != nil || !bytes.Equal(back[6:], raw) {
		t.Fatalf("%d bytes came back as %d: %v", len(raw), len(back)-6, err)
	}
	for _, n := range []int{0, len(raw) - 1, len(raw) + 1} {
		if _, err := Decode(nil, coded, n); err == nil {
			t.Fatalf("decoded to %d bytes what stands for %d", n, len(raw))
		}
	}
	return true
}

func TestRuns(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	head := "Content-Transfer-Encoding: base64\r\n\r\n"
	for _, width := range []int{10, 15, 16, 18, 19, 255} {
		for _, n := range []int{3*width*5 - 2, 3 * width * 4, 3*width*4 + 1, 3*width*40 + 5, 3*width*40 - 1} {
			body := lines(noise(rng, n), width)
			if !roundTrip(t, []byte(head+string(body)+"\r\n--end\r\n")) || !roundTrip(t, body) {
				t.Errorf("%d bytes in lines of %d were not recoded", n, width*4)
			}
			roundTrip(t, body[:len(body)-1])
			roundTrip(t, body[5:])
			roundTrip(t, append(body, body...))
		}
	}
}

// TestLeftAlone has what looks like base64 and is not what an encoder writes.
func TestLeftAlone(t *testing.T) {
	line := strings.Repeat("QUJD", 19) + "\r\n"
	for name, raw := range map[string]string{
		"nothing":          "",
		"text":             strings.Repeat("some words of a text which nobody encoded, on lines of the same length as it is.\r\n", 9),
		"three lines":      strings.Repeat(line, 3),
		"LF only":          strings.ReplaceAll(strings.Repeat(line, 9), "\r", ""),
		"short lines":      strings.Repeat("QUJDQUJDQUJDQUJD\r\n", 9),
		"other alphabet":   strings.Repeat(strings.Repeat("QU-_", 19)+"\r\n", 9),
		"unused bits set":  strings.Repeat(strings.Repeat("QUJD", 18)+"QR==\r\n", 9),
		"padding inside":   strings.Repeat(strings.Repeat("QUJD", 9)+"QQ=="+strings.Repeat("QUJD", 9)+"\r\n", 9),
		"CR inside":        strings.Repeat(strings.Repeat("QUJD", 18)+"QU\rD\r\n", 9),
		"padded each line": strings.Repeat(strings.Repeat("QUJD", 18)+"QQ==\r\n", 9),
	} {
		if roundTrip(t, []byte(raw)) {
			t.Errorf("%s: recoded", name)
		}
	}
	mixed := strings.Repeat(line, 5) + strings.Repeat("QUJD", 18) + "QU\rD\r\n" + strings.Repeat(line, 5) + "QR==\r\n"
	if !roundTrip(t, []byte(mixed)) {
		t.Error("good lines around a bad one were not recoded")
	}
}

// TestGolden holds the form against a file that every later version must read.
func TestGolden(t *testing.T) {
	raw := "MIME-Version: 1.0\r\n\r\n" + string(lines([]byte(strings.Repeat("Hongyan carries letters. ", 12)), 19)) + "\r\n-- \r\n"
	coded, ok := Encode(nil, []byte(raw))
	want, err := os.ReadFile("testdata/recode-1.hex")
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(coded); !ok || got != strings.TrimSpace(string(want)) {
		t.Errorf("encoded as\n%s\nwant\n%s", got, want)
	}
}

func TestMalformed(t *testing.T) {
	for _, coded := range []string{
		"\x01", "\x05\x00\x00\x00abc", "\x00\x00\x00\x00\x01", "\x00\x00\x00\x00\x00\x00\x00\x00\x13", "\x00\x00\x00\x00\x03\x00\x00\x00\x00abc",
		"\x00\x00\x00\x00\x09\x00\x00\x00\x13abc", "\xff\xff\xff\xff", "\x00\x00\x00\x00\xff\xff\xff\xff\x01abc",
	} {
		if out, err := Decode(nil, []byte(coded), 6); err == nil {
			t.Errorf("%q decoded to %q", coded, out)
		}
	}
}

func FuzzRoundTrip(f *testing.F) {
	rng := rand.New(rand.NewPCG(3, 4))
	f.Add([]byte("text\r\n"), uint16(0))
	f.Add(lines(noise(rng, 700), 19), uint16(300))
	f.Add(append([]byte("x\r\n"), lines(noise(rng, 301), 10)...), uint16(99))
	f.Fuzz(func(t *testing.T, raw []byte, cut uint16) {
		if len(raw) > 1<<16 {
			return
		}
		at := min(int(cut), len(raw))
		roundTrip(t, raw)
		roundTrip(t, lines(raw, 1+int(cut%300)%255))
		roundTrip(t, raw[at:])
		if out, err := Decode(nil, raw, at); err == nil && len(out) != at {
			t.Fatalf("%d bytes instead of %d", len(out), at)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	raw := lines(noise(rand.New(rand.NewPCG(1, 1)), 180<<10), 19)
	dst := make([]byte, 0, len(raw))
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		Encode(dst, raw)
	}
}

func BenchmarkDecode(b *testing.B) {
	raw := lines(noise(rand.New(rand.NewPCG(1, 1)), 180<<10), 19)
	coded, _ := Encode(nil, raw)
	dst := make([]byte, 0, len(raw))
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		if _, err := Decode(dst, coded, len(raw)); err != nil {
			b.Fatal(err)
		}
	}
}
