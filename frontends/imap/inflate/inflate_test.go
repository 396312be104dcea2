package inflate

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/iotest"
)

// errDry is met by a reader that would have to wait for the client.
var errDry = errors.New("nothing more has arrived")

// dry gives b, then errDry.
func dry(b []byte) io.Reader { return io.MultiReader(bytes.NewReader(b), iotest.ErrReader(errDry)) }

func deflated(t testing.TB, level int, parts ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := flate.NewWriter(&b, level)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		_, err := io.WriteString(z, p)
		if err := errors.Join(err, z.Flush()); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// samples are texts that make blocks of each type, matches of each distance, and several windows.
func samples() map[string]string {
	rng := rand.New(rand.NewPCG(3, 4))
	noise := make([]byte, 100_000)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	var words strings.Builder
	for words.Len() < 200_000 {
		fmt.Fprintf(&words, "%d UID FETCH %d (FLAGS)\r\n", rng.IntN(1000), rng.IntN(1_000_000))
	}
	return map[string]string{
		"empty": "", "one": "a", "run": strings.Repeat("a", 70_000), "noise": string(noise), "words": words.String(),
		"far": string(noise[:32_000]) + strings.Repeat("b", 700) + string(noise[:32_000]),
	}
}

func TestReader(t *testing.T) {
	for name, text := range samples() {
		for _, level := range []int{flate.NoCompression, flate.HuffmanOnly, flate.BestSpeed, 6, flate.BestCompression} {
			raw := deflated(t, level, text[:len(text)/3], text[len(text)/3:])
			for how, src := range map[string]io.Reader{"whole": bytes.NewReader(raw), "by byte": iotest.OneByteReader(bytes.NewReader(raw)),
				"late errors": iotest.DataErrReader(bytes.NewReader(raw))} {
				got, err := io.ReadAll(NewReader(src))
				if err != nil || string(got) != text {
					t.Fatalf("%s, level %d, %s: %d bytes, want %d: %v", name, level, how, len(got), len(text), err)
				}
			}
			got, err := io.ReadAll(iotest.OneByteReader(NewReader(bytes.NewReader(raw))))
			if err != nil || string(got) != text {
				t.Fatalf("%s, level %d, read by byte: %d bytes, %v", name, level, len(got), err)
			}
		}
	}
}

// What was flushed is there without a byte of what follows, also when the flush itself is cut off: the four bytes that end a sync flush
// are what a partial flush does not send.
func TestFlushed(t *testing.T) {
	for name, text := range samples() {
		if text == "" {
			continue
		}
		var b bytes.Buffer
		z, err := flate.NewWriter(&b, 6)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.WriteString(z, text)
		if err := errors.Join(err, z.Flush()); err != nil {
			t.Fatal(err)
		}
		for _, raw := range [][]byte{b.Bytes(), b.Bytes()[:b.Len()-4]} {
			got := make([]byte, len(text))
			if _, err := io.ReadFull(NewReader(dry(raw)), got); err != nil || string(got) != text {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
}

// TestPartialFlush: what isync sends of many commands at once, flushed by zlib with Z_PARTIAL_FLUSH.
func TestPartialFlush(t *testing.T) {
	raw, err := os.ReadFile("testdata/partial.deflate")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for i := range 150 {
		fmt.Fprintf(&want, "%d UID FETCH %d (BODY.PEEK[])\r\n", i+7, i+1)
	}
	got, err := io.ReadAll(NewReader(dry(raw)))
	if !errors.Is(err, errDry) || string(got) != want.String() {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}

func TestCorrupt(t *testing.T) {
	for name, raw := range map[string]string{
		"type 3": "\x07", "stored length": "\x00\x01\x00\x00\x00", "distance before the beginning": "\x4b\x04\xc1\x00\x00",
		"no codes": "\x05\x00\x00\x00\x00\x00\x00", "cut off": "\x4b", "nothing": "", "too many codes": "\xfd\xff\xff\xff\xff",
	} {
		got, err := io.ReadAll(NewReader(strings.NewReader(raw)))
		if !errors.Is(err, ErrCorrupt) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	raw := deflated(t, 6, "a", "b")
	if _, err := io.ReadAll(NewReader(dry(raw[:len(raw)-6]))); !errors.Is(err, errDry) {
		t.Errorf("the source's error: %v", err)
	}
}

// FuzzReader holds it against the standard library: the same bytes, and an error where that has one.
func FuzzReader(f *testing.F) {
	for _, text := range samples() {
		f.Add(deflated(f, 6, text[:min(len(text), 2000)]))
	}
	f.Add([]byte("\x4b\x04\xc1\x00\x00"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		const most = 1 << 20
		want, wantErr := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(raw)), most))
		got, err := io.ReadAll(io.LimitReader(NewReader(iotest.HalfReader(bytes.NewReader(raw))), most))
		if wantErr == nil && err == nil && !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, want %d", len(got), len(want))
		}
		if (wantErr == nil) != (err == nil) {
			t.Fatalf("%v, the standard library: %v", err, wantErr)
		}
		if !bytes.HasPrefix(got, want[:min(len(want), len(got))]) {
			t.Fatalf("other bytes before %v", err)
		}
	})
}

func BenchmarkReader(b *testing.B) {
	text := samples()["words"]
	raw := deflated(b, 6, text)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := io.Copy(io.Discard, NewReader(bytes.NewReader(raw))); err != nil {
			b.Fatal(err)
		}
	}
}
