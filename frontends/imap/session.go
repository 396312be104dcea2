package imap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/RoaringBitmap/roaring/v2"
	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"hongyan/cluster/client"
	"hongyan/engine/index"
)

// session is one connection's state: the library calls a method per command. Only IDLE runs beside others, when the
// library has stopped waiting for it.
type session struct {
	srv  *Server
	mail mail
	c    *conn
	lib  *imapserver.Conn
	log  *slog.Logger

	ctx    context.Context // ends with the connection
	cancel context.CancelFunc
	idling sync.WaitGroup

	mu       sync.Mutex // guards what follows: held by a command, and by IDLE while it tells updates
	account  client.Account
	loggedIn bool
	failures int // logins that failed
	sel      *selected
}

// selected is the mailbox that a session has open.
type selected struct {
	id       uint32
	name     string
	readOnly bool
	view     view
	keywords []string
	own      map[uint64]struct{} // modseqs of changes that this session made and need not be told
	saved    *roaring.Bitmap     // UIDs of the last SEARCH RETURN (SAVE) (RFC 5182)
	wake     <-chan struct{}
	unwatch  func()
	stale    bool // changes may wait that no wake-up will tell of

	uidValidity uint32
}

var (
	_ imapserver.SessionIMAP4rev2   = (*session)(nil)
	_ imapserver.SessionAppendLimit = (*session)(nil)
)

// newSession is called by the library for each connection.
func (s *Server) newSession(lib *imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
	c, ok := lib.NetConn().(*conn)
	if !ok {
		return nil, nil, fmt.Errorf("connection of an unexpected type %T", lib.NetConn())
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &session{
		srv: s, mail: s.mail, c: c, lib: lib, ctx: ctx, cancel: cancel,
		log: s.log.With("remote", c.addr().String()),
	}, nil, nil
}

// Close ends the session with its connection.
func (s *session) Close() error {
	s.cancel()
	if s.loggedIn { // set by this goroutine; counted out first, so that a client that comes back at once is let in
		s.srv.leave(s.account.ID)
		s.srv.stats.sessions.Add(-1)
	}
	err := s.c.Close() // which also frees an IDLE that is stuck in a write
	s.idling.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deselect()
	return err
}

// question bounds one question to the cluster.
func (s *session) question() (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.ctx, s.srv.cfg.Limits.CommandTimeout)
}

// Login checks a password, for LOGIN and AUTHENTICATE PLAIN.
func (s *session) Login(user, password string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.srv.stopping.Load() {
		return no(goimap.ResponseCodeUnavailable, "Server is shutting down")
	}
	ctx, cancel := s.question()
	defer cancel()
	a, err := s.srv.cfg.Auth(ctx, s.c.addr(), user, password)
	if err != nil {
		return s.loginFailed(err)
	}
	if !s.srv.enter(a.ID) {
		return no(goimap.ResponseCodeLimit, "Too many connections of this account")
	}
	s.account, s.loggedIn = a, true
	s.srv.stats.logins.Add(1)
	s.srv.stats.sessions.Add(1)
	s.log = s.log.With("account", a.Address)
	return s.c.loggedIn()
}

// loginFailed counts failures; the guard closes the connection after too many.
func (s *session) loginFailed(err error) error {
	if errors.Is(err, client.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		return s.answer("log in", err)
	}
	s.srv.stats.loginFailures.Add(1)
	if s.failures++; s.failures >= s.srv.cfg.Limits.MaxLogins {
		s.c.distrust()
	}
	if errors.Is(err, client.ErrBadCredentials) || errors.Is(err, client.ErrNoUser) || errors.Is(err, client.ErrNotLocal) {
		return no(goimap.ResponseCodeAuthenticationFailed, "Wrong user name or password")
	}
	s.log.Info("IMAP login refused", "error", err)
	return no(goimap.ResponseCodeUnavailable, "Login refused for the time being, try again later")
}

// Select opens a mailbox, for SELECT and EXAMINE.
func (s *session) Select(name string, o *goimap.SelectOptions) (*goimap.SelectData, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deselect()
	ctx, cancel := s.question()
	defer cancel()
	name = canonicalName(name)
	got, err := s.mail.Select(ctx, s.account, name)
	if err == nil && got.Mailbox.NoSelect {
		err = client.ErrNoMailbox
	}
	if err != nil {
		return nil, s.answer("select "+name, err)
	}
	sel := &selected{
		id: got.Mailbox.ID, name: got.Mailbox.Name, readOnly: o.ReadOnly,
		view:     newView(got.UIDs, got.Mailbox.HighestModSeq),
		keywords: got.Mailbox.Keywords,
		own:      make(map[uint64]struct{}),
		saved:    roaring.New(),
		stale:    true, // the watch starts after the snapshot

		uidValidity: got.Mailbox.UIDValidity,
	}
	sel.wake, sel.unwatch = s.mail.Watch(s.account, sel.id)
	s.sel = sel
	return s.selectData(sel, got), nil
}

func (s *session) selectData(sel *selected, got client.Selected) *goimap.SelectData {
	d := &goimap.SelectData{
		Flags:       mailboxFlags(sel.keywords),
		NumMessages: sel.view.count(),
		UIDNext:     goimap.UID(got.Mailbox.UIDNext),
		UIDValidity: got.Mailbox.UIDValidity,
	}
	if !sel.readOnly {
		d.PermanentFlags = append(mailboxFlags(sel.keywords), goimap.FlagWildcard)
	}
	if got.Unseen != nil && !got.Unseen.IsEmpty() {
		d.FirstUnseenSeqNum = sel.view.seq(got.Unseen.Minimum())
	}
	if s.lib.EnabledCaps().Has(goimap.CapIMAP4rev2) { // RFC 9051 section 6.3.2; older clients do not expect it
		d.List = &goimap.ListData{Delim: delimiter, Mailbox: sel.name, Attrs: useAttrs(got.Mailbox)}
	}
	return d
}

// Unselect closes the mailbox without expunging.
func (s *session) Unselect() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deselect()
	return nil
}

// deselect forgets the open mailbox. The caller holds mu.
func (s *session) deselect() {
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

// writable is open for commands that change messages, which EXAMINE forbids (the library lets them through).
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
