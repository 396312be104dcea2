package scenario

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"hongyan/bench/exercise"
	"hongyan/bench/history"
	"hongyan/bench/load"
	"hongyan/bench/report"
)

// book keeps the history of a scenario and settles it at the end: what was acknowledged must be there, once, as it was sent.
type book struct {
	h *history.History // also the journal of its senders

	lost, doubled, broken int // what settle found: messages, messages, violations of any rule
}

func newBook() *book { return &book{h: history.New()} }

// base notes what the accounts' mailboxes hold already.
func (b *book) base(ctx context.Context, t load.Target) error {
	ctx, cancel := context.WithTimeout(ctx, baseTime)
	defer cancel()
	return exercise.Base(ctx, t, b.h)
}

// owed counts the messages that were acknowledged.
func (b *book) owed() int { return b.h.Acknowledged() }

// baseTime bounds the first reading of the mailboxes; bookTime that of all mailboxes through all nodes and the check, with bookEach more for each
// message at each node.
const (
	baseTime = time.Minute
	bookTime = 5 * time.Minute
	bookEach = 5 * time.Millisecond
)

// settle reads every mailbox through every node, checks the history and enters what is wrong, with the figures under the scenario's name. It keeps the
// history beside the report when something is wrong. When it cannot read everything the section has failed, and there are no figures.
func (b *book) settle(ctx context.Context, e *Env, s *report.Section, name string) {
	ctx, cancel := context.WithTimeout(ctx, bookTime+time.Duration(b.owed()*max(1, len(e.Target.Nodes)))*bookEach)
	defer cancel()
	e.Progress.Step("reading back %d acknowledged messages through every node", b.owed())
	if err := exercise.Final(ctx, e.Target, b.h); err != nil {
		s.Failed = fmt.Sprintf("read everything back: %v", err)
		return
	}
	for _, v := range b.h.Check(ctx, history.CheckOptions{}) {
		n := 1 + v.More
		b.broken += n
		switch v.Rule {
		case "lost":
			b.lost += n
		case "doubled":
			b.doubled += n
		}
		if len(s.Violations) < maxViolations {
			s.Violations = append(s.Violations, v.String())
		}
	}
	if more := b.broken - len(s.Violations); more > 0 {
		s.Violations = append(s.Violations, fmt.Sprintf("and %d more", more))
	}
	if b.broken > 0 {
		if err := b.save(e, name); err != nil {
			s.Notes = append(s.Notes, err.Error())
		}
	}
	s.Metrics = append(s.Metrics,
		metric(name+".violations", "broken rules", float64(b.broken), "violations", report.Lower),
		metric(name+".lost", "acknowledged messages that were not found afterwards", float64(b.lost), "messages", report.Lower),
		metric(name+".doubled", "messages found more often than they were offered", float64(b.doubled), "messages", report.Lower))
}

const maxViolations = 10

// save writes the history where the report will be, for `hongyan bench check`.
func (b *book) save(e *Env, name string) (err error) {
	if err := os.MkdirAll(e.Report, 0o755); err != nil {
		return fmt.Errorf("make folder of the report: %w", err)
	}
	path := filepath.Join(e.Report, "history-"+name+".jsonl")
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("save history: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := b.h.Save(f); err != nil {
		return fmt.Errorf("save history %s: %w", path, err)
	}
	return nil
}
