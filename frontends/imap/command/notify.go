package command

import (
	goimap "github.com/emersion/go-imap/v2"

	"hongyan/frontends/imap/wire"
)

const (
	maxGroups = 32  // event groups of one NOTIFY
	maxNamed  = 256 // mailboxes that they name, together
)

// Events is a set of kinds of events (RFC 5465 section 5).
type Events uint8

// The kinds that there are here.
const (
	EventNew Events = 1 << iota
	EventExpunge
	EventFlags
	EventName
	EventSubscription
	EventMailboxMetadata // (RFC 5464)
	EventServerMetadata

	messageEvents = EventNew | EventExpunge | EventFlags
)

// Filter says which mailboxes an event group is about (RFC 5465 section 6).
type Filter uint8

// The filters.
const (
	FilterSelected Filter = iota
	FilterDelayed         // the selected mailbox, whose expunges wait for a command
	FilterPersonal        // all; and "inboxes", since mail may be delivered to any
	FilterSubscribed
	FilterSubtree   // Names and what is below them
	FilterMailboxes // Names
)

// EventGroup is what a client wants to hear of some mailboxes.
type EventGroup struct {
	Filter Filter
	Names  []string
	Events Events // 0: none
	Items  []Item // what to tell of a new message in the selected mailbox
}

// Notify is the arguments of NOTIFY.
type Notify struct {
	None    bool
	Status  bool // what there is now is to be told
	Groups  []EventGroup
	named   int
	strange bool
}

const codeBadEvent goimap.ResponseCode = "BADEVENT (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange MailboxMetadataChange ServerMetadataChange)"

// ParseNotify parses NOTIFY (RFC 5465 section 8).
func ParseNotify(d *wire.Decoder) (*Notify, error) {
	n := new(Notify)
	if err := d.SP(); err != nil {
		return nil, err
	}
	if d.TryWord("NONE") {
		n.None = true
		return n, d.End()
	}
	if !d.TryWord("SET") {
		return nil, wire.Bad("Expected SET or NONE")
	}
	if err := d.SP(); err != nil {
		return nil, err
	}
	if d.TryWord("STATUS") {
		n.Status = true
		if err := d.SP(); err != nil {
			return nil, err
		}
	}
	for {
		if err := n.group(d); err != nil {
			return nil, err
		}
		if d.AtEnd() || !d.Try(' ') {
			break
		}
	}
	if err := d.End(); err != nil {
		return nil, err
	}
	if n.strange {
		return nil, wire.No(codeBadEvent, "Event not supported")
	}
	return n, n.check()
}

// group takes an event group.
func (n *Notify) group(d *wire.Decoder) error {
	if len(n.Groups) == maxGroups {
		return wire.Limit("Too many event groups")
	}
	if err := d.Expect('('); err != nil {
		return err
	}
	var g EventGroup
	if err := n.filter(d, &g); err != nil {
		return err
	}
	if err := d.SP(); err != nil {
		return err
	}
	if !d.TryWord("NONE") {
		count := 0
		if err := d.List(func() error { count++; return n.event(d, &g) }); err != nil {
			return err
		}
		if count == 0 {
			return wire.Bad("Expected an event")
		}
	}
	n.Groups = append(n.Groups, g)
	return d.Expect(')')
}

func (n *Notify) filter(d *wire.Decoder, g *EventGroup) error {
	w, err := d.Word()
	if err != nil {
		return err
	}
	switch w {
	case "SELECTED":
		g.Filter = FilterSelected
	case "SELECTED-DELAYED":
		g.Filter = FilterDelayed
	case "PERSONAL", "INBOXES":
		g.Filter = FilterPersonal
	case "SUBSCRIBED":
		g.Filter = FilterSubscribed
	case "SUBTREE", "MAILBOXES":
		if g.Filter = FilterSubtree; w == "MAILBOXES" {
			g.Filter = FilterMailboxes
		}
		return n.names(d, g)
	default:
		return wire.Bad("Unknown mailbox filter " + w)
	}
	return nil
}

// names takes one mailbox or several.
func (n *Notify) names(d *wire.Decoder, g *EventGroup) error {
	if err := d.SP(); err != nil {
		return err
	}
	one := func() error {
		if n.named++; n.named > maxNamed {
			return wire.Limit("Too many mailboxes")
		}
		name, err := d.Mailbox()
		g.Names = append(g.Names, name)
		return err
	}
	if d.Peek() != '(' {
		return one()
	}
	if err := d.List(one); err != nil {
		return err
	}
	if len(g.Names) == 0 {
		return wire.Bad("Expected a mailbox")
	}
	return nil
}

// event takes an event, and of MessageNew what to tell of the message.
func (n *Notify) event(d *wire.Decoder, g *EventGroup) error {
	w, err := d.Word()
	if err != nil {
		return err
	}
	switch w {
	case "MESSAGENEW":
		g.Events |= EventNew
		g.Items, err = fetchItems(d)
		return err
	case "MESSAGEEXPUNGE":
		g.Events |= EventExpunge
	case "FLAGCHANGE":
		g.Events |= EventFlags
	case "MAILBOXNAME":
		g.Events |= EventName
	case "SUBSCRIPTIONCHANGE":
		g.Events |= EventSubscription
	case "MAILBOXMETADATACHANGE":
		g.Events |= EventMailboxMetadata
	case "SERVERMETADATACHANGE":
		g.Events |= EventServerMetadata
	default:
		n.strange = true
	}
	return nil
}

// fetchItems takes FETCH data items in parentheses, if there are some. To tell them sets no flag.
func fetchItems(d *wire.Decoder) ([]Item, error) {
	if !d.TryAll(" (") {
		return nil, nil
	}
	var f Fetch
	for {
		if err := f.item(d); err != nil {
			return nil, err
		}
		if d.Try(')') {
			break
		}
		if err := d.SP(); err != nil {
			return nil, err
		}
	}
	for i := range f.Items {
		f.Items[i].Section.Peek = true
	}
	return f.Items, nil
}

// check refuses what the grammar allows and the RFC does not.
func (n *Notify) check() error {
	selected := 0
	for i := range n.Groups {
		g := &n.Groups[i]
		both := g.Events & (EventNew | EventExpunge)
		switch {
		case both != 0 && both != EventNew|EventExpunge, g.Events&EventFlags != 0 && both == 0:
			return wire.Bad("MessageNew and MessageExpunge must be given together, and with FlagChange")
		case g.Filter > FilterDelayed && len(g.Items) > 0:
			return wire.Bad("Only of the selected mailbox's messages something can be told")
		case g.Filter > FilterDelayed:
			continue
		case g.Events&^messageEvents != 0:
			return wire.Bad("The selected mailbox has events of messages only")
		}
		if selected++; selected > 1 {
			return wire.Bad("Only one group is of the selected mailbox")
		}
	}
	return nil
}
