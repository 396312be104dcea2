package history

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// A history on disk is lines of JSON (RFC 8259): a head, and then one Op a line, by the time of their calls.
//
//	{"hongyan_history":1,"began":"2026-03-01T09:00:00Z"}
//	{"client":"c1","node":"south-china-1","kind":"deliver","mailbox":"u0001@example.test/INBOX","call":1200,"return":93400,"outcome":"ok",…}

// version of the lines. A reader refuses others, and fields that it does not know: a rule would be checked on half of what was seen.
const version = 1

// maxLine bounds a line, which is a reading of about a million messages at most.
const maxLine = 256 << 20

type head struct {
	Version int       `json:"hongyan_history"`
	Began   time.Time `json:"began"`
}

// Save writes the history. Operations under way are written as unknown.
func (h *History) Save(w io.Writer) error {
	b := bufio.NewWriter(w)
	lines := json.NewEncoder(b)
	lines.SetEscapeHTML(false)
	err := lines.Encode(head{version, h.began.Round(0).UTC()})
	for _, op := range h.snapshot() {
		if err != nil {
			break
		}
		err = lines.Encode(op)
	}
	if err = errors.Join(err, b.Flush()); err != nil {
		return fmt.Errorf("save history: %w", err)
	}
	return nil
}

// Load reads what Save wrote. Its clock stands where the history began.
func Load(r io.Reader) (*History, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	if !lines.Scan() {
		return nil, fmt.Errorf("load history: line 1: %w", errors.Join(lines.Err(), io.ErrUnexpectedEOF))
	}
	var first head
	if err := strictly(lines.Bytes(), &first); err != nil {
		return nil, fmt.Errorf("load history: line 1: not the head of a history: %w", err)
	}
	if first.Version != version {
		return nil, fmt.Errorf("load history: version %d, and this program reads version %d", first.Version, version)
	}
	h := at(first.Began)
	for n := 2; lines.Scan(); n++ {
		var op Op
		err := strictly(lines.Bytes(), &op)
		if err == nil {
			err = op.valid()
		}
		if err != nil {
			return nil, fmt.Errorf("load history: line %d: %w", n, err)
		}
		h.Add(op)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("load history: %w", err)
	}
	return h, nil
}

func strictly(line []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if d.More() {
		return errors.New("more than one value in a line")
	}
	return nil
}

// valid says what is wrong with an operation from outside.
func (op *Op) valid() error {
	switch op.Outcome {
	case OK, Refused, Unknown:
	default:
		return fmt.Errorf("outcome %q", op.Outcome)
	}
	reads := false
	switch op.Kind {
	case Deliver, Append:
	case Store, Expunge, Copy, Move:
		if op.UID == 0 {
			return fmt.Errorf("%s without a UID", op.Kind)
		}
	case Read, Base:
		reads = true
	default:
		return fmt.Errorf("kind %q", op.Kind)
	}
	if reads != (op.Message == "") || reads && op.Outcome == OK && op.Reading == nil || !reads && op.Reading != nil {
		return fmt.Errorf("%s of message %q, with a reading: %t", op.Kind, op.Message, op.Reading != nil)
	}
	if (op.Kind == Copy || op.Kind == Move) == (op.To == "") || op.Mailbox == "" || op.Mailbox == op.To {
		return fmt.Errorf("%s from mailbox %q to %q", op.Kind, op.Mailbox, op.To)
	}
	if op.Kind == Store && op.Change != Add && op.Change != Remove && op.Change != Replace {
		return fmt.Errorf("store with change %q", op.Change)
	}
	const longest = 365 * 24 * time.Hour
	if op.Call < 0 || op.Call > longest || op.Return > longest || op.Outcome == OK && op.Return < op.Call {
		return fmt.Errorf("interval from %d to %d", op.Call, op.Return)
	}
	return nil
}
