package scenario

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"hongyan/bench/exercise"
	"hongyan/bench/history"
	"hongyan/bench/load"
	"hongyan/bench/report"
)

// book keeps the history of a scenario and settles it at the end: what was acknowledged must be there, once, as it was sent.
type book struct {
	h       *history.History // also the journal of its senders
	doubled int              // messages, as settle found
}

func newBook() *book { return &book{h: history.New()} }

// base notes what the accounts' mailboxes hold already.
func (b *book) base(ctx context.Context, t load.Target) error { return exercise.Base(ctx, t, b.h) }

// owed counts the messages that were acknowledged.
func (b *book) owed() int { return b.h.Acknowledged() }

// bookTime bounds the reading of all mailboxes and the check.
const bookTime = 5 * time.Minute

// settle reads every mailbox through every node, checks the history and enters what is wrong. It gives the number of messages that were lost, and keeps the
// history beside the report when something is wrong.
func (b *book) settle(ctx context.Context, e *Env, s *report.Section) (lost int) {
	ctx, cancel := context.WithTimeout(ctx, bookTime)
	defer cancel()
	e.Progress.Step("reading back %d acknowledged messages through every node", b.owed())
	if err := exercise.Final(ctx, e.Target, b.h); err != nil {
		s.Failed = fmt.Sprintf("read everything back: %v", err)
		return 0
	}
	found := b.h.Check(ctx, history.CheckOptions{})
	for i, v := range found {
		switch v.Rule {
		case "lost":
			lost++
		case "doubled":
			b.doubled++
		}
		if i < maxViolations {
			s.Violations = append(s.Violations, v.String())
		}
	}
	if len(found) > maxViolations {
		s.Violations = append(s.Violations, fmt.Sprintf("and %d more", len(found)-maxViolations))
	}
	if len(found) > 0 {
		if err := b.save(e, s.Title); err != nil {
			s.Notes = append(s.Notes, err.Error())
		}
	}
	return lost
}

const maxViolations = 10

// save writes the history where the report will be, for `hongyan bench check`.
func (b *book) save(e *Env, title string) (err error) {
	if err := os.MkdirAll(e.Report, 0o755); err != nil {
		return fmt.Errorf("make folder of the report: %w", err)
	}
	path := filepath.Join(e.Report, "history-"+strings.ToLower(title)+".jsonl")
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
