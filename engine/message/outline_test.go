package message

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"hongyan/engine/codec"
	"hongyan/engine/effort"
)

var outlineNames = []string{"Subject", "from", "To", "Received", "X-Loop", "References", "x-odd"}

// checkOutline holds an outline against what Decode says of the same bytes, which it can read. If they are odd, the outline may leave them to Decode.
func checkOutline(t *testing.T, o *Outline, enc []byte, whole *Summary, odd bool) {
	t.Helper()
	if !o.Read(enc) {
		if !whole.Degraded && !odd {
			t.Fatalf("no outline of a summary that can be decoded: %x", enc)
		}
		return
	}
	env, ok := o.Envelope()
	if ok && !reflect.DeepEqual(env, &whole.Envelope) || !ok && !odd || o.SentDate() != whole.SentDate {
		t.Fatalf("got %+v, %v, sent %d, want %+v, %d", env, ok, o.SentDate(), whole.Envelope, whole.SentDate)
	}
	for _, name := range outlineNames {
		got, known := o.Fields([]string{name})
		want, wantKnown := whole.Fields([]string{name})
		if known != wantKnown || !bytes.Equal(got, want) {
			t.Fatalf("%s: got %q, %v, want %q, %v", name, got, known, want, wantKnown)
		}
	}
}

// TestOutlineSaysWhatDecodeSays goes through random messages, in one outline.
func TestOutlineSaysWhatDecodeSays(t *testing.T) {
	rng := rand.New(rand.NewPCG(10, 29))
	pick := func(of ...string) string { return of[rng.IntN(len(of))] }
	var o Outline
	for range effort.Of(300, 3000, 30_000) {
		var b strings.Builder
		for range rng.IntN(30) {
			fmt.Fprintf(&b, "%s: %s\r\n", pick("Subject", "From", "To", "Cc", "Date", "X-Loop", "X-Odd", fmt.Sprint("X-", rng.IntN(1000)), "References", "Received"),
				pick("", "a <a@b.test>, \"C, D\" <c@d.test>", "=?utf-8?B?6bi/6Zs=?=", "Mon, 2 Mar 2026 08:00:00 +0800", "1 Jan 1950 00:00 +0000", "\xff\xfe", strings.Repeat("long\r\n ", rng.IntN(3000))))
		}
		raw := []byte(b.String() + pick("", "\r\n", "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\na\r\n--x\r\n\r\nb\r\n", "\r\ntext"))
		s := scan(raw)
		enc := mustEncode(t, s)
		whole, err := Decode(enc)
		if err != nil {
			t.Fatal(err)
		}
		checkOutline(t, &o, enc, whole, false)
	}
}

// TestOutlineRefuses gives what only Decode may judge.
func TestOutlineRefuses(t *testing.T) {
	leaf := &Part{Type: "text", Subtype: "plain"}
	for name, v := range map[string]any{
		"newer version": &Summary{Version: Version + 1, Structure: leaf},
		"no structure":  &Summary{Version: Version},
		"half a hash":   &Summary{Version: Version, Structure: leaf, Skipped: []byte{1}},
		"degraded":      &Summary{Version: Version, Structure: leaf, Degraded: true},
		"no map":        []int{1},
		"other keys":    map[string]int{"a": 1},
	} {
		b, err := codec.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if new(Outline).Read(b) {
			t.Errorf("%s: read", name)
		}
	}
	whole := mustEncode(t, scan(typical()))
	for i := range whole {
		if new(Outline).Read(whole[:i]) {
			t.Fatalf("the first %d bytes of %d were read", i, len(whole))
		}
	}
	for name, b := range map[string][]byte{
		"key twice": {0xa3, 1, 1, 5, 0xa0, 5, 0xa0}, "trailing": append(bytes.Clone(whole), 0), "tag": {0xa2, 1, 1, 5, 0xc0, 0xa0},
		"huge map": {0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1}, "huge array": {0xa2, 1, 1, 5, 0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	} {
		if new(Outline).Read(b) {
			t.Errorf("%s: read", name)
		}
	}
}

// FuzzOutline holds an outline against Decode, on any bytes.
func FuzzOutline(f *testing.F) {
	seeds(f, func(raw []byte) {
		enc, err := scan(raw).Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(enc)
	})
	f.Fuzz(func(t *testing.T, b []byte) {
		var o Outline
		read := o.Read(b)
		whole, err := Decode(b)
		switch {
		case !read:
			return
		case err == nil:
			checkOutline(t, &o, b, whole, true)
		default: // a structure that makes no sense, or an envelope
			o.Envelope()
			o.Fields(outlineNames)
		}
	})
}
