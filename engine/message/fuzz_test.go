package message

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"reflect"
	"testing"
	"unicode/utf8"

	"hongyan/engine/codec"
)

// seeds adds the messages of testdata to a fuzz target.
func seeds(f *testing.F, add func(raw []byte)) {
	files, err := filepath.Glob("testdata/structure/*.eml")
	if err != nil || len(files) == 0 {
		f.Fatalf("%d messages, %v", len(files), err)
	}
	for _, file := range files {
		add(readFile(f, file))
	}
}

// FuzzScanner checks the invariants on any bytes, and that cutting them in two writes changes nothing.
func FuzzScanner(f *testing.F) {
	seeds(f, func(raw []byte) { f.Add(raw, 10) })
	f.Fuzz(func(t *testing.T, raw []byte, at int) {
		s := scan(raw)
		checkSummary(t, s, raw)
		if levels, parts := deepest(s.Structure); levels > MaxDepth || parts > MaxParts {
			t.Fatalf("%d levels, %d parts", levels, parts)
		}
		first := max(at, 1)
		if got := scanPieces(raw, func() int { n := first; first = len(raw); return n }); !reflect.DeepEqual(got, s) {
			t.Fatalf("cut at %d:\n%s\nwhole:\n%s", at, describe(got, raw), describe(s, raw))
		}
		for _, name := range []string{"Subject", "To", "Received"} {
			fields, ok := s.Fields([]string{name})
			if want := FilterHeader(raw[:s.Structure.BodyStart], []string{name}, false); ok && !bytes.Equal(fields, want) {
				t.Fatalf("%s: summary gives %q, bytes give %q", name, fields, want)
			}
		}
	})
}

// FuzzDecode checks that what is decoded has a sound structure and a lasting encoding.
func FuzzDecode(f *testing.F) {
	seeds(f, func(raw []byte) {
		enc, err := scan(raw).Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(enc)
	})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Decode(b)
		if err != nil {
			if !errors.Is(err, codec.ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		parts := 0
		if err := s.Structure.check(1, &parts); err != nil {
			t.Fatal(err)
		}
		s.Fields([]string{"subject"})
		for _, f := range s.Headers {
			_, _ = f.Name(), f.Value()
		}
		for _, path := range [][]int{nil, {1}, {1, 1}, {2, 1, 1}} {
			for _, section := range []Section{Body, Header, Text, MIME} {
				if start, end, ok := s.Range(path, section); ok && (start > end || end > s.Size) {
					t.Fatalf("%v: %d-%d of %d", path, start, end, s.Size)
				}
			}
		}
		if _, err := s.Encode(); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzDecodeHeader checks that a header always becomes UTF-8.
func FuzzDecodeHeader(f *testing.F) {
	for _, v := range []string{"a =?utf-8?B?6bi/6Zs=?= =?utf-8?B?gQ==?=", "=?gbk?q?=CE=D2?=", "\xce\xd2", "=?iso-2022-jp?B?GyRCRnxLXBsoQg==?="} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, v string) {
		if got := DecodeHeader(v); !utf8.ValidString(got) {
			t.Fatalf("%q gives %q", v, got)
		}
		parseDate(v)
		_, params := parseValue(v)
		if got, _ := params.Decoded("name"); !utf8.ValidString(got) {
			t.Fatalf("parameter of %q gives %q", v, got)
		}
	})
}

// FuzzTextReader checks that a text always becomes UTF-8, in the same way however it is read.
func FuzzTextReader(f *testing.F) {
	for _, charset := range []string{"", "utf-8", "gb2312", "big5", "iso-2022-jp", "utf-16", "hz-gb-2312", "windows-1252"} {
		for _, encoding := range []string{"", "base64", "quoted-printable"} {
			f.Add(charset, encoding, []byte("6bi/=E9\n=\xce\xd2~{\x1b$B"))
		}
	}
	f.Fuzz(func(t *testing.T, charset, encoding string, body []byte) {
		p := &Part{Type: "text", Encoding: encoding, Params: Params{{Name: "charset", Value: charset}}}
		got, err := io.ReadAll(TextReader(p, bytes.NewReader(body)))
		if err != nil || !utf8.Valid(got) {
			t.Fatalf("got %q, %v", got, err)
		}
		again, err := io.ReadAll(TextReader(p, io.MultiReader(bytes.NewReader(body[:len(body)/2]), bytes.NewReader(body[len(body)/2:]))))
		if err != nil || !bytes.Equal(got, again) {
			t.Fatalf("in two pieces: %q, %v, whole: %q", again, err, got)
		}
	})
}
