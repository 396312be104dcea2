package command

import (
	"strings"

	"hongyan/cluster/client"
	"hongyan/engine/index"
	"hongyan/frontends/imap/wire"
)

// maxIdentifier bounds the name of a user in bytes: that of the longest address.
const maxIdentifier = 320

// Rights of RFC 2086 that stand for several of RFC 4314 (section 2.1.1).
const (
	virtualCreate = client.RightCreate | client.RightDeleteBox // c
	virtualDelete = client.RightDelete | client.RightExpunge   // d
)

// SetACL is the arguments of SETACL.
type SetACL struct {
	Mailbox, Identifier string
	Op                  client.FlagOp // the rights are set, added or removed
	Rights              client.Rights
}

// ParseSetACL parses SETACL (RFC 4314 section 3.1).
func ParseSetACL(d *wire.Decoder) (*SetACL, error) {
	s := new(SetACL)
	var err error
	if s.Mailbox, s.Identifier, err = identified(d); err != nil {
		return nil, err
	}
	if err := d.SP(); err != nil {
		return nil, err
	}
	text, err := d.AString()
	if err != nil {
		return nil, err
	}
	var ok bool
	if s.Op, s.Rights, ok = parseRights(string(text)); !ok {
		return nil, wire.Bad("Unknown right")
	}
	return s, d.End()
}

// Identified parses DELETEACL and LISTRIGHTS: a mailbox and a user.
func Identified(d *wire.Decoder) (mailbox, identifier string, err error) {
	if mailbox, identifier, err = identified(d); err != nil {
		return "", "", err
	}
	return mailbox, identifier, d.End()
}

func identified(d *wire.Decoder) (mailbox, identifier string, err error) {
	if mailbox, err = spMailbox(d); err != nil {
		return "", "", err
	}
	if err := d.SP(); err != nil {
		return "", "", err
	}
	text, err := d.AString()
	if err == nil && len(text) > maxIdentifier {
		err = wire.Limit("Identifier too long")
	}
	return mailbox, string(text), err
}

// parseRights reads what SETACL says of rights; ok is false if a letter is unknown.
func parseRights(text string) (op client.FlagOp, r client.Rights, ok bool) {
	op = index.OpSet
	if rest, plus := strings.CutPrefix(text, "+"); plus {
		op, text = index.OpAdd, rest
	} else if rest, minus := strings.CutPrefix(text, "-"); minus {
		op, text = index.OpRemove, rest
	}
	for i := range len(text) {
		switch l := text[i]; l {
		case 'c':
			r |= virtualCreate
		case 'd':
			r |= virtualDelete
		default:
			at := strings.IndexByte(client.RightLetters, l)
			if at < 0 {
				return 0, 0, false
			}
			r |= 1 << at
		}
	}
	return op, r, true
}

// Rights writes rights as clients are told, with those of RFC 2086 of which they have a part.
func Rights(r client.Rights) string {
	var b []byte
	for i := range len(client.RightLetters) {
		if r&(1<<i) != 0 {
			b = append(b, client.RightLetters[i])
		}
	}
	if r&virtualCreate != 0 {
		b = append(b, 'c')
	}
	if r&virtualDelete != 0 {
		b = append(b, 'd')
	}
	return string(b)
}
