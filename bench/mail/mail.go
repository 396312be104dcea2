package mail

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"
)

// The population. People write to people of all companies, brands and services to everybody.
const (
	companies = 12
	staff     = 40 // people of a company
	brands    = 60
	services  = 40
	lists     = 8
)

// Message is one message with its envelope.
type Message struct {
	Kind  string // as the package comment names it
	From  string
	To    []int // recipients, as numbers below Accounts
	Bytes []byte
}

// Generator makes one message after the other. One goroutine uses it.
type Generator struct {
	rng              *rand.Rand
	english, chinese *language
	people           []*party
	brands, services []*template
	lists            []*party
	threads          []*thread
	files            []*file // sent before
	clock            time.Time
}

// New makes a generator. Seeds that differ give different people, brands and words.
func New(seed uint64) *Generator {
	g := &Generator{rng: rand.New(rand.NewPCG(seed, 0x6d61696c)), clock: time.Date(2026, 3, 2, 8, 0, 0, 0, time.FixedZone("", 8*3600))}
	g.english, g.chinese = newLanguage(g.rng, false), newLanguage(g.rng, true)
	for i := range companies {
		c := g.newCompany(fmt.Sprintf("company%d.example", i), i)
		c.logo = g.png(3000 + g.rng.IntN(14000))
		for j := range staff {
			g.people = append(g.people, g.newParty(c, fmt.Sprintf("%s.%d", invent(g.rng), j), g.language(i%4 == 0)))
		}
	}
	for i := range brands {
		g.brands = append(g.brands, g.newBrand(i))
	}
	for i := range services {
		g.services = append(g.services, g.newService(i))
	}
	for i := range lists {
		c := g.newCompany(fmt.Sprintf("lists%d.example", i), i)
		g.lists = append(g.lists, g.newParty(c, g.english.words[100+i], g.english))
	}
	return g
}

func (g *Generator) language(chinese bool) *language {
	if chinese {
		return g.chinese
	}
	return g.english
}

func (g *Generator) newCompany(domain string, i int) *company {
	return &company{domain: domain, host: fmt.Sprintf("mail%d.%s", g.rng.IntN(9), domain), large: i%3 == 1,
		footer: "This email and any attachments are confidential and intended for the named recipient only. " + g.english.paragraph(2+g.rng.IntN(4))}
}

func (g *Generator) newParty(c *company, local string, l *language) *party {
	p := &party{address: local + "@" + c.domain, domain: c.domain, lang: l, company: c, charset: "utf-8"}
	p.name = l.title(2)
	if l.chinese && g.rng.IntN(2) == 0 {
		p.charset = "gb2312"
	}
	return p
}

func (g *Generator) somebody() int { return g.rng.IntN(len(g.people)) }

// Next makes the next message.
func (g *Generator) Next() Message {
	g.clock = g.clock.Add(time.Duration(g.rng.IntN(90)) * time.Second)
	switch k := g.rng.IntN(100); {
	case k < 30:
		return g.notification()
	case k < 52:
		return g.newsletter()
	case k < 72:
		return g.reply()
	case k < 82:
		return g.post()
	case k < 92:
		return g.attachment()
	case k < 96:
		return g.invitation()
	}
	return g.report()
}

// finish puts the trace and the header lines before a body that begins with its own.
func (g *Generator) finish(kind string, from *party, to []int, subject, extra, body string) Message {
	parties := make([]*party, len(to))
	for i, n := range to {
		parties[i] = g.people[n]
	}
	var b strings.Builder
	g.trace(&b, from, parties, g.clock)
	g.heading(&b, from, parties, subject, g.clock)
	b.WriteString(extra)
	b.WriteString(body)
	return Message{Kind: kind, From: from.address, To: to, Bytes: []byte(b.String())}
}

// logNormal is a size with that median and a long tail, inside bounds.
func (g *Generator) logNormal(median, sigma float64, low, high int) int {
	return min(max(int(median*math.Exp(sigma*g.rng.NormFloat64())), low), high)
}
