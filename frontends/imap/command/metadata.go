package command

import (
	"fmt"
	"io"
	"math"
	"strings"

	goimap "github.com/emersion/go-imap/v2"

	"hongyan/cluster/client"
	"hongyan/frontends/imap/wire"
)

// GetMetadata is the arguments of GETMETADATA.
type GetMetadata struct {
	Mailbox string // "": the server
	Entries []string
	MaxSize int64 // of values
	Depth   int   // of entries below those that are named
}

// ParseGetMetadata parses GETMETADATA (RFC 5464 section 5). Options may stand behind the mailbox too, as in the RFC's examples, which clients follow.
func ParseGetMetadata(d *wire.Decoder) (*GetMetadata, error) {
	g := &GetMetadata{MaxSize: math.MaxInt64}
	if err := d.SP(); err != nil {
		return nil, err
	}
	given := d.Peek() == '('
	if given {
		if err := d.List(func() error { return g.option(d) }); err != nil {
			return nil, err
		}
		if err := d.SP(); err != nil {
			return nil, err
		}
	}
	var err error
	if g.Mailbox, err = d.Mailbox(); err != nil {
		return nil, err
	}
	for n := 0; n < 2 && g.Entries == nil; n++ {
		if err := d.SP(); err != nil {
			return nil, err
		}
		if err := g.entries(d, !given && n == 0); err != nil {
			return nil, err
		}
	}
	return g, d.End()
}

// entries takes the names of entries, or where these may stand options.
func (g *GetMetadata) entries(d *wire.Decoder, options bool) error {
	if d.Peek() != '(' {
		name, err := entryName(d)
		g.Entries = []string{name}
		return err
	}
	n := 0
	err := d.List(func() error {
		n++
		if c := d.Peek(); options && len(g.Entries) == 0 && c != '/' && c != '"' && !d.AtLiteral() {
			return g.option(d)
		}
		if n > len(g.Entries)+1 {
			return wire.Bad("Expected an option")
		}
		return addEntry(d, &g.Entries)
	})
	if err == nil && n == 0 {
		err = wire.Bad("Expected an entry")
	}
	return err
}

// entryNames takes the names of entries in parentheses.
func entryNames(d *wire.Decoder) (names []string, err error) {
	err = d.List(func() error { return addEntry(d, &names) })
	if err == nil && len(names) == 0 {
		err = wire.Bad("Expected an entry")
	}
	return names, err
}

// addEntry takes one more name.
func addEntry(d *wire.Decoder, names *[]string) error {
	name, err := entryName(d)
	if *names = append(*names, name); len(*names) > client.MaxAnnotationsAtOnce {
		return wire.Limit("Too many entries")
	}
	return err
}

func (g *GetMetadata) option(d *wire.Decoder) error {
	w, err := d.Word()
	if err != nil {
		return err
	}
	if err := d.SP(); err != nil {
		return err
	}
	switch w {
	case "MAXSIZE":
		g.MaxSize, err = d.Number()
		return err
	case "DEPTH":
		depth, err := d.Word()
		if err != nil {
			return err
		}
		known := map[string]int{"0": 0, "1": 1, "INFINITY": math.MaxInt}
		n, ok := known[depth]
		if g.Depth = n; !ok {
			return wire.Bad("Unknown depth " + depth)
		}
		return nil
	}
	return wire.Bad("Unknown option " + w)
}

// SetMetadata is the arguments of SETMETADATA. Of an entry to be removed the value is nil.
type SetMetadata struct {
	Mailbox string
	Entries []client.Annotation
}

// ParseSetMetadata parses SETMETADATA.
func ParseSetMetadata(d *wire.Decoder) (*SetMetadata, error) {
	s := new(SetMetadata)
	var err error
	if s.Mailbox, err = spMailbox(d); err != nil {
		return nil, err
	}
	if err := d.SP(); err != nil {
		return nil, err
	}
	err = d.List(func() error {
		if len(s.Entries) == client.MaxAnnotationsAtOnce {
			return wire.Limit("Too many entries")
		}
		var n client.Annotation
		var err error
		if n.Name, err = entryName(d); err != nil {
			return err
		}
		if err := d.SP(); err != nil {
			return err
		}
		n.Value, err = entryValue(d)
		s.Entries = append(s.Entries, n)
		return err
	})
	if err == nil && len(s.Entries) == 0 {
		err = wire.Bad("Expected an entry")
	}
	if err != nil {
		return nil, err
	}
	return s, d.End()
}

// entryName takes the name of an entry, which is the same in any case (RFC 5464 section 3.2).
func entryName(d *wire.Decoder) (string, error) {
	raw, err := d.AString()
	if err != nil {
		return "", err
	}
	name := strings.ToLower(string(raw))
	for i := range len(name) {
		if c := name[i]; c < ' ' || c > '~' || c == '*' || c == '%' {
			return "", wire.Bad("Bad name of an entry")
		}
	}
	parts := strings.Split(name, "/")
	switch {
	case len(name) > client.MaxAnnotationName:
		return "", wire.Limit("Name of an entry too long")
	case len(parts) < 2 || parts[0] != "" || parts[1] != "private" && parts[1] != "shared", strings.Contains(name, "//"), parts[len(parts)-1] == "":
		return "", wire.Bad("Bad name of an entry")
	}
	return name, nil
}

// entryValue takes a string, NIL, or a literal that may hold any octet. A large one is refused before it is asked for.
func entryValue(d *wire.Decoder) ([]byte, error) {
	tooLarge := wire.No(goimap.ResponseCode(fmt.Sprintf("METADATA MAXSIZE %d", client.MaxAnnotationBytes)), "Value too large")
	if !d.AtLiteral() {
		v, ok, err := d.NString()
		if err != nil || !ok {
			return nil, err
		}
		if len(v) > client.MaxAnnotationBytes {
			return nil, tooLarge
		}
		return append([]byte{}, v...), nil
	}
	l, err := d.Stream()
	if err != nil {
		return nil, err
	}
	if l.Size > client.MaxAnnotationBytes {
		return nil, tooLarge
	}
	if err := l.Open(); err != nil {
		return nil, err
	}
	v := make([]byte, l.Size)
	if _, err := io.ReadFull(l, v); err != nil {
		return nil, err
	}
	return v, l.Close()
}
