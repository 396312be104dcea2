package imap

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"

	goimap "github.com/emersion/go-imap/v2"

	"hongyan/cluster/client"
	"hongyan/engine/message"
	"hongyan/frontends/imap/command"
)

const daySeconds = 24 * 60 * 60

// matches says whether a message matches a key. The sets of flags and numbers are there: bySets went over the whole query before. An error that is client.ErrLost says
// that it cannot be known; where the rest of a key decides, it does not come up.
func (q *query) matches(k *command.Key, e *entry) (bool, error) {
	if t, ok := q.tests[k]; ok {
		v, err := q.columns.value(t.in, e)
		return err == nil && t.matches(v), err
	}
	switch k.Kind {
	case command.KeyAll:
		return true, nil
	case command.KeyAnd:
		return q.matchAll(k.Keys, e)
	case command.KeyOr:
		ok, err := q.matches(k.Keys[0], e)
		if ok || err != nil && !errors.Is(err, client.ErrLost) {
			return ok, err
		}
		if ok, other := q.matches(k.Keys[1], e); ok || err == nil {
			return ok, other
		}
		return false, err
	case command.KeyNot:
		ok, err := q.matches(k.Keys[0], e)
		return !ok && err == nil, err
	case command.KeySet:
		return q.set(k).Contains(e.uid), nil
	case command.KeyModSeq:
		return q.sets[k].Contains(e.uid), nil
	case command.KeyFlag:
		return q.hasFlag(k.Flag, e), nil
	case command.KeyBody, command.KeyText:
		return q.matchText(e, k.Text, k.Kind == command.KeyText)
	case command.KeyEmailID:
		return emailID(e.ref) == k.Text, nil
	case command.KeySavedBefore: // in UTC, as it is shown
		return floorDay(e.saved) < floorDay(k.Date.Unix()), nil
	}
	return floorDay(e.saved) >= floorDay(k.Date.Unix()), nil // KeySavedSince
}

// matchAll says whether a message matches all of several keys, the cheap ones first: only those that are left when all others
// hold cost reading the message.
func (q *query) matchAll(keys []*command.Key, e *entry) (bool, error) {
	var lost error
	for _, dearOnes := range [2]bool{false, true} {
		for _, k := range keys {
			if dear(k) != dearOnes {
				continue
			}
			ok, err := q.matches(k, e)
			switch {
			case errors.Is(err, client.ErrLost):
				lost = err
			case !ok || err != nil:
				return false, err
			}
		}
	}
	return lost == nil, lost
}

// dear says whether a key may have the message read.
func dear(k *command.Key) bool {
	switch k.Kind {
	case command.KeyHeader, command.KeyBody, command.KeyText:
		return true
	}
	return slices.ContainsFunc(k.Keys, dear)
}

func (q *query) hasFlag(f goimap.Flag, e *entry) bool {
	if recent(f) {
		set := q.s.recentSet(q.sel)
		return set != nil && set.Contains(e.uid)
	}
	if bit := systemBit(f); bit != 0 {
		return q.flagged[bit].Contains(e.uid)
	}
	return hasKeyword(e.flags.Keywords, string(f))
}

// floorDay numbers the day of a moment.
func floorDay(unix int64) int64 {
	day := unix / daySeconds
	if unix%daySeconds < 0 {
		day--
	}
	return day
}

// fields are those header fields of a message, from its summary where that has them.
func (s *session) fields(ctx context.Context, e *entry, names []string) ([]byte, error) {
	if e.sum == nil && e.lines != nil {
		if fields, ok := e.lines.Fields(names); ok {
			return fields, nil
		}
	}
	if err := s.summarise(e); err != nil {
		return nil, err
	}
	if fields, ok := e.sum.Fields(names); ok {
		return fields, nil
	}
	header, err := s.readRange(ctx, e, 0, min(e.sum.Structure.BodyStart, maxHeaderRead))
	if err != nil {
		return nil, err
	}
	return message.FilterHeader(header, names, false), nil
}

// addresses are those of a field, whose name is in upper case.
func (s *session) addresses(e *entry, field string) ([]message.Address, error) {
	switch field {
	case "FROM", "TO", "CC", "BCC":
	default:
		return nil, nil
	}
	v, err := s.envelope(e)
	switch {
	case err != nil:
		return nil, err
	case field == "FROM":
		return v.From, nil
	case field == "TO":
		return v.To, nil
	case field == "CC":
		return v.Cc, nil
	}
	return v.Bcc, nil
}

// fieldValues are the unfolded values of the fields in a header.
func fieldValues(header []byte) []string {
	var out []string
	var value []byte // of the field under way: joined at its end, for it may have very many lines
	inside := false
	end := func() {
		if inside {
			out = append(out, string(value))
		}
	}
	for line := range bytes.Lines(header) {
		text := bytes.TrimRight(line, "\r\n")
		if inside && len(text) > 0 && (text[0] == ' ' || text[0] == '\t') {
			value = append(value, text...)
			continue
		}
		if _, first, ok := bytes.Cut(text, []byte(":")); ok {
			end()
			value, inside = append(value[:0], bytes.TrimSpace(first)...), true
		}
	}
	end()
	return out
}

// fold makes texts that differ only in case the same.
func fold(s string) string { return strings.ToLower(s) }

// foldField is fold for header fields, where white space is one space, however much it is: fields go on in the next line behind a tab as well, which nobody can know
// who searches.
func foldField(s string) string {
	if !strings.Contains(s, "\t") && !strings.Contains(s, "  ") {
		return fold(s)
	}
	out, blank := make([]byte, 0, len(s)), false
	for i := range len(s) {
		white := s[i] == ' ' || s[i] == '\t'
		switch {
		case !white:
			out = append(out, s[i])
		case !blank:
			out = append(out, ' ')
		}
		blank = white
	}
	return fold(string(out))
}
