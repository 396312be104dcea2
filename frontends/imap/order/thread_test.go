package order

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// text writes threads as THREAD does.
func text(f *Forest) string {
	var b strings.Builder
	prev := Close
	for tok := range f.Tokens() {
		if prev == Message && tok.Kind != Close {
			b.WriteByte(' ')
		}
		switch tok.Kind {
		case Open:
			b.WriteByte('(')
		case Close:
			b.WriteByte(')')
		default:
			fmt.Fprint(&b, tok.UID)
		}
		prev = tok.Kind
	}
	return b.String()
}

// letter is a message.
type letter struct {
	UID     uint32
	Sent    int64
	Subject string
	Mail
}

var hasher = NewHasher()

func (t *Threads) letter(m *letter) {
	t.Add(m.UID, m.Sent, hasher.AppendTopic(nil, m.Subject), hasher.AppendLinks(nil, &m.Mail))
}

func (t *Threads) subject(m *letter) {
	t.AddSubject(m.UID, m.Sent, hasher.AppendTopic(nil, m.Subject))
}

// mail is a message in short: its id, subject, and the ids that it refers to.
func mail(uid uint32, id, subject, refs string) *letter {
	m := &letter{UID: uid, Sent: int64(uid), Subject: subject}
	if id != "" {
		m.MessageID = "<" + id + "@x>"
	}
	for _, r := range strings.Fields(refs) {
		m.References += "<" + r + "@x> "
	}
	return m
}

func TestReferences(t *testing.T) {
	for _, c := range []struct {
		name string
		list []*letter
		want string
	}{
		{"none", nil, ""},
		{"one", []*letter{mail(1, "a", "s", "")}, "(1)"},
		{"chain", []*letter{mail(1, "a", "s", ""), mail(2, "b", "s", "a"), mail(3, "c", "s", "a b")}, "(1 2 3)"},
		{"branches", []*letter{mail(3, "a", "s", ""), mail(6, "b", "s", "a"), mail(4, "c", "s", "a b"), mail(23, "d", "s", "a b c"), mail(44, "e", "s", "a b"), mail(7, "f", "s", "a b e"), mail(96, "g", "s", "a b e f")}, "(3 6 (4 23)(44 7 96))"},
		{"child before parent", []*letter{mail(1, "b", "s", "a"), mail(2, "a", "s", "")}, "(2 1)"},
		{"missing parent of one", []*letter{mail(1, "b", "s", "a")}, "(1)"},
		{"missing parent of two", []*letter{mail(3, "b", "s", "a"), mail(5, "c", "t", "a")}, "((3)(5))"},
		{"missing in between", []*letter{mail(1, "a", "s", ""), mail(2, "c", "s", "a b"), mail(3, "d", "s", "a b")}, "(1 (2)(3))"},
		{"missing root of a tree", []*letter{mail(1, "c", "s", "r a"), mail(2, "d", "s", "r b"), mail(3, "e", "s", "r b")}, "((1)(2)(3))"},
		{"in reply to", []*letter{mail(1, "a", "s", ""), {UID: 2, Sent: 2, Subject: "t", Mail: Mail{InReplyTo: "Your mail <a@x> <b@x>"}}}, "(1 2)"},
		{"references before in reply to", []*letter{mail(1, "a", "", ""), mail(2, "b", "", ""), {UID: 3, Sent: 3, Mail: Mail{References: "<b@x>", InReplyTo: "<a@x>"}}}, "(1)(2 3)"},
		{"bad references", []*letter{mail(1, "a", "", ""), {UID: 3, Sent: 3, Mail: Mail{References: "what", InReplyTo: "<a@x>"}}}, "(1 3)"},
		{"same id", []*letter{mail(1, "a", "s", ""), mail(2, "a", "t", ""), mail(3, "b", "u", "a")}, "(1 3)(2)"},
		{"no id", []*letter{mail(1, "", "s", ""), mail(2, "", "t", "")}, "(1)(2)"},
		{"itself", []*letter{mail(1, "a", "s", "a")}, "(1)"},
		{"loop", []*letter{mail(1, "a", "s", "b"), mail(2, "b", "s", "a")}, "(2 1)"},
		{"each the other's parent, one with a third", []*letter{mail(1, "a", "", ""), mail(2, "b", "", "a c"), mail(3, "c", "", "b")}, "(1)(3 2)"},
		{"truncated references", []*letter{mail(1, "x", "", "a c"), mail(2, "c", "", "b"), mail(3, "a", "", ""), mail(4, "b", "", "a")}, "(3 4 2 1)"},
		{"first says it has no parent", []*letter{mail(1, "b", "", "a b"), mail(2, "a", "", "")}, "(2 1)"},
		{"order by date", []*letter{{UID: 1, Sent: 9, Mail: Mail{MessageID: "<a@x>"}}, {UID: 2, Sent: 5, Mail: Mail{References: "<a@x>"}}, {UID: 3, Sent: 4, Mail: Mail{References: "<a@x>"}}, {UID: 4, Sent: 7}}, "(4)(1 (3)(2))"},
		{"reply by subject", []*letter{mail(1, "a", "Hello", ""), mail(2, "b", "Re: hello", ""), mail(3, "c", "[x] fwd: HELLO", "")}, "(1 (2)(3))"},
		{"reply before its message", []*letter{mail(1, "a", "Re: s", ""), mail(2, "b", "s", "")}, "(2 1)"},
		{"same subject, no reply", []*letter{mail(1, "a", "s", ""), mail(2, "b", "s", ""), mail(3, "c", "s", "")}, "((1)(2)(3))"},
		{"both replies", []*letter{mail(1, "a", "re: s", ""), mail(2, "b", "re: s", "")}, "((1)(2))"},
		{"no subject", []*letter{mail(1, "a", "", ""), mail(2, "b", "re:", "")}, "(1)(2)"},
		{"dummies of one subject", []*letter{mail(1, "a", "s", "x"), mail(2, "b", "s", "x"), mail(3, "c", "s", "y"), mail(4, "d", "s", "y")}, "((1)(2)(3)(4))"},
		{"message to a dummy", []*letter{mail(1, "c", "s", ""), mail(2, "a", "s", "x"), mail(3, "b", "s", "x")}, "((1)(2)(3))"},
		{"subject below the root", []*letter{mail(1, "a", "s", ""), mail(2, "b", "t", "a"), mail(3, "c", "re: t", "")}, "(1 2)(3)"},
	} {
		th := NewThreads()
		for _, m := range c.list {
			th.letter(m)
		}
		if got := text(th.ByReferences()); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestBySubject(t *testing.T) {
	th := NewThreads()
	for _, m := range []*letter{{UID: 1, Sent: 10, Subject: "b"}, {UID: 2, Sent: 5, Subject: "Re: A"}, {UID: 3, Sent: 20, Subject: "a"}, {UID: 4, Sent: 7, Subject: "[l] B"}, {UID: 5, Sent: 8, Subject: "B (fwd)"}, {UID: 6, Sent: 1}, {UID: 7, Sent: 1}} {
		th.subject(m)
	}
	if got := text(th.BySubject()); got != "(6 7)(2 3)(4 (5)(1))" {
		t.Error(got)
	}
	if got := text(NewThreads().BySubject()); got != "" {
		t.Error(got)
	}
}

// Whatever the headers say, each message comes out once.
func TestThreadsKeepAll(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	for range 3000 {
		n, names := 1+rng.IntN(12), 1+rng.IntN(10)
		th, by := NewThreads(), NewThreads()
		for i := range n {
			m := &letter{UID: uint32(i + 1), Sent: rng.Int64N(5), Subject: []string{"", "s", "re: s", "t", "re: t"}[rng.IntN(5)]}
			name := func() string { return fmt.Sprintf("<%d@x>", rng.IntN(names)) }
			if rng.IntN(5) > 0 {
				m.MessageID = name()
			}
			for range rng.IntN(4) {
				m.References += name()
			}
			if rng.IntN(3) == 0 {
				m.InReplyTo = name()
			}
			th.letter(m)
			by.subject(m)
		}
		for _, f := range []*Forest{th.ByReferences(), by.BySubject()} {
			var got []uint32
			depth := 0
			for tok := range f.Tokens() {
				switch tok.Kind {
				case Open:
					depth++
				case Close:
					depth--
				default:
					got = append(got, tok.UID)
				}
			}
			slices.Sort(got)
			if len(got) != n || len(slices.Compact(got)) != n || depth != 0 {
				t.Fatalf("%d messages, told %v, depth %d", n, got, depth)
			}
		}
	}
}

// Of a tree whose messages all name their ancestors, or at least their parent, the same tree comes out, in whatever order they came.
func TestThreadsOfATree(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	for range 500 {
		n := 1 + rng.IntN(30)
		parent := make([]int, n) // in the order of dates; -1: a root
		list := make([]*letter, n)
		for i := range n {
			parent[i] = rng.IntN(i+1) - 1
			list[i] = &letter{UID: uint32(i + 1), Sent: int64(i), Mail: Mail{MessageID: fmt.Sprintf("<%d@x>", i)}}
			var refs []string
			for p := parent[i]; p >= 0; p = parent[p] {
				refs = append(refs, fmt.Sprintf("<%d@x>", p))
			}
			slices.Reverse(refs)
			list[i].References = strings.Join(refs, " ")
		}
		rng.Shuffle(n, func(a, b int) { list[a], list[b] = list[b], list[a] })
		th := NewThreads()
		for _, m := range list {
			th.letter(m)
		}
		if got, want := text(th.ByReferences()), tree(parent, -1); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	}
}

// tree writes what is below a parent.
func tree(parent []int, of int) string {
	var below []string
	for i, p := range parent {
		if p == of {
			below = append(below, strings.TrimSpace(fmt.Sprint(i+1, " ", tree(parent, i))))
		}
	}
	if len(below) == 1 && of >= 0 {
		return below[0]
	}
	out := ""
	for _, b := range below {
		out += "(" + b + ")"
	}
	return out
}

// Threads as deep as a mailbox cost neither the stack nor square time.
func TestDeepThread(t *testing.T) {
	const n = 50_000
	for _, backward := range []bool{false, true} {
		th := NewThreads()
		for i := range n {
			id, parent := i, i-1
			if backward {
				id, parent = n-1-i, n-2-i
			}
			th.letter(&letter{UID: uint32(i + 1), Sent: int64(id), Mail: Mail{MessageID: fmt.Sprintf("<%d@x>", id), References: fmt.Sprintf("<%d@x>", parent)}})
		}
		count := 0
		for tok := range th.ByReferences().Tokens() {
			if tok.Kind == Message {
				count++
			}
		}
		if count != n {
			t.Error(count)
		}
	}
}

func FuzzReferences(f *testing.F) {
	f.Add("<a@x> <b@x>", "<b@x>", "Re: [x] s")
	f.Fuzz(func(t *testing.T, refs, id, subject string) {
		th := NewThreads()
		for uid := range uint32(3) {
			th.letter(&letter{UID: uid + 1, Subject: subject, Mail: Mail{MessageID: id, References: refs, InReplyTo: subject}})
			id, refs = refs, id
		}
		count := 0
		for tok := range th.ByReferences().Tokens() {
			if tok.Kind == Message {
				count++
			}
		}
		if count != 3 {
			t.Fatal(count)
		}
	})
}
