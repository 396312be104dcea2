package codec

import (
	"bytes"
	"errors"
	"testing"
)

type inner struct {
	Name string `cbor:"1,keyasint,omitempty"`
}

type sample struct {
	ID    uint64   `cbor:"1,keyasint"`
	List  []inner  `cbor:"2,keyasint,omitempty"`
	Bytes []byte   `cbor:"3,keyasint,omitempty"`
	Hash  [32]byte `cbor:"4,keyasint"`
}

func TestRoundTripIsDeterministic(t *testing.T) {
	in := sample{ID: 7, List: []inner{{"鸿雁"}, {"\xff not UTF-8"}}, Bytes: []byte{0, 1}}
	in.Hash[31] = 9
	a, err := Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Marshal(&in)
	if err != nil || !bytes.Equal(a, b) {
		t.Fatalf("two encodings differ: %x, %x, %v", a, b, err)
	}
	var out sample
	if err := Unmarshal(a, &out); err != nil {
		t.Fatal(err)
	}
	if out.ID != in.ID || len(out.List) != 2 || out.List[1] != in.List[1] || out.Hash != in.Hash {
		t.Fatalf("got %+v", out)
	}
}

func TestNewerFieldsAreIgnored(t *testing.T) {
	newer := struct {
		ID    uint64 `cbor:"1,keyasint"`
		Added string `cbor:"99,keyasint"`
	}{7, "from the future"}
	b, err := Marshal(newer)
	if err != nil {
		t.Fatal(err)
	}
	var out sample
	if err := Unmarshal(b, &out); err != nil || out.ID != 7 {
		t.Fatalf("got %+v, %v", out, err)
	}
}

func TestRefused(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty":              {},
		"trailing bytes":     {0xa0, 0x00},
		"duplicate key":      {0xa2, 0x01, 0x01, 0x01, 0x02},
		"indefinite length":  {0xbf, 0xff},
		"array without end":  {0xa1, 0x02, 0x9a, 0xff, 0xff, 0xff, 0xff},
		"bytes without end":  {0xa1, 0x03, 0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"nested beyond sane": bytes.Repeat([]byte{0x81}, 200),
	} {
		var out sample
		if err := Unmarshal(b, &out); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func FuzzUnmarshal(f *testing.F) {
	seed, err := Marshal(sample{ID: 1, List: []inner{{"x"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, b []byte) {
		var v sample
		if Unmarshal(b, &v) != nil {
			return
		}
		first, err := Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var again sample
		if err := Unmarshal(first, &again); err != nil {
			t.Fatalf("own encoding refused: %v", err)
		}
	})
}
