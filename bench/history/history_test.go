package history

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// play makes a history of lines such as
//
//	1-2 deliver a            from second 1 to 2; 1-? is an outcome that nobody knows, 1-2! a refusal
//	3-4 append a +\Seen @7   with flags, and the UID that was answered
//	5-6 store a 7 +\Seen     also - and =
//	5-6 move a 7 other @3
//	7-8 read 7:a[\Seen]#12 next=8 validity=1 highest=12
//
// in mailbox u/box. "other" before a line's operation puts it there: 7-8 other read.
func play(t testing.TB, script string) *History {
	t.Helper()
	h := at(time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC))
	for line := range strings.Lines(script) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		op := Op{Client: "c", Node: "n", Mailbox: "u/box", Outcome: OK}
		if strings.HasSuffix(f[0], "!") {
			op.Outcome = Refused
		}
		from, to, _ := strings.Cut(strings.TrimSuffix(f[0], "!"), "-")
		op.Call = second(t, from)
		if to == "?" {
			op.Outcome, op.Return = Unknown, op.Call+1
		} else {
			op.Return = second(t, to)
		}
		if f = f[1:]; f[0] == "other" {
			op.Mailbox = "u/other"
			f = f[1:]
		}
		op.Kind = Kind(f[0])
		if op.Kind == Read || op.Kind == Base {
			op.Reading = reading(t, f[1:])
		} else {
			op.Message = f[1]
			for _, w := range f[2:] {
				word(t, &op, w)
			}
		}
		if err := op.valid(); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		h.Add(op)
	}
	return h
}

func second(t testing.TB, s string) time.Duration {
	d, err := time.ParseDuration(s + "s")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func number(t testing.TB, s string) uint32 {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}

func word(t testing.TB, op *Op, w string) {
	switch w[0] {
	case '@':
		op.NewUID = number(t, w[1:])
	case '+', '-', '=':
		op.Change = Change(w[:1])
		op.Flags = NewFlags(strings.Split(w[1:], ",")...)
	case '#':
		op.Hash = Sum([]byte(w))
	default:
		if w[0] >= '0' && w[0] <= '9' {
			op.UID = number(t, w)
		} else {
			op.To = "u/" + w
		}
	}
}

func reading(t testing.TB, words []string) *Reading {
	r := &Reading{UIDValidity: 1}
	for _, w := range words {
		if w == "pop3" {
			r.NoUIDs, r.UIDValidity = true, 0
			continue
		}
		if key, value, ok := strings.Cut(w, "="); ok {
			switch key {
			case "next":
				r.UIDNext = number(t, value)
			case "validity":
				r.UIDValidity = number(t, value)
			case "highest":
				r.HighestModSeq = uint64(number(t, value))
			}
			continue
		}
		uid, rest, _ := strings.Cut(w, ":")
		rest, content, _ := strings.Cut(rest, "#")
		id, flags, _ := strings.Cut(strings.TrimSuffix(rest, "]"), "[")
		s := Seen{ID: id, UID: number(t, uid), Flags: NewFlags(strings.Split(flags, ",")...)}
		if content, modseq, _ := strings.Cut(content, "~"); content != "" {
			s.Hash = Sum([]byte("#" + content))
		} else if modseq != "" {
			s.ModSeq = uint64(number(t, modseq))
		}
		r.Messages = append(r.Messages, s)
	}
	return r
}

var plays = []struct {
	name, script string
	want         string // rules, or rule/number of operations shown
}{
	{"there", "1-2 deliver a\n 3-4 read 1:a", ""},
	{"lost", "1-2 deliver a\n 3-4 read", "lost/2"},
	{"lost among others", "1-2 deliver a\n 1-2 deliver b\n 3-4 read 1:b\n 5-6 read 1:b", "lost/2"},
	{"lost after it was there", "1-2 deliver a\n 3-4 read 1:a\n 5-6 read\n 7-8 read", "lost/2"},
	{"not yet there", "1-4 deliver a\n 2-3 read\n 5-6 read 1:a", ""},
	{"already there", "1-5 deliver a\n 2-3 read 1:a\n 4-6 read 1:a", ""},
	{"there and away again while it comes", "1-9 deliver a\n 2-3 read 1:a\n 4-5 read", "lost/2"},
	{"refused and not there", "1-2! deliver a\n 3-4 read", ""},
	{"refused and there", "1-2! deliver a\n 3-4 read 1:a", "foreign"},
	{"unknown and not there", "1-? deliver a\n 3-4 read", ""},
	{"unknown and there much later", "1-? deliver a\n 3-4 read\n 5-6 read 1:a", ""},
	{"unknown, there, lost", "1-? deliver a\n 5-6 read 1:a\n 7-8 read", "lost/2"},
	{"stale on one node", "1-2 deliver a\n 3-4 read\n 5-6 read 1:a", "stale/2"},
	{"stale flags", "1-2 deliver a\n 3-4 store a 1 +x\n 5-6 read 1:a\n 7-8 read 1:a[x]", "stale/2"},

	{"twice after two attempts", "1-? deliver a\n 2-3 deliver a\n 4-5 read 1:a 2:a", ""},
	{"once after two attempts", "1-? deliver a\n 2-3 deliver a\n 4-5 read 1:a", ""},
	{"twice, the first late", "1-? deliver a\n 2-3 deliver a\n 4-5 read 1:a\n 6-7 read 1:a 2:a", ""},
	{"twice after one", "1-2 deliver a\n 4-5 read 1:a 2:a", "doubled/2"},
	{"twice after one was refused", "1-2! deliver a\n 2-3 deliver a\n 4-5 read 1:a 2:a", "doubled"},
	{"twice, in turn", "1-2 deliver a\n 3-4 read 1:a\n 5-6 read 2:a", "doubled"},
	{"both acknowledged, one there", "1-2 deliver a\n 3-4 deliver a\n 5-6 read 1:a", "lost/3"},
	{"two attempts, one copy lost", "1-? deliver a\n 2-3 deliver a\n 4-5 read 1:a 2:a\n 6-7 read 2:a", "lost"},
	{"two attempts and a flag on the second", "1-? deliver a\n 2-3 deliver a\n 4-5 read 1:a 2:a\n 6-7 store a 2 +x\n 8-9 read 1:a 2:a[x]", ""},
	{"two attempts and the flag on the wrong one", "1-? deliver a\n 2-3 deliver a\n 4-5 read 1:a 2:a\n 6-7 store a 2 +x\n 8-9 read 1:a[x] 2:a", "flags"},

	{"foreign", "1-2 read 1:a", "foreign/1"},
	{"too early", "1-2 read 1:a\n 3-4 deliver a\n 5-6 read 1:a", "foreign"},
	{"known from before", "1-2 base 1:a[x]\n 3-4 read 1:a[x]", ""},
	{"lost from before", "1-2 base 1:a 2:b\n 3-4 read 1:a", "lost"},
	{"the same", "1-2 deliver a #1\n 3-4 read 1:a#1", ""},
	{"changed", "1-2 deliver a #1\n 3-4 read 1:a#2", "changed/2"},
	{"changed in the other mailbox", "1-2 append a @1 #1\n 3-4 copy a 1 other @1\n 5-6 other read 1:a#2", "changed"},

	{"validity", "1-2 read validity=7\n 3-4 read validity=8", "validity/2"},
	{"descending", "1-2 deliver a\n 1-2 deliver b\n 3-4 read 2:b 1:a", "order/1"},
	{"a UID twice in a reading", "1-2 deliver a\n 1-2 deliver b\n 3-4 read 1:b 1:a", "order renamed"},
	{"UIDs in the order of deliveries", "1-2 deliver a\n 3-4 deliver b\n 5-6 read 1:a 2:b", ""},
	{"UIDs against the order", "1-2 deliver a\n 3-4 deliver b\n 5-6 read 1:b 2:a", "order/3"},
	{"deliveries at once in either order", "1-4 deliver a\n 2-3 deliver b\n 5-6 read 1:b 2:a", ""},
	{"an unknown one has a late UID", "1-? deliver a\n 3-4 deliver b\n 5-6 read 1:b 2:a", ""},
	{"beyond UIDNEXT", "1-2 deliver a\n 3-4 read 5:a next=5", "uidnext/1"},
	{"UIDNEXT falls", "1-2 read next=5\n 3-4 read next=4", "uidnext/2"},
	{"UIDNEXT of overlapping readings", "1-3 read next=5\n 2-4 read next=4", ""},
	{"UIDNEXT does not hold", "1-2 read next=5\n 3-4 deliver a\n 5-6 read 4:a next=6", "order/2"},
	{"renamed", "1-2 deliver a\n 3-4 read 1:a\n 1-2 deliver b\n 5-6 read 1:b", "renamed"},
	{"renamed against an answer", "1-2 append a @1\n 1-2 append b @2\n 3-4 read 1:b 2:a", "renamed renamed"},
	{"an answer given twice", "1-2 append a @1\n 1-2 append b @1", "renamed"},

	{"flag", "1-2 deliver a\n 3-4 store a 1 +x\n 5-6 read 1:a[x]", ""},
	{"lost flag", "1-2 deliver a\n 3-4 store a 1 +x\n 5-6 read 1:a", "flags/2"},
	{"lost flag after many others", "1-2 deliver a\n 3-4 store a 1 +x\n 5-6 read 1:a[x]\n 7-8 store a 1 -x\n 9-10 read 1:a\n 11-12 store a 1 +y\n 13-14 read 1:a[y]\n 15-16 store a 1 +x\n 17-18 read 1:a[y]", "flags/2"},
	{"flag while it is read", "1-2 deliver a\n 3-6 store a 1 +x\n 4-5 read 1:a\n 7-8 read 1:a[x]", ""},
	{"flag there and away", "1-2 deliver a\n 3-8 store a 1 +x\n 4-5 read 1:a[x]\n 6-7 read 1:a\n 9-10 read 1:a[x]", "stale"},
	{"flag of nobody", "1-2 deliver a\n 3-4 read 1:a[x]", "flags"},
	{"unknown flag comes late", "1-2 deliver a\n 3-? store a 1 +x\n 5-6 read 1:a\n 7-8 read 1:a[x]", ""},
	{"unknown flag comes twice", "1-2 deliver a\n 3-? store a 1 +x\n 5-6 read 1:a[x]\n 7-8 store a 1 -x\n 9-10 read 1:a\n 11-12 read 1:a[x]", "flags"},
	{"last written wins", "1-2 deliver a\n 3-4 store a 1 =x\n 5-6 store a 1 =y\n 7-8 read 1:a[y]", ""},
	{"first written wins", "1-2 deliver a\n 3-4 store a 1 =x\n 5-6 store a 1 =y\n 7-8 read 1:a[x]", "flags/2"},
	{"written at once", "1-2 deliver a\n 3-6 store a 1 =x\n 4-5 store a 1 =y\n 7-8 read 1:a[x]", ""},
	{"written at once, both", "1-2 deliver a\n 3-6 store a 1 =x\n 4-5 store a 1 =y\n 7-8 read 1:a[x,y]", "flags"},
	{"append with flags", "1-2 append a +x @1\n 3-4 read 1:a[x]", ""},
	{"append loses its flags", "1-2 append a +x @1\n 3-4 read 1:a", "flags/2"},
	{"case does not count", "1-2 append a +\\SEEN,Foo @1\n 3-4 read 1:a[\\Seen,fOO,\\Recent]", ""},

	{"expunged", "1-2 deliver a\n 3-4 store a 1 +\\Deleted\n 5-6 expunge a 1\n 7-8 read", ""},
	{"expunge of what is not marked", "1-2 deliver a\n 3-4 expunge a 1\n 5-6 read 1:a", ""},
	{"expunge of what is not marked, gone", "1-2 deliver a\n 3-4 expunge a 1\n 5-6 read", "lost/2"},
	{"unmarked meanwhile", "1-2 deliver a\n 3-4 store a 1 +\\Deleted\n 5-8 expunge a 1\n 6-7 store a 1 -\\Deleted\n 9-10 read 1:a", ""},
	{"not expunged", "1-2 deliver a\n 3-4 store a 1 +\\Deleted\n 5-6 expunge a 1\n 7-8 read 1:a[\\Deleted]", "resurrected/3"},
	{"resurrected", "1-2 deliver a\n 3-4 store a 1 +\\Deleted\n 5-6 expunge a 1\n 7-8 read\n 9-10 read 1:a[\\Deleted]", "resurrected"},
	{"unknown expunge", "1-2 deliver a\n 3-4 store a 1 +\\Deleted\n 5-? expunge a 1\n 7-8 read 1:a[\\Deleted]\n 9-10 read", ""},

	{"moved", "1-2 append a +x @1\n 3-4 move a 1 other @5\n 5-6 read\n 5-6 other read 5:a[x]", ""},
	{"moved and still there", "1-2 append a @1\n 3-4 move a 1 other @5\n 5-6 read 1:a\n 5-6 other read 5:a", "resurrected/2"},
	{"moved and lost", "1-2 append a @1\n 3-4 move a 1 other @5\n 5-6 read\n 5-6 other read", "lost/2"},
	{"moved without an answer", "1-2 append a @1\n 3-? move a 1 other\n 5-6 read 1:a\n 5-6 other read\n 7-8 read\n 7-8 other read 5:a", ""},
	{"copied", "1-2 append a +x @1\n 3-4 copy a 1 other @5\n 5-6 read 1:a[x]\n 5-6 other read 5:a[x]", ""},
	{"copied, its flags change", "1-2 append a +x @1\n 3-4 copy a 1 other @5\n 5-6 other read 5:a[x]\n 7-8 other read 5:a", "flags/2"},
	{"copied under another UID", "1-2 append a @1\n 3-4 copy a 1 other @5\n 5-6 other read 6:a", "doubled"},

	{"by POP3", "1-2 deliver a\n 3-4 read pop3 0:a\n 5-6 read 1:a\n 7-8 read pop3 0:a", ""},
	{"by POP3, lost", "1-2 deliver a\n 3-4 read pop3", "lost/2"},
	{"by POP3, stale", "1-2 deliver a\n 3-4 read pop3\n 5-6 read 1:a", "stale/2"},
	{"by POP3, doubled", "1-2 deliver a\n 3-4 read pop3 0:a 0:a", "doubled/2"},
	{"by POP3, moved and still there", "1-2 append a @1\n 3-4 move a 1 other @5\n 5-6 read pop3 0:a\n 5-6 other read 5:a", "resurrected/2"},
	{"by POP3, foreign", "1-2 read pop3 0:a", "foreign/1"},

	{"modseq", "1-2 deliver a\n 3-4 read 1:a#~5\n 5-6 store a 1 +x\n 7-8 read 1:a[x]#~6 highest=6", ""},
	{"modseq stays", "1-2 deliver a\n 3-4 read 1:a#~5\n 5-6 store a 1 +x\n 7-8 read 1:a[x]#~5", "modseq/2"},
	{"modseq falls", "1-2 deliver a\n 3-4 read 1:a#~5\n 5-6 read 1:a#~4", "modseq/2"},
	{"modseq of overlapping readings", "1-2 deliver a\n 3-6 read 1:a#~5\n 4-5 read 1:a#~4", ""},
	{"modseq over the highest", "1-2 deliver a\n 3-4 read 1:a#~5 highest=4", "modseq/1"},
	{"the highest falls", "1-2 read highest=4\n 3-4 read highest=3", "modseq/2"},
}

func TestRules(t *testing.T) {
	for _, tt := range plays {
		t.Run(tt.name, func(t *testing.T) {
			found := play(t, tt.script).Check(context.Background(), CheckOptions{})
			if got := verdict(tt.want, found); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
				for _, v := range found {
					t.Log(v)
				}
			}
		})
	}
}

// verdict lists the rules, with the number of operations where want has it.
func verdict(want string, found []Violation) string {
	var out []string
	for _, v := range found {
		if strings.Contains(want, "/") {
			out = append(out, fmt.Sprintf("%s/%d", v.Rule, len(v.Ops)))
		} else {
			out = append(out, v.Rule)
		}
	}
	return strings.Join(out, " ")
}
