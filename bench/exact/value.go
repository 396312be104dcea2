package exact

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
)

const (
	maxDepth   = 100      // lists in lists
	maxLiteral = 64 << 20 // bytes
)

// Value is a piece of a response: a list, a text, or NIL. Quoted strings, literals and atoms of the same octets are equal.
type Value struct {
	List []Value
	Text string
	Kind Kind
}

// Kind is what a Value is.
type Kind uint8

// Kinds.
const (
	Nil Kind = iota
	Text
	List
)

// String renders a value so that equal ones are equal.
func (v Value) String() string {
	switch v.Kind {
	case Nil:
		return "NIL"
	case Text:
		return strconv.Quote(v.Text)
	}
	parts := make([]string, len(v.List))
	for i, e := range v.List {
		parts[i] = e.String()
	}
	return "(" + strings.Join(parts, " ") + ")"
}

// parser reads one response from a stream.
type parser struct{ r *bufio.Reader }

// response reads the values of a line with its literals, up to and without CRLF.
func (p parser) response() ([]Value, error) { return p.list(0, 0) }

func (p parser) list(end byte, depth int) (out []Value, err error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("lists in lists: more than %d", maxDepth)
	}
	for {
		c, err := p.r.ReadByte()
		if err != nil {
			return nil, err
		}
		switch {
		case c == '\r' && end == 0:
			_, err := p.r.ReadByte()
			return out, err
		case c == end && end != 0:
			return out, nil
		case c == ' ':
		default:
			v, err := p.value(c, depth)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
	}
}

// value reads one that begins with c.
func (p parser) value(c byte, depth int) (Value, error) {
	switch c {
	case '(':
		list, err := p.list(')', depth+1)
		return Value{Kind: List, List: list}, err
	case '"':
		return p.quoted()
	case '~': // literal8
		next, err := p.r.ReadByte()
		if err != nil || next != '{' {
			return Value{}, fmt.Errorf("%q after ~: %w", next, err)
		}
		return p.literal()
	case '{':
		return p.literal()
	}
	return p.atom(c)
}

func (p parser) quoted() (Value, error) {
	var b bytes.Buffer
	for {
		c, err := p.r.ReadByte()
		if err == nil && c == '\\' {
			c, err = p.r.ReadByte()
		} else if c == '"' {
			return Value{Kind: Text, Text: b.String()}, err
		}
		if err != nil {
			return Value{}, err
		}
		b.WriteByte(c)
	}
}

func (p parser) literal() (Value, error) {
	size, err := p.r.ReadString('\n')
	if err != nil {
		return Value{}, err
	}
	n, err := strconv.Atoi(strings.TrimRight(size, "+}\r\n"))
	if err != nil || n < 0 || n > maxLiteral {
		return Value{}, fmt.Errorf("a literal of %q bytes", size)
	}
	b := make([]byte, n)
	_, err = io.ReadFull(p.r, b)
	return Value{Kind: Text, Text: string(b)}, err
}

// atom reads up to a space or the end of a list; what is in brackets belongs to it.
func (p parser) atom(c byte) (Value, error) {
	b, inside := []byte{c}, 0
	for {
		next, err := p.r.ReadByte()
		if err != nil {
			return Value{}, err
		}
		if inside == 0 && (next == ' ' || next == ')' || next == '(') || next == '\r' {
			if err := p.r.UnreadByte(); err != nil {
				return Value{}, err
			}
			if s := string(b); s != "NIL" {
				return Value{Kind: Text, Text: s}, nil
			}
			return Value{}, nil
		}
		switch next {
		case '[':
			inside++
		case ']':
			inside--
		}
		b = append(b, next)
	}
}
