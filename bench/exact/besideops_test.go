package exact

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// besideOp is what is measured. prepare does what comes before it, and gives what is timed and what must follow, if anything.
type besideOp struct {
	name    string
	prepare func(b *testing.B, s *side) (timed, after func())
}

const (
	besideCold = 2000 // messages of a mailbox that nobody has searched
	besideMany = 500  // that are copied, moved and removed at once
)

// besideOps are all of them. Those that change the mailbox leave it with as many messages. The last ones fill mailboxes, which keeps servers busy for a while.
func besideOps() []besideOp {
	return slices.Concat(besideReads(), besideChanges(), besideTogether(), besideFirst())
}

// commands is an operation of one command, or of several that are sent at once. again numbers the times that it is done on a side.
func commands(name string, list func(n, again int) []string) besideOp {
	return besideOp{name, func(b *testing.B, s *side) (timed, after func()) {
		all := list(s.messages, s.done)
		return func() { s.client.must(b, all...) }, nil
	}}
}

// after is an operation that others prepare.
func after(name string, before, list func(n, again int) []string) besideOp {
	return besideOp{name, func(b *testing.B, s *side) (timed, after func()) {
		for _, c := range before(s.messages, s.done) {
			s.client.must(b, c)
		}
		all := list(s.messages, s.done)
		return func() { s.client.must(b, all...) }, nil
	}}
}

func besideReads() []besideOp {
	one := func(name, format string) besideOp {
		return commands(name, func(n, _ int) []string {
			return []string{strings.NewReplacer("NEWEST", fmt.Sprint(max(1, n-49)), "MANY", fmt.Sprint(min(n, 100_000))).Replace(format)}
		})
	}
	return []besideOp{
		one("SELECT", "SELECT Beside"),
		one("STATUS", "STATUS INBOX (MESSAGES UIDNEXT UNSEEN)"),
		one("LIST with STATUS of 200", `LIST "" "Many/*" RETURN (STATUS (MESSAGES UIDNEXT UNSEEN))`),
		one("newest 50", "FETCH NEWEST:* (UID FLAGS ENVELOPE BODYSTRUCTURE INTERNALDATE RFC822.SIZE)"),
		one("newest 50, five header fields", "FETCH NEWEST:* (UID BODY.PEEK[HEADER.FIELDS (FROM TO SUBJECT DATE MESSAGE-ID)])"),
		one("newest 50, whole", "FETCH NEWEST:* BODY.PEEK[]"),
		one("FETCH of 1,000 ENVELOPEs", "FETCH 1:1000 ENVELOPE"),
		one("FETCH of FLAGS, 100,000 at most", "FETCH 1:MANY FLAGS"),
		one("FETCH of lists, 100,000 at most", "FETCH 1:MANY (UID FLAGS ENVELOPE BODYSTRUCTURE)"),
		one("FETCH of sizes and dates of 1,000", "FETCH 1:1000 (INTERNALDATE RFC822.SIZE)"),
		one("SEARCH UNSEEN", "SEARCH RETURN (COUNT) UNSEEN"),
		one("SEARCH SUBJECT", `SEARCH SUBJECT "zebra crossing"`),
		one("SEARCH SUBJECT that many have", `SEARCH RETURN (COUNT) SUBJECT "re"`),
		one("SEARCH FROM", `SEARCH FROM "nobody@nowhere"`),
		one("SEARCH HEADER that is not cached", `SEARCH HEADER X-Mailer "zebra"`),
		one("SEARCH SINCE", "SEARCH RETURN (COUNT) SINCE 1-Jan-2026"),
		one("SEARCH SENTSINCE", "SEARCH RETURN (COUNT) SENTSINCE 1-Apr-2026"),
		one("SEARCH LARGER", "SEARCH RETURN (COUNT) LARGER 10000"),
		one("SEARCH TEXT that none has", `SEARCH TEXT "zebra crossing"`),
		one("SORT (DATE)", "SORT (DATE) UTF-8 ALL"),
		one("SORT (SUBJECT)", "SORT (SUBJECT) UTF-8 ALL"),
		one("THREAD REFERENCES", "THREAD REFERENCES UTF-8 ALL"),
	}
}

func besideFirst() []besideOp {
	return []besideOp{
		first("SEARCH SUBJECT, the first", `SEARCH SUBJECT "zebra crossing"`),
		first("SORT (DATE), the first", "SORT (DATE) UTF-8 ALL"),
		first("THREAD REFERENCES, the first", "THREAD REFERENCES UTF-8 ALL"),
	}
}

// first asks in a mailbox that nobody has asked before.
func first(name, command string) besideOp {
	return besideOp{name, func(b *testing.B, s *side) (timed, after func()) {
		s.fresh++
		box := fmt.Sprintf("Cold%d", s.fresh)
		s.client.must(b, "CREATE "+box, fmt.Sprintf("COPY 1:%d %s", min(s.messages, besideCold), box))
		s.other.must(b, "SELECT "+box)
		return func() { s.other.must(b, command) }, nil
	}}
}

func besideChanges() []besideOp {
	flagOf := func(again int) string { return string("+-"[again%2]) + `FLAGS` }
	more := func(int, int) []string { return []string{fmt.Sprintf("COPY 1:%d Beside", besideMany), "NOOP"} }
	added := func(n int) string { return fmt.Sprintf("%d:%d", n+1, n+besideMany) }
	return []besideOp{
		commands("STORE of one", func(n, again int) []string {
			return []string{fmt.Sprintf(`STORE %d %s (\Flagged)`, n/2, flagOf(again))}
		}),
		commands("STORE 1:500", func(_, again int) []string {
			return []string{fmt.Sprintf(`STORE 1:%d %s (\Flagged)`, besideMany, flagOf(again))}
		}),
		commands("100 STOREs of one, pipelined", func(_, again int) (list []string) {
			for i := range besidePipelined {
				list = append(list, fmt.Sprintf(`STORE %d %s (\Answered)`, i+1, flagOf(again)))
			}
			return list
		}),
		commands("COPY of 500", func(int, int) []string { return []string{fmt.Sprintf("COPY 1:%d Other", besideMany)} }),
		after("MOVE of 500", more, func(n, _ int) []string { return []string{"MOVE " + added(n) + " Other"} }),
		after("EXPUNGE of 500", func(n, again int) []string {
			return append(more(n, again), "STORE "+added(n)+` +FLAGS.SILENT (\Deleted)`)
		}, func(int, int) []string { return []string{"EXPUNGE"} }),
		commands("APPEND of 10 kB", func(_, again int) []string {
			m := fmt.Sprintf("Subject: %d\r\n\r\n", again) + strings.Repeat(strings.Repeat("x", 76)+"\r\n", 128)
			return []string{fmt.Sprintf("APPEND Other {%d+}\r\n%s", len(m), m)}
		}),
	}
}

// besideTogether are operations of two sessions: one changes flags, and the other one hears of it.
func besideTogether() []besideOp {
	change := func(b *testing.B, s *side) { // for each side, also the first time
		s.flips++
		s.client.must(b, fmt.Sprintf(`STORE 300,700 %cFLAGS (\Draft)`, "-+"[s.flips%2]))
	}
	// left is what a client knows that left the mailbox before a change.
	left := func(b *testing.B, s *side) (validity, modseq uint64) {
		s.other.must(b, "SELECT INBOX", "ENABLE QRESYNC", "STATUS Beside (UIDVALIDITY HIGHESTMODSEQ)")
		_, figures, _ := strings.Cut(s.other.status, "(")
		if _, err := fmt.Sscanf(figures, "UIDVALIDITY %d HIGHESTMODSEQ %d", &validity, &modseq); err != nil {
			b.Fatalf("%q: %v", s.other.status, err)
		}
		return validity, modseq
	}
	return []besideOp{
		{"notice in IDLE", func(b *testing.B, s *side) (timed, after func()) {
			s.other.must(b, "SELECT Beside")
			s.other.idle(b)
			return func() {
				change(b, s)
				s.other.hear(b, "FETCH")
			}, func() { s.other.awake(b) }
		}},
		{"SELECT with QRESYNC", func(b *testing.B, s *side) (timed, after func()) {
			validity, modseq := left(b, s)
			change(b, s)
			return func() { s.other.must(b, fmt.Sprintf("SELECT Beside (QRESYNC (%d %d))", validity, modseq)) }, nil
		}},
		{"FETCH of FLAGS with CHANGEDSINCE", func(b *testing.B, s *side) (timed, after func()) {
			_, modseq := left(b, s)
			change(b, s)
			s.other.must(b, "SELECT Beside")
			return func() { s.other.must(b, fmt.Sprintf("FETCH 1:* FLAGS (CHANGEDSINCE %d)", modseq)) }, nil
		}},
	}
}
