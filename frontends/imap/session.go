package imap

import (
	"context"
	"log/slog"
	"strconv"
	"sync"

	"github.com/RoaringBitmap/roaring/v2"
	goimap "github.com/emersion/go-imap/v2"

	"hongyan/cluster/client"
	"hongyan/engine/index"
	"hongyan/frontends/imap/command"
	"hongyan/frontends/imap/wire"
)

// session is one connection's state. One goroutine reads commands and runs them; in IDLE others tell updates, when there are some.
type session struct {
	srv  *Server
	mail mail
	c    *conn
	dec  *wire.Decoder
	out  *wire.Encoder
	log  *slog.Logger

	ctx    context.Context // ends with the connection
	cancel context.CancelFunc

	mu         sync.Mutex // guards what follows and out: held by a command, and by IDLE while it tells updates
	state      state
	account    client.Account
	rev2, utf8 bool // what was enabled (RFC 5161)
	condstore  bool // modification sequences are told (RFC 7162)
	qresync    bool // VANISHED is told in place of EXPUNGE
	compressed bool
	failures   int // logins that failed
	bad        int // commands in a row that were answered BAD
	count      int // commands
	sel        *selected
	notify     *notification // nil: the client has not asked
	run        *storeRun     // STOREs that were sent at once; nil: none
	pace       pace
	crowd      int64 // sessions that waited for their turn to ask when this one had to
}

// selected is the mailbox that a session has open.
type selected struct {
	account  client.Account // whose it is
	id       uint32
	name     string // to the client
	rights   client.Rights
	readOnly bool
	view     view
	told     uint64 // modseq up to which the client was told everything
	keywords []string
	own      map[uint64]struct{} // modseqs of changes that this session made and need not be told
	saved    *roaring.Bitmap     // UIDs of the last SEARCH RETURN (SAVE) (RFC 5182)
	wakes    *wakes
	unwatch  func()
	stale    bool            // changes may wait that no wake-up will tell of
	behind   bool            // changes of flags were kept from the client, as it wants it: told grows no more
	untold   *roaring.Bitmap // new messages whose data the client asked to be told, and was not yet; nil is none
	mine     *roaring.Bitmap // new messages that this session made itself, until they have a number
	contexts contexts        // searches whose results are kept up to date

	counts     bool            // the cluster notes of which messages sessions were told
	recent     *roaring.Bitmap // messages that are \Recent here; nil: none. See recent.go
	recentTold uint32          // how many of them the client knows of

	uidValidity uint32
}

func newSession(s *Server, c *conn) *session {
	ctx, cancel := context.WithCancel(context.Background())
	return &session{
		srv: s, mail: s.mail, c: c, dec: c.dec, out: c.out, ctx: ctx, cancel: cancel, state: stateStranger,
		log: s.log.With("remote", c.addr().String()),
	}
}

// close ends the session with its connection.
func (s *session) close() {
	s.cancel()
	if s.state != stateStranger { // counted out first, so that a client that comes back at once is let in
		s.srv.leave(s.account.ID)
		s.srv.stats.sessions.Add(-1)
	}
	s.c.end()
	s.out.Fail(errGoodbye)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deselect()
	s.unnotify()
}

// question bounds one question to the cluster.
func (s *session) question() (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.ctx, s.srv.cfg.Limits.CommandTimeout)
}

// selectCommand opens a mailbox, for SELECT and EXAMINE.
func (s *session) selectCommand(c *call) error {
	asked, err := command.ParseSelect(s.dec)
	if err != nil {
		return err
	}
	if asked.Resync != nil && !s.qresync {
		return bad("QRESYNC must be enabled first")
	}
	if s.sel != nil {
		s.out.Line("* OK [CLOSED] Previous mailbox is closed")
	}
	s.deselect()
	s.condstore = s.condstore || asked.CondStore
	ctx, cancel := s.question()
	defer cancel()
	p, err := s.placeOf(ctx, asked.Mailbox)
	var got client.Selected
	if err == nil {
		got, err = s.mail.Select(ctx, p.account, p.name)
	}
	if err == nil && got.Mailbox.NoSelect {
		err = client.ErrNoMailbox
	}
	var lack since
	got.Mailbox = seen(p.account, got.Mailbox)
	sel := newSelected(p.account, got, c.name == "EXAMINE")
	if err == nil {
		lack, err = s.missed(sel, asked.Resync, &got)
	}
	if err != nil {
		return s.answer("select "+asked.Mailbox, err)
	}
	sel.unwatch = s.mail.WatchFunc(sel.account, sel.id, sel.wakes.wake)
	s.meet(sel, sel.view.uids, got.Mailbox.Told)
	s.sel, s.state = sel, stateSelected
	s.tellSelected(sel, got)
	if err := s.tellMissed(sel, lack); err != nil {
		s.deselect()
		return s.answer("select "+asked.Mailbox, err)
	}
	c.code = "READ-WRITE"
	if sel.readOnly {
		c.code = "READ-ONLY"
	}
	return nil
}

func newSelected(a client.Account, got client.Selected, readOnly bool) *selected {
	return &selected{
		account: a, id: got.Mailbox.ID, name: got.Mailbox.Name, rights: got.Rights,
		readOnly: readOnly || !client.Changing(got.Rights), // RFC 4314 section 5.2
		view:     newView(got.UIDs, got.Mailbox.HighestModSeq),
		told:     highest(&got.Mailbox),
		keywords: got.Mailbox.Keywords,
		own:      make(map[uint64]struct{}),
		saved:    roaring.New(),
		mine:     roaring.New(),
		wakes:    new(wakes),
		stale:    true, // the watch starts after the snapshot
		counts:   got.Counts,

		uidValidity: got.Mailbox.UIDValidity,
	}
}

// tellSelected says what a mailbox is like that was opened (RFC 9051 section 6.3.2).
func (s *session) tellSelected(sel *selected, got client.Selected) {
	out, flags := s.out, mailboxFlags(sel.keywords)
	out.Raw("* FLAGS ").Flags(flags).Line("")
	s.tellExists(sel.view.count())
	if sel.recentTold = ^uint32(0); !s.rev2 { // it knows of no number
		s.tellRecent(sel)
	}
	if got.Unseen != nil && !got.Unseen.IsEmpty() && !s.rev2 {
		out.Raw("* OK [UNSEEN ").Num(uint64(sel.view.seq(got.Unseen.Minimum()))).Line("] First unseen message")
	}
	s.tellPermanent(sel, flags)
	out.Raw("* OK [UIDNEXT ").Num(uint64(got.Mailbox.UIDNext)).Line("] Predicted next UID")
	out.Raw("* OK [UIDVALIDITY ").Num(uint64(got.Mailbox.UIDValidity)).Line("] UIDs are valid")
	out.Raw("* OK [MAILBOXID (").Raw(mailboxID(sel.account, &got.Mailbox)).Line(")] Stays when it is renamed")
	s.tellHighest(sel.told)
	if s.rev2 { // older clients do not expect it
		s.tellList("LIST", &listing{name: sel.name, attrs: useAttrs(got.Mailbox)})
	}
}

func (s *session) tellPermanent(sel *selected, flags []goimap.Flag) {
	s.out.Raw("* OK [PERMANENTFLAGS ").Flags(sel.permanent(flags)).Line("] Permanent flags")
}

// permanent are those of a mailbox's flags that the session may change, with the wildcard as long as the mailbox takes more keywords.
func (sel *selected) permanent(flags []goimap.Flag) (some []goimap.Flag) {
	if sel.readOnly {
		return nil
	}
	scope := client.ScopeOf(sel.rights)
	for _, f := range flags {
		if bit := systemBit(f); bit == 0 && scope.Keywords || bit&scope.System != 0 {
			some = append(some, f)
		}
	}
	if scope.Keywords && len(sel.keywords) < index.MaxKeywords {
		some = append(some, goimap.FlagWildcard)
	}
	return some
}

func (s *session) tellExists(n uint32) { s.out.Raw("* ").Num(uint64(n)).Line(" EXISTS") }

// tellExpunge says that a message is gone; its number goes to the one after it.
func (s *session) tellExpunge(seq uint32) error {
	return s.out.Raw("* ").Num(uint64(seq)).Line(" EXPUNGE").Err()
}

// tellChange says which flags a message has, and for clients that want it since which modseq. Flags may be left out for those.
func (s *session) tellChange(sel *selected, seq uint32, c client.FlagChange, uid, flags bool) error {
	s.out.Raw("* ").Num(uint64(seq)).Raw(" FETCH (")
	if uid || s.qresync { // RFC 7162 section 3.2.4
		s.out.Raw("UID ").Num(uint64(c.UID)).SP()
	}
	if flags {
		s.out.Raw("FLAGS ").Flags(s.flagsOf(sel, c.UID, c.Flags))
		if s.condstore {
			s.out.SP()
		}
	}
	if s.condstore {
		s.tellModSeq(c.ModSeq)
	}
	return s.out.Line(")").Err()
}

// tellModSeq is a message's modification sequence in a FETCH response.
func (s *session) tellModSeq(modseq uint64) { s.out.Raw("MODSEQ (").Num(modseq).Raw(")") }

// unselect closes the mailbox without expunging (RFC 3691).
func (s *session) unselect(*call) error {
	if err := command.None(s.dec); err != nil {
		return err
	}
	s.deselect()
	return nil
}

// deselect forgets the open mailbox.
func (s *session) deselect() {
	if s.state == stateSelected {
		s.state = stateUser
	}
	s.forget()
}

// forget lets go of the open mailbox. While the client still believes to have it open, the state stays.
func (s *session) forget() {
	if s.sel != nil {
		s.sel.unwatch()
		s.sel = nil
	}
}

// open is the selected mailbox; without one, after its deletion by this very session, commands are refused.
func (s *session) open() (*selected, error) {
	if s.sel == nil {
		return nil, no(goimap.ResponseCodeNonExistent, "The selected mailbox was deleted")
	}
	return s.sel, nil
}

// writable is open for commands that change messages, which EXAMINE forbids.
func (s *session) writable() (*selected, error) {
	sel, err := s.open()
	if err != nil {
		return nil, err
	}
	if sel.readOnly {
		return nil, no(goimap.ResponseCodeNoPerm, "The mailbox is open read-only")
	}
	return sel, nil
}

// resolve finds the messages that a command means, without those that vanished; lost says that sequence numbers
// named some of those.
func (sel *selected) resolve(set goimap.NumSet) (uids *roaring.Bitmap, lost bool, err error) {
	v := &sel.view
	switch set := set.(type) {
	case goimap.SeqSet:
		var ok bool
		if uids, ok = v.fromSeqs(set); !ok {
			return nil, false, bad("No message has such a sequence number")
		}
		lost = uids.Intersects(v.gone)
	case goimap.UIDSet:
		if goimap.IsSearchRes(set) {
			uids = roaring.And(sel.saved, v.uids)
		} else {
			uids = v.fromUIDs(set)
		}
	default:
		return nil, false, bad("Unknown kind of message set")
	}
	uids.AndNot(v.gone)
	return uids, lost, nil
}

// systemSeen is what reading a message's body sets.
func systemSeen() client.Flags { return client.Flags{System: index.FlagSeen} }

// decimal writes a number in text.
func decimal[N uint32 | uint64](n N) string { return strconv.FormatUint(uint64(n), 10) }
