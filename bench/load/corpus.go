package load

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	mrand "math/rand/v2"
	"strconv"
	"time"

	"hongyan/bench/mail"
)

// Corpus is a pool of messages that were made before the clock runs: making one costs more than sending it. Each message that
// is sent is a body of the pool with unique lines in front, so that a server and a history can tell them apart. What message n is depends on
// the options and n only, but for its run's name and its stamp.
type Corpus struct {
	o      CorpusOptions
	bodies []body
	mean   float64
}

// CorpusOptions may be left empty.
type CorpusOptions struct {
	Seed uint64
	Pool int // bodies; 300 when zero
	// Size in bytes of every message, within some ten, at least 512; zero for the mix of bench/mail, whose mean is about 35 kB.
	Size int
	// Same is the share, from 0 to 1, of messages that have a body of the pool as it is, and so the same bytes as others below the header. The
	// rest get some characters of their own every few kB.
	Same float64
	// Run tells this corpus's messages from those of other runs, in Message-IDs; random when empty.
	Run string
	// Domain of the senders; remote.test when empty.
	Domain string
}

// body is one of the pool: lines that end in CRLF, dots stuffed (RFC 5321 section 4.5.2).
type body struct {
	raw     []byte
	stuffed []byte // raw itself when no line begins with a dot
	spots   []int  // in stuffed: where eight characters may be others, without a change to structure or length
	rawSpot []int  // the same in raw
}

// StampHeader carries the time at which a message was due, in nanoseconds since 1970, so that whoever reads it knows the delay.
const StampHeader = "X-Bench-Due"

// Bounds of options.
const (
	maxPool   = 100_000
	minSize   = 512
	maxSize   = 1 << 30
	spotEvery = 4096
	spotLen   = 8
)

// NewCorpus makes the pool.
func NewCorpus(o CorpusOptions) (*Corpus, error) {
	if o.Pool == 0 {
		o.Pool = 300
	}
	if o.Pool < 1 || o.Pool > maxPool || o.Same < 0 || o.Same > 1 || o.Size != 0 && (o.Size < minSize || o.Size > maxSize) {
		return nil, fmt.Errorf("corpus: a pool of %d, %g of it the same, of %d bytes each: want 1 to %d, 0 to 1, and 0 or %d to %d",
			o.Pool, o.Same, o.Size, maxPool, minSize, maxSize)
	}
	if o.Run == "" {
		b := make([]byte, 6)
		if _, err := rand.Read(b); err != nil {
			return nil, fmt.Errorf("corpus: name the run: %w", err)
		}
		o.Run = hex.EncodeToString(b)
	}
	if o.Domain == "" {
		o.Domain = "remote.test"
	}
	if o.Size > 0 {
		o.Pool = min(o.Pool, max(1, (64<<20)/o.Size)) // large ones need not fill the memory
	}
	c := &Corpus{o: o}
	total := 0
	for next := newBodies(o); len(c.bodies) < o.Pool; {
		b := newBody(next())
		c.bodies = append(c.bodies, b)
		total += len(b.raw)
	}
	c.mean = float64(total) / float64(len(c.bodies))
	return c, nil
}

// MeanBytes is the mean size of the pool's bodies.
func (c *Corpus) MeanBytes() float64 { return c.mean }

// Message is one to be sent.
type Message struct {
	ID   string // Message-ID with its brackets
	From string // of the envelope
	To   []string
	head []byte
	body *body
	n    uint64 // which is not in the body unless fresh
	own  bool
}

// Message makes message n to those recipients, due at that time.
func (c *Corpus) Message(n int, due time.Time, to ...string) *Message {
	rng := mrand.NewPCG(c.o.Seed, uint64(n)^0x636f72707573)
	m := &Message{To: to, body: &c.bodies[rng.Uint64()%uint64(len(c.bodies))], n: rng.Uint64()}
	m.own = float64(rng.Uint64()>>11)/(1<<53) >= c.o.Same
	serial := strconv.Itoa(n)
	m.ID = "<" + serial + "." + c.o.Run + "@" + c.o.Domain + ">"
	m.From = "sender" + strconv.Itoa(n%1000) + "@" + c.o.Domain
	h := make([]byte, 0, 256)
	h = append(append(append(h, StampHeader+": "...), strconv.FormatInt(due.UnixNano(), 10)...), "\r\nMessage-ID: "...)
	h = append(append(h, m.ID...), "\r\n"...)
	m.head = h
	return m
}

// Due is when the message in raw, or whose header is raw, was due to be sent.
func Due(raw []byte) (time.Time, bool) {
	for len(raw) > 0 {
		line, rest, _ := bytes.Cut(raw, []byte("\n"))
		line = bytes.TrimSuffix(line, []byte("\r"))
		if len(line) == 0 {
			break
		}
		if name, value, ok := bytes.Cut(line, []byte(":")); ok && bytes.EqualFold(name, []byte(StampHeader)) {
			ns, err := strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64)
			return time.Unix(0, ns), err == nil
		}
		raw = rest
	}
	return time.Time{}, false
}

// Raw is the message as it is, for a history or an APPEND.
func (m *Message) Raw() []byte {
	raw := append(append(make([]byte, 0, len(m.head)+len(m.body.raw)), m.head...), m.body.raw...)
	if m.own {
		m.freshen(raw[len(m.head):], m.body.rawSpot)
	}
	return raw
}

// Size is the length of Raw.
func (m *Message) Size() int { return len(m.head) + len(m.body.raw) }

// Wire gives the message as it goes after DATA, without the dot that ends it, in two pieces. The second may be shared with other messages, or be in
// scratch, which is grown and returned for the next call; neither may be changed.
func (m *Message) Wire(scratch []byte) (head, body, grown []byte) {
	if !m.own || len(m.body.spots) == 0 {
		return m.head, m.body.stuffed, scratch
	}
	scratch = append(scratch[:0], m.body.stuffed...)
	m.freshen(scratch, m.body.spots)
	return m.head, scratch, scratch
}

// freshen puts characters of the message's own into a body.
func (m *Message) freshen(b []byte, spots []int) {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef"
	for i, at := range spots {
		v := m.n + uint64(i)
		for j := range spotLen {
			b[at+j] = digits[v&31]
			v >>= 5
		}
	}
}

// newBodies gives what makes the pool's messages.
func newBodies(o CorpusOptions) func() []byte {
	if o.Size > 0 {
		return newSizer(o.Seed, o.Size).next
	}
	g := mail.New(o.Seed)
	return func() []byte { return g.Next().Bytes }
}
