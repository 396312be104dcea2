package wire

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func piece(h header, payload string) []byte {
	h.length = uint32(len(payload))
	return append(appendHeader(nil, h), payload...)
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func readAll(b []byte, limit int) (frames []Frame, err error) {
	r := newFrameReader(bytes.NewReader(b), limit)
	for {
		f, err := r.next()
		if err != nil {
			return frames, err
		}
		frames = append(frames, f)
	}
}

func TestFrames(t *testing.T) {
	whole := piece(header{kind: 1, channel: 7, id: 9, total: 3}, "abc")
	cases := []struct {
		name string
		in   []byte
		want string // payloads in order, each with a dot after it
		err  error
	}{
		{"none", nil, "", io.EOF},
		{"one", whole, "abc.", io.EOF},
		{"empty payload", piece(header{kind: 1}, ""), ".", io.EOF},
		{"cut in the header", whole[:10], "", io.ErrUnexpectedEOF},
		{"cut after the header", whole[:HeaderSize], "", io.ErrUnexpectedEOF},
		{"cut in the payload", whole[:HeaderSize+1], "", io.ErrUnexpectedEOF},
		{"pieces", join(
			piece(header{kind: 1, id: 1, total: 4, flags: flagMore}, "ab"),
			piece(header{kind: 1, id: 1, total: 4}, "cd")), "abcd.", io.EOF},
		{"pieces of two payloads and a whole one between", join(
			piece(header{kind: 1, id: 1, total: 4, flags: flagMore}, "ab"),
			piece(header{kind: 1, id: 2, total: 3, flags: flagMore}, "x"),
			whole,
			piece(header{kind: 1, id: 2, total: 3}, "yz"),
			piece(header{kind: 1, id: 1, total: 4}, "cd")), "abc.xyz.abcd.", io.EOF},
		{"given up half way, then anew", join(
			piece(header{kind: 1, id: 1, total: 4, flags: flagMore}, "ab"),
			piece(header{kind: 1, id: 1, total: 4, flags: flagDrop}, ""),
			piece(header{kind: 1, id: 1, total: 2}, "xy")), "xy.", io.EOF},
		{"given up before it began", piece(header{kind: 1, id: 1, total: 4, flags: flagDrop}, ""), "", io.EOF},
		{"last without first", piece(header{kind: 1, total: 4}, "cd"), "", ErrMalformed},
		{"more than announced", join(
			piece(header{kind: 1, id: 1, total: 4, flags: flagMore}, "abc"),
			piece(header{kind: 1, id: 1, total: 4}, "cd")), "", ErrMalformed},
		{"less than announced", join(
			piece(header{kind: 1, id: 1, total: 4, flags: flagMore}, "a"),
			piece(header{kind: 1, id: 1, total: 4}, "b")), "", ErrMalformed},
		{"announced otherwise", join(
			piece(header{kind: 1, id: 1, total: 4, flags: flagMore}, "ab"),
			piece(header{kind: 1, id: 1, total: 3}, "c")), "", ErrMalformed},
		{"over the limit", piece(header{kind: 1, total: 1001, flags: flagMore}, "a"), "", ErrMalformed},
		{"empty piece", piece(header{kind: 1, total: 10, flags: flagMore}, ""), "", ErrMalformed},
		{"unknown flags", piece(header{kind: 1, total: 3, flags: 4}, "abc"), "", ErrMalformed},
		{"longer than its payload", piece(header{kind: 1, total: 2}, "abc"), "", ErrMalformed},
		{"another version", append([]byte{0, 0, 0, 0, 2}, make([]byte, HeaderSize)...), "", ErrMalformed},
	}
	for _, c := range cases {
		frames, err := readAll(c.in, 1000)
		got := ""
		for _, f := range frames {
			got += string(f.Payload) + "."
		}
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: got %q, %v", c.name, got, err)
		}
	}
}

func TestUnfinishedPayloadsAreBounded(t *testing.T) {
	var b []byte
	for id := range uint64(maxPartial + 1) {
		b = append(b, piece(header{id: id, total: 2, flags: flagMore}, "x")...)
	}
	if _, err := readAll(b, 1000); !errors.Is(err, ErrMalformed) {
		t.Errorf("got %v", err)
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(piece(header{kind: 1, channel: 7, id: 9, total: 3}, "abc"))
	f.Add(join(piece(header{kind: 1, id: 1, total: 4, flags: flagMore}, "ab"), piece(header{kind: 1, id: 1, total: 4}, "cd")))
	f.Fuzz(func(t *testing.T, b []byte) {
		frames, err := readAll(b, 4096)
		if err == nil {
			t.Fatal("no end")
		}
		for _, frame := range frames {
			if len(frame.Payload) > 4096 {
				t.Fatalf("a payload of %d bytes", len(frame.Payload))
			}
		}
	})
}
