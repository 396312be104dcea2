package history

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden is a history with each kind of operation, and a violation.
const golden = `
	1-2 base 1:<old@x>[\Seen]#0
	2-3 deliver <a@x> #1
	2.5-? deliver <b@x> #2
	3-4! append <c@x> +$Blue #3
	3-4 append <c@x> +$Blue @3 #3
	5-6 store <a@x> 2 +\Flagged
	5-6 copy <a@x> 2 other @1
	6-7 move <c@x> 3 other @2
	6-7 store <old@x> 1 =\Deleted
	7-8 expunge <old@x> 1
	8-9 read 2:<a@x>#~9 next=4 validity=1 highest=12
	8-9 other read 1:<a@x>#1 2:<c@x>[$blue] next=3
`

// TestGolden holds the form on disk, and the table of a violation, byte for byte.
func TestGolden(t *testing.T) {
	h := play(t, golden)
	var saved, shown bytes.Buffer
	if err := h.Save(&saved); err != nil {
		t.Fatal(err)
	}
	for _, v := range h.Check(context.Background(), CheckOptions{}) {
		shown.WriteString(v.String())
	}
	for name, got := range map[string][]byte{"history.jsonl": saved.Bytes(), "violation.txt": shown.Bytes()} {
		file := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(file, got, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
	}
}

func TestLoadGivesWhatWasSaved(t *testing.T) {
	for seed := range uint64(10) {
		h := execution(seed, 100)
		var first, second bytes.Buffer
		if err := h.Save(&first); err != nil {
			t.Fatal(err)
		}
		again, err := Load(bytes.NewReader(first.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		if err := again.Save(&second); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Fatalf("seed %d: saved again it differs", seed)
		}
		if found := again.Check(context.Background(), CheckOptions{}); len(found) > 0 {
			t.Fatalf("seed %d: %v", seed, found[0])
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	const begin = `{"hongyan_history":1,"began":"2026-03-01T09:00:00Z"}` + "\n"
	tests := []struct{ name, in, want string }{
		{"nothing", "", "line 1: unexpected EOF"},
		{"something else", "{}\n", "version 0"},
		{"a later version", `{"hongyan_history":2,"began":"2026-03-01T09:00:00Z"}`, "version 2, and this program reads version 1"},
		{"a field it does not know", begin + `{"kind":"read","mood":"good"}`, `line 2: json: unknown field "mood"`},
		{"a kind it does not know", begin + `{"kind":"sing","mailbox":"m","outcome":"ok"}`, `line 2: kind "sing"`},
		{"no outcome", begin + `{"kind":"read","mailbox":"m"}`, `line 2: outcome ""`},
		{"backwards", begin + `{"kind":"deliver","mailbox":"m","message":"a","outcome":"ok","call":2,"return":1}`, "interval from 2 to 1"},
		{"two in a line", begin + `{"kind":"deliver","mailbox":"m","message":"a","outcome":"ok"}{}`, "more than one value"},
		{"a short hash", begin + `{"kind":"deliver","mailbox":"m","message":"a","outcome":"ok","hash":"12"}`, "a hash of 2 digits"},
		{"no UID", begin + `{"kind":"expunge","mailbox":"m","message":"a","outcome":"ok"}`, "expunge without a UID"},
		{"nothing read", begin + `{"kind":"read","mailbox":"m","outcome":"ok"}`, "with a reading: false"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Load(strings.NewReader(tt.in)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// FuzzLoad: whatever the bytes, Load refuses them or gives a history that can be checked, and that is the same when it is saved and loaded.
func FuzzLoad(f *testing.F) {
	whole, err := os.ReadFile(filepath.Join("testdata", "history.jsonl"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	for _, p := range plays {
		var b bytes.Buffer
		if err := play(f, p.script).Save(&b); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		h, err := Load(bytes.NewReader(in))
		if err != nil {
			return
		}
		var first, second bytes.Buffer
		if err := h.Save(&first); err != nil {
			t.Fatal(err)
		}
		again, err := Load(&first)
		if err != nil {
			t.Fatalf("saved, and not loaded: %v", err)
		}
		if err := again.Save(&second); err != nil {
			t.Fatal(err)
		}
		o := CheckOptions{Patience: 100_000_000}
		shown := func(h *History) (out string) {
			for _, v := range h.Check(context.Background(), o) {
				if v.Rule != "undecided" {
					out += v.String()
				}
			}
			return out
		}
		if one, two := shown(h), shown(again); one != two && h.Len() < 10 {
			t.Errorf("the violations differ:\n%s\n%s", one, two)
		}
	})
}

func TestWithoutTrace(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", ""},
		{"Received: a", ""},
		{"Received: a\r\n b\r\n\tc\r\nSubject: d\r\n", "Subject: d\r\n"},
		{"RETURN-PATH: <>\nreceived: a\nDelivered-To: x\n\nbody", "\nbody"},
		{"Subject: d\r\nReceived: a\r\n", "Subject: d\r\nReceived: a\r\n"},
		{"no colon at all", "no colon at all"},
	}
	for _, tt := range tests {
		if got := string(WithoutTrace([]byte(tt.in))); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.in, got, tt.want)
		}
	}
}
