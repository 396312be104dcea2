package exercise

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"time"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"hongyan/bench/history"
	"hongyan/bench/load"
)

// dialTimeout is for a connection to a node, which is near.
const dialTimeout = 3 * time.Second

// session is one IMAP connection, logged in.
type session struct {
	c       *imapclient.Client
	conn    net.Conn
	node    load.Node
	timeout time.Duration
	dead    bool // after anything but a clean answer
	modseq  bool // the server has CONDSTORE
	uidplus bool
	move    bool
}

// dialIMAP logs in to an account at a node, by whatever TLS the target has.
func dialIMAP(t load.Target, n load.Node, a load.Account, timeout time.Duration) (*session, error) {
	addr, implicit := n.IMAPS, true
	if addr == "" || t.TLS == nil {
		addr, implicit = n.IMAP, false
	}
	conn, err := net.DialTimeout("tcp", addr, dialTimeout)
	if err != nil {
		return nil, fmt.Errorf("connect to IMAP of %s: %w", n.ID, err)
	}
	s := &session{conn: conn, node: n, timeout: timeout}
	stop := s.watch()
	defer stop()
	secure := t.TLS
	if host, _, err := net.SplitHostPort(addr); err == nil && secure != nil && secure.ServerName == "" {
		secure = secure.Clone()
		secure.ServerName = host
	}
	o := &imapclient.Options{TLSConfig: secure}
	switch {
	case implicit:
		s.c = imapclient.New(tls.Client(conn, secure), o)
	case t.TLS != nil:
		if s.c, err = imapclient.NewStartTLS(conn, o); err != nil {
			return nil, fmt.Errorf("STARTTLS with IMAP of %s: %w", n.ID, err)
		}
	default:
		s.c = imapclient.New(conn, o)
	}
	if err := s.c.Login(a.Address, a.Password).Wait(); err != nil {
		s.close()
		return nil, fmt.Errorf("log in to IMAP of %s as %s: %w", n.ID, a.Address, err)
	}
	caps := s.c.Caps()
	s.modseq, s.uidplus, s.move = caps.Has(goimap.CapCondStore), caps.Has(goimap.CapUIDPlus), caps.Has(goimap.CapMove)
	return s, nil
}

// watch cuts the connection when an operation takes too long. The client library has no limit that can be chosen.
func (s *session) watch() (stop func()) {
	_, stop = s.watchEach()
	return stop
}

// watchEach is watch for an operation of many answers: heard is to be called with each, and its time begins anew.
func (s *session) watchEach() (heard, stop func()) {
	t := time.AfterFunc(s.timeout, func() { _ = s.conn.Close() }) // what waits for an answer then fails
	return func() { t.Reset(s.timeout) }, func() { t.Stop() }
}

// did notes whether the connection can be used again: an answer of NO is one.
func (s *session) did(err error) error {
	var answer *goimap.Error
	if err != nil && !errors.As(err, &answer) || answer != nil && answer.Type == goimap.StatusResponseTypeBye {
		s.dead = true
	}
	return err
}

func (s *session) close() { _ = s.c.Close() } // nothing is on its way

// create makes a folder that may be there.
func (s *session) create(name string) error {
	defer s.watch()()
	err := s.did(s.c.Create(name, nil).Wait())
	var answer *goimap.Error
	if errors.As(err, &answer) && answer.Type == goimap.StatusResponseTypeNo {
		_, err = s.c.Select(name, nil).Wait() // the code ALREADYEXISTS is not told by all
	}
	if err != nil {
		return fmt.Errorf("create %s at %s: %w", name, s.node.ID, err)
	}
	return nil
}

// note reads a folder afresh and enters that in the history as op.
func (s *session) note(h *history.History, op history.Op, folder string, bodies bool) (*history.Reading, error) {
	call := h.Begin(op)
	reading, err := s.read(folder, bodies)
	if err != nil {
		call.End(history.Result{Outcome: history.Unknown, Err: err})
		return nil, fmt.Errorf("read %s at %s: %w", folder, s.node.ID, err)
	}
	call.End(history.Result{Outcome: history.OK, Reading: reading})
	return reading, nil
}

// errHalf makes a reading unusable.
var errHalf = errors.New("the server told of a message less than was asked for")

// read selects a folder and fetches what is in it, by the numbers that the SELECT gave: no message that comes meanwhile gets in.
func (s *session) read(name string, bodies bool) (*history.Reading, error) {
	heard, stop := s.watchEach()
	defer stop()
	selected, err := s.c.Select(name, &goimap.SelectOptions{ReadOnly: bodies, CondStore: s.modseq}).Wait()
	if s.did(err) != nil {
		return nil, err
	}
	r := &history.Reading{UIDValidity: selected.UIDValidity, UIDNext: uint32(selected.UIDNext), HighestModSeq: selected.HighestModSeq}
	if selected.NumMessages == 0 {
		return r, nil
	}
	section := &goimap.FetchItemBodySection{Peek: true}
	if !bodies {
		section.Specifier, section.HeaderFields = goimap.PartSpecifierHeader, []string{"Message-ID"}
	}
	all := goimap.SeqSet{}
	all.AddRange(1, selected.NumMessages)
	found := s.c.Fetch(all, &goimap.FetchOptions{UID: true, Flags: true, ModSeq: s.modseq, BodySection: []*goimap.FetchItemBodySection{section}})
	for {
		data := found.Next()
		if data == nil {
			break
		}
		m, errOne := data.Collect()
		if errOne != nil {
			err = errOne
			break
		}
		heard()
		seen, whole := seenOf(m, m.FindBodySection(section), bodies)
		if !whole {
			err = errHalf // flags that changed meanwhile, which the library takes for the answer
			continue
		}
		r.Messages = append(r.Messages, seen)
		if !bodies && r.HighestModSeq != 0 { // others work meanwhile: a flag that changed after the SELECT shows a later one
			r.HighestModSeq = max(r.HighestModSeq, seen.ModSeq)
		}
	}
	if errEnd := s.did(found.Close()); errEnd != nil {
		return nil, errEnd
	}
	return r, err
}

// seenOf is a fetched message as the history has it.
func seenOf(m *imapclient.FetchMessageBuffer, raw []byte, bodies bool) (s history.Seen, whole bool) {
	if m.UID == 0 || raw == nil {
		return s, false
	}
	s = history.Seen{UID: uint32(m.UID), ModSeq: m.ModSeq}
	if head, err := mail.ReadMessage(bytes.NewReader(raw)); err == nil {
		s.ID = head.Header.Get("Message-Id")
	}
	names := make([]string, len(m.Flags))
	for i, f := range m.Flags {
		names[i] = string(f)
	}
	s.Flags = history.NewFlags(names...)
	if bodies {
		s.Hash = history.Sum(raw)
	}
	return s, true
}

// open selects a folder afresh to change something in it.
func (s *session) open(name string) error {
	defer s.watch()()
	_, err := s.c.Select(name, nil).Wait()
	return s.did(err)
}
