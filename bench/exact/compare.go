package exact

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Message is one of a corpus, its lines ended by CRLF.
type Message struct {
	Name string
	Raw  []byte
}

// Difference is an item that two servers see differently.
type Difference struct {
	Message      *Message
	Item         string
	Ours, Theirs string // Value.String
}

// wholeItems are asked of every message.
const wholeItems = "RFC822.SIZE ENVELOPE BODY BODYSTRUCTURE BODY.PEEK[] BODY.PEEK[HEADER] BODY.PEEK[TEXT] BODY.PEEK[1] BODY.PEEK[1.MIME] " +
	"BODY.PEEK[HEADER.FIELDS (FROM SUBJECT DATE MESSAGE-ID CONTENT-TYPE RECEIVED X-NONE)] BODY.PEEK[HEADER.FIELDS.NOT (RECEIVED TO)] BODY.PEEK[]<3.50>"

// compare asks both servers for all of each message, which both have under the same number, and lists what differs. known is every item that was compared.
func compare(ours, theirs *imap, messages []Message) (out []Difference, known int, err error) {
	for i := range messages {
		m := &messages[i]
		a, b, err := both(ours, theirs, i+1, wholeItems)
		if err != nil {
			return nil, 0, fmt.Errorf("%s: %w", m.Name, err)
		}
		parts := union(sections(a["BODYSTRUCTURE"]), sections(b["BODYSTRUCTURE"]))
		for part := range slices.Chunk(parts, 50) {
			more, more2, err := both(ours, theirs, i+1, strings.Join(part, " "))
			if err != nil {
				return nil, 0, fmt.Errorf("%s: %w", m.Name, err)
			}
			maps.Copy(a, more)
			maps.Copy(b, more2)
		}
		for item, v := range a {
			known++
			if x, y := text(item, v), text(item, b[item]); x != y {
				out = append(out, Difference{m, item, x, y})
			}
		}
		if len(a) != len(b) {
			out = append(out, Difference{m, "ITEMS", fmt.Sprint(len(a)), fmt.Sprint(len(b))})
		}
	}
	slices.SortFunc(out, func(a, b Difference) int { return strings.Compare(a.Message.Name+a.Item, b.Message.Name+b.Item) })
	return out, known, nil
}

// text renders what is compared: structures regardless of case, which means nothing in what they are made of (RFC 2045 section 5.1) but for
// the values of parameters.
func text(item string, v Value) string {
	if item == "BODY" || item == "BODYSTRUCTURE" {
		return strings.ToLower(v.String())
	}
	return v.String()
}

// both asks both servers for items of a message.
func both(ours, theirs *imap, n int, items string) (a, b map[string]Value, err error) {
	got := [2]answers{{}, {}}
	for i, s := range []*imap{ours, theirs} {
		err = errors.Join(err, s.do(fmt.Sprintf("FETCH %d (%s)", n, items), got[i]))
	}
	return got[0][n], got[1][n], err
}

func union(a, b []string) []string {
	all := append(a, b...)
	slices.Sort(all)
	return slices.Compact(all)
}

// sections are the items that ask for every part of a body structure, and for its header.
func sections(structure Value) []string {
	var out []string
	var walk func(v Value, path string)
	walk = func(v Value, path string) {
		if len(v.List) == 0 {
			return
		}
		if v.List[0].Kind == List { // multipart
			for i, c := range v.List {
				if c.Kind != List {
					break
				}
				walk(c, join(path, i+1))
			}
			return
		}
		if path == "" {
			path = "1"
		}
		out = append(out, "BODY.PEEK["+path+"]", "BODY.PEEK["+path+".MIME]")
		if len(v.List) > 8 && v.List[8].Kind == List && strings.EqualFold(v.List[0].Text, "message") && isMessage(v.List[1].Text) {
			out = append(out, "BODY.PEEK["+path+".HEADER]", "BODY.PEEK["+path+".TEXT]")
			if inner := v.List[8]; len(inner.List) > 0 && inner.List[0].Kind == List {
				walk(inner, path)
			} else {
				walk(inner, path+".1")
			}
		}
	}
	walk(structure, "")
	return out
}

// isMessage says whether a message/… holds a message.
func isMessage(subtype string) bool {
	return strings.EqualFold(subtype, "rfc822") || strings.EqualFold(subtype, "global")
}

func join(path string, n int) string {
	if path == "" {
		return strconv.Itoa(n)
	}
	return path + "." + strconv.Itoa(n)
}
