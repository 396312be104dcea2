package command

import (
	"slices"

	goimap "github.com/emersion/go-imap/v2"

	"hongyan/frontends/imap/wire"
)

const (
	maxPatterns = 64 // of one LIST
	maxUses     = 16 // special uses of one CREATE
)

// Mailbox parses a command whose only argument is a mailbox name.
func Mailbox(d *wire.Decoder) (string, error) {
	name, err := spMailbox(d)
	if err != nil {
		return "", err
	}
	return name, d.End()
}

func spMailbox(d *wire.Decoder) (string, error) {
	if err := d.SP(); err != nil {
		return "", err
	}
	return d.Mailbox()
}

// Create parses CREATE, with the special uses that the mailbox is to have (RFC 6154).
func Create(d *wire.Decoder) (name string, uses []goimap.MailboxAttr, err error) {
	if name, err = spMailbox(d); err != nil {
		return "", nil, err
	}
	if !d.Try(' ') {
		return name, nil, d.End()
	}
	err = d.List(func() error {
		if !d.TryWord("USE") {
			return wire.Bad("Unknown parameter of CREATE")
		}
		if err := d.SP(); err != nil {
			return err
		}
		flags, err := d.Flags()
		for _, f := range flags {
			uses = append(uses, goimap.MailboxAttr(f))
		}
		if len(uses) > maxUses {
			return wire.Limit("Too many special uses")
		}
		return err
	})
	if err != nil {
		return "", nil, err
	}
	return name, uses, d.End()
}

// Rename parses RENAME.
func Rename(d *wire.Decoder) (from, to string, err error) {
	if from, err = spMailbox(d); err != nil {
		return "", "", err
	}
	if to, err = spMailbox(d); err != nil {
		return "", "", err
	}
	return from, to, d.End()
}

// StatusItem is a figure of a mailbox that STATUS can tell, by its name.
type StatusItem string

// The items of RFC 9051 section 6.3.11, RFC 3501, RFC 7889, RFC 7162, RFC 8474, RFC 9208.
const (
	StatusMessages    StatusItem = "MESSAGES"
	StatusRecent      StatusItem = "RECENT"
	StatusUIDNext     StatusItem = "UIDNEXT"
	StatusUIDValidity StatusItem = "UIDVALIDITY"
	StatusUnseen      StatusItem = "UNSEEN"
	StatusDeleted     StatusItem = "DELETED"
	StatusSize        StatusItem = "SIZE"
	StatusAppendLimit StatusItem = "APPENDLIMIT"
	StatusModSeq      StatusItem = "HIGHESTMODSEQ"
	StatusMailboxID   StatusItem = "MAILBOXID"

	StatusDeletedStorage StatusItem = "DELETED-STORAGE"
)

// Status parses STATUS.
func Status(d *wire.Decoder) (name string, items []StatusItem, err error) {
	if name, err = spMailbox(d); err != nil {
		return "", nil, err
	}
	if err := d.SP(); err != nil {
		return "", nil, err
	}
	if items, err = statusItems(d); err != nil {
		return "", nil, err
	}
	return name, items, d.End()
}

// statusItems takes a list of items, each of which counts once.
func statusItems(d *wire.Decoder) (items []StatusItem, err error) {
	err = d.List(func() error {
		w, err := d.Word()
		if err != nil {
			return err
		}
		switch item := StatusItem(w); item {
		case StatusMessages, StatusRecent, StatusUIDNext, StatusUIDValidity, StatusUnseen, StatusDeleted, StatusSize, StatusAppendLimit, StatusModSeq,
			StatusMailboxID, StatusDeletedStorage:
			if !slices.Contains(items, item) {
				items = append(items, item)
			}
			return nil
		}
		return wire.Bad("Unknown STATUS data item")
	})
	if err == nil && len(items) == 0 {
		err = wire.Bad("Expected a STATUS data item")
	}
	return items, err
}

// List is the arguments of LIST or LSUB. ReturnStatus of the options is not used: Status says it.
type List struct {
	Reference string
	Patterns  []string
	Options   goimap.ListOptions
	Status    []StatusItem // what to tell of each mailbox (RFC 5819)
	Metadata  []string     // annotations to tell of each mailbox (RFC 9590)
	MyRights  bool         // tell the user's rights on each mailbox (RFC 8440)
	Extended  bool         // the form of RFC 5258
}

// ParseLsub parses LSUB.
func ParseLsub(d *wire.Decoder) (*List, error) {
	l := new(List)
	if err := d.SP(); err != nil {
		return nil, err
	}
	return l, l.names(d, false)
}

// ParseList parses LIST (RFC 9051 section 6.3.9).
func ParseList(d *wire.Decoder) (*List, error) {
	l := new(List)
	if err := d.SP(); err != nil {
		return nil, err
	}
	if d.Peek() == '(' {
		l.Extended = true
		if err := d.List(func() error { return l.selection(d) }); err != nil {
			return nil, err
		}
		if o := &l.Options; o.SelectRecursiveMatch && !o.SelectSubscribed {
			return nil, wire.Bad("RECURSIVEMATCH needs another selection option")
		}
		if err := d.SP(); err != nil {
			return nil, err
		}
	}
	return l, l.names(d, true)
}

// names takes the reference, the patterns, and what follows those.
func (l *List) names(d *wire.Decoder, full bool) (err error) {
	if l.Reference, err = d.Mailbox(); err != nil {
		return err
	}
	if err := d.SP(); err != nil {
		return err
	}
	one := func() error {
		p, err := d.Pattern()
		if l.Patterns = append(l.Patterns, p); len(l.Patterns) > maxPatterns {
			return wire.Limit("Too many patterns")
		}
		return err
	}
	if full && d.Peek() == '(' {
		l.Extended = true
		err = d.List(one)
	} else {
		err = one()
	}
	if err != nil {
		return err
	}
	if full && d.Try(' ') {
		l.Extended = true
		if !d.TryWord("RETURN") {
			return wire.Bad("Expected RETURN")
		}
		if err := d.SP(); err != nil {
			return err
		}
		if err := d.List(func() error { return l.returned(d) }); err != nil {
			return err
		}
	}
	return d.End()
}

func (l *List) selection(d *wire.Decoder) error {
	w, err := d.Word()
	if err != nil {
		return err
	}
	switch w {
	case "SUBSCRIBED":
		l.Options.SelectSubscribed = true
	case "REMOTE":
		l.Options.SelectRemote = true
	case "RECURSIVEMATCH":
		l.Options.SelectRecursiveMatch = true
	case "SPECIAL-USE":
		l.Options.SelectSpecialUse = true
	default:
		return wire.Bad("Unknown selection option " + w)
	}
	return nil
}

func (l *List) returned(d *wire.Decoder) error {
	w, err := d.Word()
	if err != nil {
		return err
	}
	switch w {
	case "SUBSCRIBED":
		l.Options.ReturnSubscribed = true
	case "CHILDREN":
		l.Options.ReturnChildren = true
	case "SPECIAL-USE":
		l.Options.ReturnSpecialUse = true
	case "MYRIGHTS":
		l.MyRights = true
	case "STATUS":
		if err := d.SP(); err != nil {
			return err
		}
		l.Status, err = statusItems(d)
		return err
	case "METADATA":
		if err := d.SP(); err != nil {
			return err
		}
		l.Metadata, err = entryNames(d)
		return err
	default:
		return wire.Bad("Unknown return option " + w)
	}
	return nil
}

// Append takes the arguments of APPEND in front of the first message.
func Append(d *wire.Decoder) (mailbox string, err error) {
	if mailbox, err = spMailbox(d); err != nil {
		return "", err
	}
	return mailbox, d.SP()
}

// Message is what APPEND says of one message.
type Message struct {
	goimap.AppendOptions
	Literal wire.Literal
	UTF8    bool // in the form of RFC 6855 section 4, whose parenthesis EndMessage takes
}

// AppendMessage takes what APPEND says of the next message, up to its bytes, which are not asked for yet.
func AppendMessage(d *wire.Decoder) (m Message, err error) {
	if d.Peek() == '(' {
		if m.Flags, err = d.Flags(); err != nil {
			return m, err
		}
		if err := d.SP(); err != nil {
			return m, err
		}
	}
	if d.Peek() == '"' {
		if m.Time, err = d.DateTime(); err != nil {
			return m, err
		}
		if err := d.SP(); err != nil {
			return m, err
		}
	}
	if d.TryWord("UTF8") {
		m.UTF8 = true
		if err := d.SP(); err != nil {
			return m, err
		}
		if err := d.Expect('('); err != nil {
			return m, err
		}
	}
	m.Literal, err = d.Stream()
	return m, err
}

// EndMessage goes on behind a message's bytes. more says that another message follows.
func EndMessage(d *wire.Decoder, m Message) (more bool, err error) {
	if err := m.Literal.Close(); err != nil {
		return false, err
	}
	if m.UTF8 {
		if err := d.Expect(')'); err != nil {
			return false, err
		}
	}
	if !d.AtEnd() && d.Try(' ') && !d.AtEnd() {
		return true, nil
	}
	return false, d.End()
}
