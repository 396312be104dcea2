package scenario

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"hongyan/bench/load"
	"hongyan/bench/report"
	"hongyan/bench/report/units"
)

var mailbox = Scenario{
	Name: "mailbox", Summary: "one very large mailbox beside a small one: select, STATUS, list, search, flag, deliver", Reads: true,
	Takes: 45 * time.Second, Run: runMailbox,
}

const (
	largeMessages = 20_000
	largeShort    = 5_000
	largeLong     = 1_000_000
	largeMost     = 50_000_000
	smallMessages = 100
	seedMessages  = 300  // different ones, which are then copied
	seedSize      = 2000 // bytes
	mostCopied    = 5000 // by one COPY
)

// mailboxes is a run of the scenario: on each side a large and a small mailbox, measured with the same operations in turns.
type mailboxes struct {
	env     *Env
	began   time.Time
	section *report.Section
	want    int
	shelves []*shelf
}

// shelf is the two mailboxes of a side.
type shelf struct {
	env           *Env
	large, small  *box
	filling       *load.Recorder // a COPY each
	copied        uint32         // messages
	took          time.Duration  // to copy them
	rates         []float64      // messages a second of each COPY
	before, after uint64         // memory, bytes
}

func runMailbox(ctx context.Context, e *Env) (*report.Section, error) {
	m := mailboxes{env: e, began: time.Now(), section: &report.Section{Title: "A large mailbox"}, want: cmp.Or(e.Options.Messages, largeMessages)}
	switch {
	case e.Options.Messages > 0:
	case e.Options.Long:
		m.want = largeLong
	case e.Options.Short:
		m.want = largeShort
	}
	if m.want < smallMessages || m.want > largeMost {
		return m.section, fmt.Errorf("--messages %d: expected %d to %d", m.want, smallMessages, largeMost)
	}
	for _, side := range e.sides() {
		sh, err := m.open(ctx, side)
		if sh != nil {
			defer sh.close()
			m.shelves = append(m.shelves, sh)
		}
		if err != nil {
			return m.finish(), fmt.Errorf("%s: %w", side.Target.Name, err)
		}
	}
	m.section.Settings = m.settings()
	err := m.measure(ctx, e.Options.time(15*time.Second))
	return m.finish(), err
}

func (m *mailboxes) settings() []report.Setting {
	sh := m.shelves[0]
	return []report.Setting{
		{Name: "mailboxes", Value: fmt.Sprintf("INBOX of %s with %d messages, beside that of %s with %d", sh.large.account.Address, sh.large.messages, sh.small.account.Address, sh.small.messages)},
		{Name: "filled", Value: fmt.Sprintf("%d different messages of about %d bytes by delivery, then by COPY of at most %d at a time into the same mailbox", seedMessages, seedSize, mostCopied)},
		{Name: "operations", Value: "each for a while on the large and the small mailbox in turns, one at a time; SELECT in a session of its own, STATUS from a session " +
			"without a mailbox, the newest 50 with envelopes, a search for a subject that one message has, \\Flagged on and off, a delivery"},
		{Name: "growth", Value: "median on the large mailbox over median on the small one"},
		{Name: "memory", Value: m.env.memoryHow()},
	}
}

// open fills a side's mailboxes and opens its sessions.
func (m *mailboxes) open(ctx context.Context, side *Env) (*shelf, error) {
	accounts := side.quiet(0, 2)
	if len(accounts) < 2 {
		return nil, errors.New("two accounts are needed, one for the large mailbox and one for the small one beside it")
	}
	sh := &shelf{env: side, filling: load.NewRecorder(side.Target.Name+", COPY into the large mailbox", load.RecorderOptions{Began: m.began}),
		small: newBox(side, accounts[0], side.Target.Name+", small", m.began), large: newBox(side, accounts[1], side.Target.Name, m.began)}
	if side.Measured() {
		m.env.Progress.Step("%s: look at its memory", side.Target.Name)
		var err error
		if sh.before, err = side.settledMemory(ctx); err != nil {
			return sh, err
		}
	}
	if err := m.fillSmall(ctx, sh); err != nil {
		return sh, err
	}
	if err := m.fillLarge(ctx, sh); err != nil {
		return sh, fmt.Errorf("fill the large mailbox: %w", err)
	}
	for _, b := range []*box{sh.large, sh.small} {
		if err := b.open(ctx, m.env.Options.Seed); err != nil {
			return sh, err
		}
	}
	return sh, nil
}

func (sh *shelf) close() {
	sh.large.close()
	sh.small.close()
}

// measure gives each operation its share of the time, on all mailboxes in turns; afterwards it looks at memory.
func (m *mailboxes) measure(ctx context.Context, took time.Duration) error {
	var boxes []*box
	for _, sh := range m.shelves {
		boxes = append(boxes, sh.large, sh.small)
	}
	for _, op := range boxOps {
		m.env.Progress.Step("%s", op.what)
		large := m.shelves[0].large.recs[op.name]
		m.env.Progress.Rate(func() string {
			f := large.Figures()
			return fmt.Sprintf("%d on the large mailbox, p50 %s", f.Successes, units.Seconds(f.P50.Seconds()))
		})
		end := time.Now().Add(took / time.Duration(len(boxOps)))
		for round := 0; ctx.Err() == nil && (round < leastRounds || time.Now().Before(end)); round++ {
			for i := range boxes {
				boxes[(i+round)%len(boxes)].operate(ctx, op)
			}
		}
	}
	for _, sh := range m.shelves {
		if !sh.env.Measured() || ctx.Err() != nil {
			continue
		}
		m.env.Progress.Step("%s: look at its memory", sh.env.Target.Name)
		var err error
		if sh.after, err = sh.env.settledMemory(ctx); err != nil {
			return err
		}
	}
	return ctx.Err()
}

const leastRounds = 3

// finish makes the section of what there is.
func (m *mailboxes) finish() *report.Section {
	s := m.section
	table := report.Table{Title: "Operations", Columns: []string{"operation", "system", "count", "failed", "p50, large", "p99, large", "p50, small", "p99, small", "growth"},
		Note: "Growth is how many times as long it takes on the large mailbox, in the median."}
	for _, sh := range m.shelves {
		m.enter(sh, &table)
	}
	if len(m.shelves) == 0 || len(table.Rows) == 0 {
		return s
	}
	m.env.peerRatios(s, "mailbox", func(name string) (string, string) {
		if op, ok := strings.CutSuffix(name, ".p50"); ok && !strings.HasPrefix(op, "small.") {
			return op, "large mailbox, median of " + op
		}
		if name == "fill.rate" {
			return name, "large mailbox, messages copied a second"
		}
		return "", ""
	})
	s.Tables = append(s.Tables, table)
	sh := m.shelves[0]
	s.Charts = append(s.Charts, load.LatencyChart("Times on the large mailbox", sh.large.recs["list50"], sh.large.recs["search_header"], sh.large.recs["deliver"]))
	recs := append(sh.large.recorders(), sh.small.recorders()...)
	tries, bad := failed(s, "mailbox.errors.share", "share of operations on the two mailboxes that failed", append(recs, sh.filling)...)
	for _, peer := range m.shelves[1:] {
		noteFailures(s, append(peer.large.recorders(), peer.small.recorders()...)...)
	}
	p50 := func(op string) string { return units.Seconds(sh.large.recs[op].Figures().P50.Seconds()) }
	s.Summary = fmt.Sprintf("With %s messages in the mailbox SELECT took %s in the median, the newest 50 %s, a search for a subject %s, a delivery %s. %d of %d operations failed.",
		units.Number(float64(sh.large.messages)), p50("select"), p50("list50"), p50("search_header"), p50("deliver"), bad, tries)
	return s
}

// enter adds the figures of a side.
func (m *mailboxes) enter(sh *shelf, table *report.Table) {
	s, name, id := m.section, sh.env.Target.Name, func(what string) string { return m.env.id(sh.env, "mailbox", what) }
	add := func(what, words string, value float64, unit string, better report.Better, samples ...float64) {
		one := metric(id(what), name+": "+words, value, unit, better)
		one.Samples = samples
		s.Metrics = append(s.Metrics, one)
	}
	if sh.copied > 0 {
		add("fill.rate", "messages copied a second into the large mailbox", float64(sh.copied)/sh.took.Seconds(), "1/s", report.Higher, sh.rates...)
		add("fill.seconds", fmt.Sprintf("time to copy %d messages", sh.copied), sh.took.Seconds(), "s", report.Info)
	} else if sh.large.messages > 0 {
		s.Notes = append(s.Notes, fmt.Sprintf("%s had a mailbox of that size already: its filling was not measured.", name))
	}
	if sh.large.recs["select"].Figures().Successes == 0 {
		return
	}
	add("messages", "messages in the large mailbox when it was measured", float64(sh.large.messages), "messages", report.Info)
	if sh.after > 0 {
		add("memory.before", "memory before the mailbox was filled", float64(sh.before), "B", report.Info)
		add("memory.after", "memory after, with two sessions in it", float64(sh.after), "B", report.Lower)
	}
	for _, op := range boxOps {
		large, small := sh.large.recs[op.name], sh.small.recs[op.name]
		s.Metrics = append(s.Metrics, some(large, id(op.name), "p50", "p99")...)
		s.Metrics = append(s.Metrics, some(small, id("small."+op.name), "p50", "p99")...)
		s.Latencies = append(s.Latencies, large.Latency(id(op.name), large.Name()), small.Latency(id("small."+op.name), small.Name()))
		l, n := large.Figures(), small.Figures()
		growth := "not known"
		if l.P50 > 0 && n.P50 > 0 {
			g := l.P50.Seconds() / n.P50.Seconds()
			add(op.name+".growth", op.what+": times as long as in a mailbox of "+fmt.Sprint(smallMessages), g, "ratio", report.Lower)
			growth = units.Number(g)
		}
		table.Rows = append(table.Rows, []string{op.what, name, fmt.Sprint(l.Successes + n.Successes), fmt.Sprint(l.Failures + n.Failures),
			ms(l.P50), ms(l.P99), ms(n.P50), ms(n.P99), growth})
	}
}
