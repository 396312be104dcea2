package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	goimap "github.com/emersion/go-imap/v2"
)

func testLimits() Limits { return Limits{Line: 9000, Literals: 5000, Count: 10, Skip: 20_000} }

// decoder is one on input, which says what it asked for.
func decoder(r io.Reader) (d *Decoder, asked *int) {
	asked = new(int)
	return NewDecoder(r, testLimits(), func() error { *asked++; return nil }), asked
}

// at is a decoder that stands at the start of a command.
func at(t testing.TB, command string) *Decoder {
	t.Helper()
	d, _ := decoder(strings.NewReader(command + "\r\n"))
	if err := d.Next(); err != nil {
		t.Fatal(err)
	}
	return d
}

func isBad(err error) bool {
	var answer *goimap.Error
	return errors.As(err, &answer) && answer.Type == goimap.StatusResponseTypeBad
}

// Commands come in pieces of every size, and their literals are taken, kept or left.
func TestFraming(t *testing.T) {
	long := strings.Repeat("x", 2*inputSize)
	input := "a NOOP\r\n" + "b X {5}\r\nhello {3+}\r\nabc\r\n" + "c X {6+}\r\nNOOP\r\n {4+}\r\nd X\n\r\n" + "d " + long + "\r\n" +
		fmt.Sprintf("e X {%d+}\r\n%s\r\n", len(long), long) + "f X {7}\r\ng ~{2+}\r\n\x00\x01\r\n" + "h\n"
	for name, r := range map[string]io.Reader{
		"whole": strings.NewReader(input), "bytes": iotest.OneByteReader(strings.NewReader(input)), "halves": iotest.HalfReader(strings.NewReader(input)),
		"with its end": iotest.DataErrReader(strings.NewReader(input)),
	} {
		t.Run(name, func(t *testing.T) {
			d, asked := decoder(r)
			next := func(tag string) {
				t.Helper()
				if err := d.Next(); err != nil {
					t.Fatal(err)
				}
				if got := d.Tag(); got != tag {
					t.Fatalf("tag %q, want %q", got, tag)
				}
			}
			finish := func() {
				t.Helper()
				if err := d.Finish(); err != nil {
					t.Fatal(err)
				}
			}
			next("a")
			d.Release()
			next("b")
			d.Take(func(c byte) bool { return c != 0 })
			first, err := d.String()
			if err != nil || string(first) != "hello" || *asked != 1 || d.SP() != nil {
				t.Fatal(string(first), err, *asked)
			}
			second, err := d.String()
			if err != nil || string(second) != "abc" || *asked != 1 || d.End() != nil {
				t.Fatal(string(second), err, *asked)
			}
			finish()
			next("c")
			finish()
			next("d")
			if d.SP() != nil || len(d.Take(IsAtomChar)) != len(long) {
				t.Fatal("a long line was cut")
			}
			finish()
			next("e")
			d.Take(func(c byte) bool { return c != 0 })
			l, err := d.Stream()
			if err != nil || l.Open() != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(io.LimitReader(l, 100)); err != nil || len(got) != 100 {
				t.Fatal(err)
			}
			finish() // in the middle of the literal
			next("f")
			finish() // nothing follows: the client waits to be asked
			next("g")
			d.SP()
			if l, err := d.Stream(); err != nil || !l.Binary || l.Size != 2 {
				t.Fatal(l, err)
			}
			finish()
			next("h")
			if err := d.Next(); !errors.Is(err, io.EOF) || *asked != 1 {
				t.Fatal(err, *asked)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	for _, c := range []struct {
		name, input string
		want        error
	}{
		{"line", "a " + strings.Repeat("x", 9000), ErrTooLong},
		{"line without an end", "a " + strings.Repeat("x", 100_000), ErrTooLong},
		{"lines together", "a {1+}\r\nx" + strings.Repeat(strings.Repeat("y", 80)+" {1+}\r\nx", 200), ErrTooLong},
		{"literal that is skipped", "a {20001+}\r\n", ErrTooLong},
		{"literal of any size", "a {999999999999999999999999+}\r\n", ErrTooLong},
		{"NUL", "a \x00\r\n", ErrOctet},
		{"carriage return", "a \rb\r\n", ErrOctet},
	} {
		d, _ := decoder(strings.NewReader(c.input))
		err := d.Next()
		if err == nil {
			err = d.Finish()
		}
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	var many strings.Builder
	many.WriteString("a")
	for range 20 {
		many.WriteString(" {1+}\r\nx")
	}
	for name, input := range map[string]string{
		"kept literal": "a {5001}", "quoted": `a "abc`, "escape": `a "\n"`, "escape at the end": `a "\`, "string": "a b", "NUL": "a {1+}\r\n\x00",
		"literals": many.String(), "literal in the middle": "a {5} b",
	} {
		d := at(t, input)
		d.Tag()
		var err error
		for err == nil && d.SP() == nil {
			_, err = d.String()
		}
		if !isBad(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	d := at(t, strings.Repeat("(", 1000))
	var deep func() error
	deep = func() error { return d.List(deep) }
	if err := deep(); err == nil {
		t.Error("lists in lists without an end")
	}
}

func TestSets(t *testing.T) {
	for in, want := range map[string]string{
		"1": "1", "1,2:4": "1,2:4", "4:2": "2:4", "*": "*", "*:5": "5:*", "5:*": "5:*", "*:*": "*", "4294967295": "4294967295", "$": "$",
	} {
		d := at(t, in)
		got, err := d.UIDSet()
		if err != nil || got.String() != want || d.End() != nil {
			t.Errorf("%s: %v %v", in, got, err)
		}
		if seqs, err := at(t, in).SeqSet(); err != nil || seqs.String() != want {
			t.Errorf("%s: %v %v", in, seqs, err)
		}
	}
	for _, in := range []string{"", "0", "1,", ",1", "1:", ":1", "1,,2", "4294967296", "-1", "a", "1:0", "99999999999999999999"} {
		d := at(t, in)
		if got, err := d.UIDSet(); err == nil && d.End() == nil {
			t.Errorf("%s: %v", in, got)
		}
	}
}

func TestTokens(t *testing.T) {
	for _, in := range []string{"", "a b", "+", "a+b", strings.Repeat("x", maxTag+1), "(a)", "a\x7f"} {
		d := at(t, in)
		if tag := d.Tag(); tag != "" && tag != "a" {
			t.Errorf("%q is a tag: %q", in, tag)
		}
	}
	for in, ok := range map[string]bool{
		"1-Feb-2020": true, `"01-feb-2020"`: true, "31-Feb-2020": false, `"1-Feb-2020`: false, "Feb": false, "": false,
	} {
		d := at(t, in)
		if _, err := d.Date(); (err == nil && d.End() == nil) != ok {
			t.Errorf("date %s: %v", in, err)
		}
	}
	for in, ok := range map[string]bool{
		`" 1-Feb-2020 03:04:05 -0730"`: true, `"01-Feb-2020 03:04:05 +0000"`: true, `"1-Feb-2020"`: false, "x": false, `"01-Feb-2020 25:04:05 +0000"`: false,
	} {
		if _, err := at(t, in).DateTime(); (err == nil) != ok {
			t.Errorf("date-time %s: %v", in, err)
		}
	}
	if s, ok, err := at(t, "nil").NString(); s != nil || ok || err != nil {
		t.Error(s, ok, err)
	}
	if flags, err := at(t, `(\Seen $A b)`).Flags(); err != nil || len(flags) != 3 {
		t.Error(flags, err)
	}
	for _, in := range []string{`(\)`, `(\Seen  b)`, `(a`, `a`, `(")`, `({1}`} {
		if flags, err := at(t, in).Flags(); err == nil {
			t.Errorf("%s: %v", in, flags)
		}
	}
	if n, err := at(t, "9223372036854775808").Number(); err == nil {
		t.Error(n)
	}
}

func TestMailboxNames(t *testing.T) {
	for _, c := range []struct{ wire, name string }{
		{"INBOX", "INBOX"}, {"&V4NXPpCuTvY-", "垃圾邮件"}, {"a&-b", "a&b"}, {"&2D3eAA-", "😀"}, {"x/&ZeVnLIqe-/y", "x/日本語/y"}, {"&AAoADQ-", "\n\r"},
	} {
		if got, err := decodeUTF7(c.wire); err != nil || got != c.name {
			t.Errorf("%s: %q %v", c.wire, got, err)
		}
		if got := encodeUTF7(c.name); got != c.wire {
			t.Errorf("%q: %s, want %s", c.name, got, c.wire)
		}
	}
	for _, in := range []string{"&", "&x", "&AGE-", "&ZeU", "&ZeU-&Zyw-", "&2D0-", "&3gA-", "&ZeV-", "&****-"} {
		if got, err := decodeUTF7(in); err == nil {
			t.Errorf("%s: %q", in, got)
		}
	}
	if _, err := at(t, `"&x"`).Mailbox(); err == nil || isBad(err) {
		t.Errorf("a name that is none: %v", err)
	}
	if p, err := at(t, `"&x*"`).Pattern(); err != nil || p != "&x*" {
		t.Error(p, err)
	}
	d := at(t, `"a&b垃"`)
	d.SetUTF8()
	if name, err := d.Mailbox(); err != nil || name != "a&b垃" {
		t.Error(name, err)
	}
}

// Tokens of a usual command cost no memory but for what is kept.
func TestAllocations(t *testing.T) {
	input := []byte("a7 UID FETCH 1:4,9 (FLAGS)\r\n")
	r := bytes.NewReader(nil)
	d, _ := decoder(r)
	n := testing.AllocsPerRun(100, func() {
		r.Reset(input)
		if err := d.Next(); err != nil {
			t.Fatal(err)
		}
		if d.Tag() == "" || !d.Try(' ') || len(d.Take(IsAtomChar)) == 0 || !d.Try(' ') || len(d.Take(IsAtomChar)) == 0 || !d.Try(' ') {
			t.Fatal("not as expected")
		}
		if set, err := d.UIDSet(); err != nil || len(set) != 2 {
			t.Fatal(set, err)
		}
	})
	if n > 3 { // the tag, and the set as it grows
		t.Errorf("%v allocations", n)
	}
}

// FuzzDecoder takes tokens as a plan says from arbitrary input. Nothing of a literal may be taken for a command.
func FuzzDecoder(f *testing.F) {
	f.Add([]byte("a X {3+}\r\nabc\r\nb LIST \"\" (a \"b\\\"\")\r\n"), []byte{0, 1, 2, 3, 4, 5})
	f.Add([]byte("a UID FETCH 1:*,$ (BODY[1.2] ~{3}\r\n\x00\x00\x00)\r\n"), []byte{9, 1, 8, 7, 6, 5, 4, 3, 2, 1})
	f.Fuzz(func(t *testing.T, input, plan []byte) {
		d, _ := decoder(iotest.HalfReader(bytes.NewReader(input)))
		rng := rand.New(rand.NewPCG(uint64(len(plan)), uint64(len(input))))
		for d.Next() == nil {
			d.Tag()
			for _, b := range plan {
				take(d, int(b)+rng.IntN(2))
			}
			if d.Finish() != nil {
				return
			}
			d.Release()
		}
	})
}

// take takes one token of some kind; whether it is there does not matter.
func take(d *Decoder, kind int) {
	var err error
	switch kind % 14 {
	case 0:
		err = d.SP()
	case 1:
		_, err = d.Atom()
	case 2:
		_, err = d.AString()
	case 3:
		_, _, err = d.NString()
	case 4:
		_, err = d.Number()
	case 5:
		_, err = d.SeqSet()
	case 6:
		_, err = d.UIDSet()
	case 7:
		_, err = d.Flags()
	case 8:
		_, err = d.Date()
	case 9:
		_, err = d.DateTime()
	case 10:
		_, err = d.Mailbox()
	case 11:
		_, err = d.Pattern()
	case 12:
		_, err = d.Word()
	case 13:
		if l, err := d.Stream(); err == nil && l.Size < 1000 && l.Open() == nil {
			_, _ = io.Copy(io.Discard, l)
			_ = l.Close()
		}
	}
	_ = err // whatever it is, Finish finds the next command
}

func FuzzUTF7(f *testing.F) {
	f.Add("&V4NXPpCuTvY-")
	f.Add("a&b😀\x00é")
	f.Fuzz(func(t *testing.T, s string) {
		if name, err := decodeUTF7(s); err == nil && strings.Trim(s, "&-+,abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/") == "" {
			if again := encodeUTF7(name); again != s {
				t.Fatalf("%q is %q, which is %q", s, name, again)
			}
		}
		if valid := strings.ToValidUTF8(s, "?"); valid != "" {
			if back, err := decodeUTF7(encodeUTF7(valid)); err != nil || back != valid {
				t.Fatalf("%q became %q: %v", valid, back, err)
			}
		}
	})
}
