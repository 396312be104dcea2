package imap

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/clustertest"
	"hongyan/engine/effort"
)

// cache is what a client keeps of a mailbox between its connections: messages by UID, and how far it is. It believes what it is told,
// by the rules of RFC 7162 section 6: a modification sequence counts only once the command that told it is over.
type cache struct {
	t        *testing.T
	validity uint64
	modseq   uint64
	flags    map[uint32]string
	read     *regexp.Regexp
}

func newCache(t *testing.T) *cache {
	return &cache{t: t, flags: make(map[uint32]string),
		read: regexp.MustCompile(`^\* (?:VANISHED (\(EARLIER\) )?([\d:,]+)|\d+ FETCH \(UID (\d+) FLAGS \((.*)\) MODSEQ \((\d+)\)\)|OK \[UIDVALIDITY (\d+)\].*)$|\[HIGHESTMODSEQ (\d+)\]`)}
}

// hear takes in a command's answer.
func (c *cache) hear(lines []string) {
	c.t.Helper()
	top := c.modseq
	for _, l := range lines {
		m := c.read.FindStringSubmatch(l)
		switch {
		case m == nil:
		case m[2] != "":
			c.forget(m[2])
		case m[3] != "":
			c.flags[uint32(number(m[3]))] = m[4]
			top = max(top, uint64(number(m[5])))
		case m[6] != "":
			c.validity = uint64(number(m[6]))
		case m[7] != "" && strings.HasPrefix(l, "OK"): // of a tagged answer
			top = max(top, uint64(number(m[7])))
		}
	}
	c.modseq = top
}

func (c *cache) forget(set string) {
	for _, r := range strings.Split(set, ",") {
		from, to, ok := strings.Cut(r, ":")
		if !ok {
			to = from
		}
		for uid := number(from); uid <= number(to); uid++ {
			delete(c.flags, uint32(uid))
		}
	}
}

func (c *cache) uids() *roaring.Bitmap {
	b := roaring.New()
	for uid := range c.flags {
		b.Add(uid)
	}
	return b
}

// lines is what is in the cache as a FETCH would tell it, without numbers.
func (c *cache) lines() (out []string) {
	for it := c.uids().Iterator(); it.HasNext(); {
		uid := it.Next()
		out = append(out, fmt.Sprintf("UID %d FLAGS (%s)", uid, c.flags[uid]))
	}
	return out
}

// come opens the mailbox as a client does that was here before, in one of the ways that RFC 7162 gives it.
func (c *cache) come(r *raw, rng *rand.Rand) {
	r.ok("ENABLE QRESYNC")
	known := ""
	way := rng.IntN(3)
	if way == 1 && len(c.flags) > 0 {
		known = " " + seqSet(c.uids()).String()
	}
	switch {
	case c.modseq == 0:
		c.hear(r.ok("SELECT INBOX"))
		c.hear(r.ok("UID FETCH 1:* (UID FLAGS MODSEQ)"))
	case way == 2:
		r.ok("SELECT INBOX (CONDSTORE)")
		c.hear(r.ok(fmt.Sprintf("UID FETCH 1:* (UID FLAGS MODSEQ) (CHANGEDSINCE %d VANISHED)", c.modseq)))
	default:
		before := c.uids()
		c.hear(r.ok(fmt.Sprintf("SELECT INBOX (QRESYNC (%d %d%s))", c.validity, c.modseq, known)))
		if known != "" { // then new messages are asked for
			next := uint32(1)
			if !before.IsEmpty() {
				next = before.Maximum() + 1
			}
			c.hear(r.ok(fmt.Sprintf("UID FETCH %d:* (UID FLAGS MODSEQ)", next)))
		}
	}
}

// act changes the mailbox in some way, and returns the command.
func act(rng *rand.Rand, n int) string {
	if n == 0 {
		return "NOOP"
	}
	set := fmt.Sprintf("%d:%d", 1+rng.IntN(n), 1+rng.IntN(n))
	flag := []string{`\Seen`, `\Flagged`, "$A", "$B"}[rng.IntN(4)]
	switch rng.IntN(11) {
	case 0, 1:
		return "UID STORE " + set + " +FLAGS (" + flag + ")"
	case 2:
		return "UID STORE " + set + " -FLAGS.SILENT (" + flag + ")"
	case 3:
		return "UID STORE " + strconv.Itoa(1+rng.IntN(n)) + ` +FLAGS (\Deleted)`
	case 4:
		return "EXPUNGE"
	case 5:
		return "UID EXPUNGE " + set
	case 6:
		return "UID MOVE " + strconv.Itoa(1+rng.IntN(n)) + " INBOX"
	case 7:
		return "UID COPY " + strconv.Itoa(1+rng.IntN(n)) + " INBOX"
	case 8:
		return "SEARCH ALL" // numbers must keep their meaning
	case 9:
		return "FETCH 1:* UID"
	}
	return "NOOP"
}

// testResync has a client come and go while others change the mailbox. Whenever it has come, by QRESYNC or what CONDSTORE gives,
// it believes what a client is told that fetches everything.
func testResync(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "resync", nil)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	st.fill("INBOX", 6)
	st.mail.part = 3 // many answers in parts
	other, cc := st.rawUser("INBOX"), newCache(t)
	last := 12
	for round := range effort.Of(12, 40, 40) {
		for range rng.IntN(8) {
			other.do(act(rng, last))
		}
		if rng.IntN(2) == 0 {
			st.fill("INBOX", 1)
			last++
		}
		r := st.rawUser("")
		cc.come(r, rng)
		compareCache(t, round, "came back", cc, other)
		for range rng.IntN(6) {
			if rng.IntN(2) == 0 {
				other.do(act(rng, last))
				continue
			}
			cmd := act(rng, last)
			lines := r.do(cmd)
			exists := slices.ContainsFunc(lines, func(l string) bool { return strings.HasSuffix(l, " EXISTS") })
			if exists || strings.Contains(cmd, "SILENT") { // new messages are only counted, the flags only dated: it asks
				lines = append(lines, r.do("UID FETCH 1:* (UID FLAGS MODSEQ)")...)
			}
			cc.hear(lines)
		}
		if rng.IntN(2) == 0 {
			cc.hear(r.ok("NOOP"))
			cc.hear(r.ok("UID FETCH 1:* (UID FLAGS MODSEQ)"))
			compareCache(t, round, "stayed", cc, other)
			marked := cc.marked()
			if lines := r.ok("CLOSE"); rng.IntN(2) == 0 {
				for _, uid := range marked {
					delete(cc.flags, uid)
				}
				cc.hear(lines)
			}
		} else if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// marked are the messages that CLOSE removes.
func (c *cache) marked() (uids []uint32) {
	for uid, flags := range c.flags {
		if strings.Contains(flags, `\Deleted`) {
			uids = append(uids, uid)
		}
	}
	return uids
}

// compareCache holds a cache against a session that asks for everything.
func compareCache(t *testing.T, round int, when string, c *cache, other *raw) {
	t.Helper()
	other.ok("NOOP")
	var want []string
	for _, l := range other.ok("UID FETCH 1:* (FLAGS)") {
		if i := strings.Index(l, "UID "); strings.Contains(l, "FETCH (UID") {
			want = append(want, strings.TrimSuffix(l[i:], ")"))
		}
	}
	if got := c.lines(); !slices.Equal(got, want) {
		t.Fatalf("round %d, %s with %d:\ngot  %q\nwant %q", round, when, c.modseq, got, want)
	}
}
