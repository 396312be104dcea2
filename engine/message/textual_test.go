package message

import (
	"bytes"
	"encoding/base64"
	"io"
	"strings"
	"testing"
)

// textualOf gives a message as Textual writes it, and whether it differs.
func textualOf(t *testing.T, raw []byte) ([]byte, bool) {
	t.Helper()
	var out bytes.Buffer
	changed, err := scan(raw).Textual(func(off, n uint64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(raw[off : off+n])), nil
	}, &out)
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), changed
}

func TestTextual(t *testing.T) {
	crlf := func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }
	for _, c := range []struct{ name, in, want string }{
		{"nothing is binary", "Subject: a\n\nb\x00\n", ""},
		{"no body", "Content-Transfer-Encoding: binary\n\n", ""},
		{
			"the message", "Subject: a\nContent-Transfer-Encoding:\n Binary\nTo: b\n\n\x00\xe4\n\n",
			"Subject: a\nTo: b\nContent-Transfer-Encoding: base64\n\nAOQNCg0K",
		},
		{
			"a part among others", "Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: binary\n\npre\x00amble\n--b\n\nplain\n--b\nContent-Transfer-Encoding: binary\n\n" +
				strings.Repeat("\x00", 60) + "\n--b--\nepilogue\n",
			"Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: binary\n\npre\x00amble\n--b\n\nplain\n--b\nContent-Transfer-Encoding: base64\n\n" +
				strings.Repeat("A", 76) + "\nAAAA\n--b--\nepilogue\n",
		},
		{
			"in a message inside", "Content-Type: message/rfc822\nContent-Transfer-Encoding: binary\n\nSubject: c\nContent-Transfer-Encoding: binary\n\n\x00",
			"Content-Type: message/rfc822\nContent-Transfer-Encoding: binary\n\nSubject: c\nContent-Transfer-Encoding: base64\n\nAA==",
		},
		{"said twice", "Content-Transfer-Encoding: binary\nContent-Transfer-Encoding: binary\n\n\x00", "Content-Transfer-Encoding: base64\n\nAA=="},
		{"binary without NUL", "Content-Transfer-Encoding: binary\n\n\xe4\n", ""},
	} {
		got, changed := textualOf(t, []byte(crlf(c.in)))
		if string(got) != crlf(c.want) || changed != (c.want != "") {
			t.Errorf("%s: %v, %q\nwant %q", c.name, changed, got, crlf(c.want))
		}
	}
}

// FuzzTextual checks that nothing binary is left, and that who decodes a part gets what was there.
func FuzzTextual(f *testing.F) {
	seeds(f, func(raw []byte) {
		f.Add(raw)
		f.Add(bytes.ReplaceAll(bytes.ReplaceAll(raw, []byte("base64"), []byte("binary")), []byte("A"), []byte{0}))
	})
	f.Fuzz(func(t *testing.T, raw []byte) {
		out, changed := textualOf(t, raw)
		if !changed {
			return
		}
		was, is := leaves(nil, scan(raw).Structure), leaves(nil, scan(out).Structure)
		if len(was) != len(is) {
			t.Fatalf("%d parts, were %d:\n%q\nwas %q", len(is), len(was), out, raw)
		}
		for i := range is {
			if is[i].Encoding == "binary" && is[i].BodyStart > is[i].HeaderStart && bytes.IndexByte(out[is[i].BodyStart:is[i].BodyEnd], 0) >= 0 {
				t.Fatalf("part %d has NUL:\n%q\nwas %q", i, out, raw)
			}
			if was[i].Encoding == "binary" && is[i].Encoding == "base64" {
				body := bytes.ReplaceAll(out[is[i].BodyStart:is[i].BodyEnd], []byte("\r\n"), nil)
				if want := raw[was[i].BodyStart:was[i].BodyEnd]; base64.StdEncoding.EncodeToString(want) != string(body) {
					t.Fatalf("part %d is %q, was %q", i, body, want)
				}
			}
		}
	})
}

// leaves lists the parts that hold no others.
func leaves(list []*Part, p *Part) []*Part {
	if len(p.Children) == 0 {
		return append(list, p)
	}
	for _, c := range p.Children {
		list = leaves(list, c)
	}
	return list
}
