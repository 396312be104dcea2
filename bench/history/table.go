package history

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// String is the violation in a line, and under it the operations that show it.
func (v Violation) String() string { return v.Error() + "\n" + table(v.began, v.Ops) }

// Table lays operations out for people: when, where, who, what, how long, how it ended.
func (h *History) Table(ops []Op) string { return table(h.began, ops) }

func table(began time.Time, ops []Op) string {
	if len(ops) == 0 {
		return ""
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  time\tnode\tclient\toperation\tinterval (s)\toutcome") // into memory: cannot fail
	for i := range ops {
		op := &ops[i]
		outcome := string(op.Outcome)
		if op.Answer != "" {
			outcome += ": " + op.Answer
		}
		interval := seconds(op.Call) + " – "
		if op.Return > 0 {
			interval += seconds(op.Return)
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\t%s\n", began.Add(op.Call).UTC().Format("15:04:05.000"), op.Node, op.Client, op.text(), interval, outcome)
	}
	if err := w.Flush(); err != nil {
		return err.Error()
	}
	return b.String()
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.6f", d.Seconds()) }

// text is the operation in words.
func (op *Op) text() string {
	_, folder := SplitMailbox(op.Mailbox)
	uid := func(n uint32) string {
		if n == 0 {
			return ""
		}
		return fmt.Sprintf(" as UID %d", n)
	}
	switch op.Kind {
	case Deliver:
		return fmt.Sprintf("deliver %s to %s", op.Message, op.Mailbox)
	case Append:
		return fmt.Sprintf("append %s [%s] to %s%s", op.Message, op.Flags, folder, uid(op.NewUID))
	case Store:
		return fmt.Sprintf("store %s [%s] on UID %d, %s in %s", op.Change, op.Flags, op.UID, op.Message, folder)
	case Expunge:
		return fmt.Sprintf("expunge UID %d, %s from %s", op.UID, op.Message, folder)
	case Copy, Move:
		_, to := SplitMailbox(op.To)
		return fmt.Sprintf("%s UID %d, %s from %s to %s%s", op.Kind, op.UID, op.Message, folder, to, uid(op.NewUID))
	}
	return fmt.Sprintf("%s %s: %s", op.Kind, folder, op.Reading.text())
}

// text is what a reading shows.
func (r *Reading) text() string {
	if r == nil {
		return "nothing"
	}
	const most = 4
	var parts []string
	for i, m := range r.Messages {
		if i == most {
			parts = append(parts, fmt.Sprintf("%d more", len(r.Messages)-most))
			break
		}
		part := fmt.Sprintf("UID %d [%s]", m.UID, m.Flags)
		if r.NoUIDs {
			part = m.ID
		}
		if m.ModSeq != 0 {
			part += fmt.Sprintf(" modseq %d", m.ModSeq)
		}
		parts = append(parts, part)
	}
	if len(parts) == 0 {
		parts = append(parts, "not there")
	}
	if r.Others > 0 {
		parts = append(parts, fmt.Sprintf("%d others", r.Others))
	}
	if r.UIDNext != 0 {
		parts = append(parts, fmt.Sprintf("UIDNEXT %d", r.UIDNext))
	}
	return strings.Join(parts, ", ")
}
