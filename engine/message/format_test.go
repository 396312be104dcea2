package message

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"hongyan/engine/codec"
)

// TestGolden holds encodings against those that were written when the format was made: they must be read for ever,
// and written the same as long as no key is added.
func TestGolden(t *testing.T) {
	for name, golden := range map[string]string{
		"alternative-in-mixed": "testdata/summary-v1.hex",
		"mailing-list":         "testdata/summary-v1-skipped.hex",
		"message-inside":       "testdata/summary-v1-message.hex",
	} {
		s := scan(readFile(t, "testdata/structure/"+name+".eml"))
		enc := mustEncode(t, s)
		if *update {
			if err := os.WriteFile(golden, []byte(hex.Dump(enc)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want := string(readFile(t, golden))
		if got := hex.Dump(enc); got != want {
			t.Errorf("%s: encoding has changed:\n%s", name, got)
		}
		got, err := Decode(undump(t, want))
		if err != nil || !reflect.DeepEqual(got, s) {
			t.Errorf("%s: got %+v, %v, want %+v", name, got, err, s)
		}
	}
}

// undump reads a dump of bytes.
func undump(t *testing.T, dump string) []byte {
	t.Helper()
	var out []byte
	for line := range strings.Lines(dump) {
		digits, _, _ := strings.Cut(line[min(len(line), 10):], "|")
		b, err := hex.DecodeString(strings.Join(strings.Fields(digits), ""))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b...)
	}
	return out
}

// TestDecodeRefuses gives encodings that are well formed but not summaries.
func TestDecodeRefuses(t *testing.T) {
	leaf := func() *Part { return &Part{Type: "text", Subtype: "plain"} }
	deep := leaf()
	for range MaxDepth {
		deep = &Part{Type: "multipart", Subtype: "mixed", Children: []*Part{deep}}
	}
	wide := &Part{Type: "multipart", Subtype: "mixed"}
	for range MaxParts {
		wide.Children = append(wide.Children, leaf())
	}
	for name, s := range map[string]*Summary{
		"version 0":            {Structure: leaf()},
		"newer version":        {Version: Version + 1, Structure: leaf()},
		"no structure":         {Version: Version},
		"structure too short":  {Version: Version, Size: 1, Structure: leaf()},
		"half a hash":          {Version: Version, Structure: leaf(), Skipped: []byte{1}},
		"no type":              {Version: Version, Structure: &Part{}},
		"empty multipart":      {Version: Version, Structure: &Part{Type: "multipart", Subtype: "mixed"}},
		"message without one":  {Version: Version, Structure: &Part{Type: "message", Subtype: "rfc822"}},
		"message, no envelope": {Version: Version, Structure: &Part{Type: "message", Subtype: "rfc822", Children: []*Part{leaf()}}},
		"text with children":   {Version: Version, Structure: &Part{Type: "text", Subtype: "plain", Children: []*Part{leaf()}}},
		"offsets backwards":    {Version: Version, Structure: &Part{Type: "text", Subtype: "plain", BodyStart: 1}},
		"child outside":        {Version: Version, Size: 1, Structure: &Part{Type: "multipart", Subtype: "mixed", BodyEnd: 1, Children: []*Part{{Type: "a", Subtype: "b", BodyEnd: 2}}}},
		"null child":           {Version: Version, Structure: &Part{Type: "multipart", Subtype: "mixed", Children: []*Part{nil}}},
		"too deep":             {Version: Version, Structure: deep},
		"too many":             {Version: Version, Structure: wide},
	} {
		b, err := codec.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Decode(b); !errors.Is(err, codec.ErrMalformed) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	if _, err := Decode(bytes.Repeat([]byte{0}, MaxEncoded+1)); !errors.Is(err, codec.ErrMalformed) {
		t.Errorf("too long: %v", err)
	}
}

// TestNewerKeysAreIgnored reads the summary of a node that knows more.
func TestNewerKeysAreIgnored(t *testing.T) {
	type newer struct {
		Version   uint           `cbor:"1,keyasint"`
		Size      uint64         `cbor:"2,keyasint"`
		Structure map[int]any    `cbor:"5,keyasint"`
		Preview   string         `cbor:"77,keyasint"`
		Extra     map[string]int `cbor:"78,keyasint"`
	}
	b, err := codec.Marshal(newer{1, 4, map[int]any{1: "text", 2: "plain", 14: 4, 99: []int{1}}, "hello", map[string]int{"a": 1}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Decode(b)
	if err != nil || s.Structure.Size != 4 {
		t.Fatalf("got %+v, %v", s, err)
	}
}
