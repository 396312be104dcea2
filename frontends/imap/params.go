package imap

import (
	"strconv"
	"strings"

	"hongyan/engine/message"
)

// wholeParams puts together values that came in pieces, name*0, name*1 and so on, as IMAP servers have to (RFC 2231 section 6). The result is name*, still
// with its charset and encoded, if a piece was so, else name; it comes behind the other parameters. A piece that does not follow on the one before stays as it is.
func wholeParams(params message.Params) message.Params {
	first := -1
	for i := range params {
		if strings.Contains(params[i].Name, "*") {
			first = i
			break
		}
	}
	if first < 0 {
		return params
	}
	var plain, starred message.Params
	open := make(map[string]*run, 1)
	var order []*run
	for _, p := range params {
		base, n, encoded, ok := pieceName(p.Name)
		r := open[base]
		switch {
		case !ok && strings.Contains(p.Name, "*"):
			starred = append(starred, p)
		case !ok:
			plain = append(plain, p)
		case n == 0 && r == nil:
			r = &run{base: base, next: 1}
			r.add(p.Value, encoded)
			open[base] = r
			order = append(order, r)
		case r != nil && n == r.next:
			r.next++
			r.add(p.Value, encoded)
		default:
			starred = append(starred, p)
		}
	}
	for _, r := range order {
		starred = append(starred, r.param())
	}
	return append(plain, starred...)
}

// run is a value that comes in pieces.
type run struct {
	base    string
	next    int
	encoded bool
	pieces  []valuePiece
}

type valuePiece struct {
	text    string
	encoded bool
}

func (r *run) add(text string, encoded bool) {
	r.encoded = r.encoded || encoded
	r.pieces = append(r.pieces, valuePiece{text, encoded})
}

// param is the whole value. Where a piece was encoded, the per cent signs of the others are too.
func (r *run) param() message.Param {
	var b strings.Builder
	for _, p := range r.pieces {
		if r.encoded && !p.encoded {
			p.text = strings.ReplaceAll(p.text, "%", "%25")
		}
		b.WriteString(p.text)
	}
	name := r.base
	if r.encoded {
		name += "*"
	}
	return message.Param{Name: name, Value: b.String()}
}

// pieceName takes the name of a piece apart: name*number, and another * if it is encoded.
func pieceName(name string) (base string, n int, encoded, ok bool) {
	base, rest, _ := strings.Cut(name, "*")
	digits, encoded := strings.CutSuffix(rest, "*")
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 || base == "" || digits != strconv.Itoa(n) {
		return "", 0, false, false
	}
	return base, n, encoded, true
}
