package imap

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	goimap "github.com/emersion/go-imap/v2"

	"hongyan/cluster/client"
	"hongyan/frontends/imap/command"
)

const maxStrange = 50 // commands before a login

// capabilities are what the client may use in its state, over its connection.
func (s *session) capabilities() string {
	const always = "IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR ID ENABLE"
	switch {
	case !s.c.secured:
		return always + " STARTTLS LOGINDISABLED"
	case s.state == stateStranger:
		return always + " AUTH=PLAIN"
	}
	all := always + " IDLE UNSELECT NAMESPACE CHILDREN UIDPLUS MOVE ESEARCH SEARCHRES LIST-EXTENDED LIST-STATUS STATUS=SIZE" +
		" SPECIAL-USE CREATE-SPECIAL-USE BINARY CONDSTORE QRESYNC UTF8=ACCEPT APPENDLIMIT=" + strconv.FormatUint(uint64(s.appendLimit()), 10)
	all += " SORT SORT=DISPLAY ESORT THREAD=ORDEREDSUBJECT THREAD=REFERENCES WITHIN OBJECTID PREVIEW PARTIAL CONTEXT=SEARCH INPROGRESS NOTIFY QUOTA QUOTA=RES-STORAGE QUOTA=RES-MESSAGE"
	if s.mail.Sharing() {
		all += " MULTIAPPEND REPLACE SAVEDATE METADATA LIST-METADATA ACL RIGHTS=kxte LIST-MYRIGHTS"
	}
	if !s.compressed {
		all += " COMPRESS=DEFLATE"
	}
	return all
}

func (s *session) capability(*call) error {
	if err := command.None(s.dec); err != nil {
		return err
	}
	s.out.Line("* CAPABILITY " + s.capabilities())
	return nil
}

// noop also asks the mailbox for changes, whether or not a wake-up came.
func (s *session) noop(*call) error {
	if err := command.None(s.dec); err != nil {
		return err
	}
	if s.sel != nil {
		s.sel.stale = true
	}
	return nil
}

func (s *session) logout(c *call) error {
	if err := command.None(s.dec); err != nil {
		return err
	}
	s.deselect()
	s.out.Line("* BYE Logging out")
	c.after = func() error { return errGoodbye }
	return nil
}

// id notes what the client says of itself, and tells our name (RFC 2971).
func (s *session) id(*call) error {
	pairs, err := command.ID(s.dec)
	if err != nil {
		return err
	}
	attrs := make([]any, 0, 2*len(pairs))
	for _, p := range pairs {
		attrs = append(attrs, p[0], p[1])
	}
	s.log.Debug("IMAP client", attrs...)
	s.out.Line(`* ID ("name" "Hongyan")`)
	return nil
}

// startTLS agrees to TLS. What was sent with the command in clear text can only be an attempt to have it taken for
// what follows the handshake (CVE-2011-0411): then the connection ends.
func (s *session) startTLS(c *call) error {
	if err := command.None(s.dec); err != nil {
		return err
	}
	if s.c.secured {
		return bad("TLS is already active")
	}
	if s.dec.Buffered() > 0 {
		s.c.refuseInput("[CLIENTBUG] Nothing may follow STARTTLS before the handshake")
		return errGoodbye
	}
	c.text = "Begin TLS negotiation now"
	c.after = func() error { return s.c.secure(s.srv.cfg.TLS) }
	return nil
}

// login checks a password, which only travels inside TLS.
func (s *session) login(c *call) error {
	if !s.c.secured {
		return privacyRequired()
	}
	user, password, err := command.Login(s.dec)
	if err != nil {
		return err
	}
	return s.enter(c, user, password)
}

func privacyRequired() error {
	return no(goimap.ResponseCodePrivacyRequired, "TLS is required to log in")
}

// authenticate is login by SASL PLAIN (RFC 4616), with or without an initial response (RFC 4959).
func (s *session) authenticate(c *call) error {
	if !s.c.secured {
		return privacyRequired()
	}
	mechanism, response, err := command.Authenticate(s.dec)
	if err != nil {
		return err
	}
	if mechanism != "PLAIN" {
		return no("", "Mechanism not supported")
	}
	if response == nil {
		s.out.Line("+ ")
		line, err := s.dec.Answer()
		if err != nil {
			return err
		}
		if bytes.Equal(line, []byte("*")) {
			return bad("Authentication cancelled")
		}
		if response, err = command.Base64(line); err != nil {
			return err
		}
	}
	identity, user, password, err := command.Plain(response)
	if err != nil {
		return err
	}
	if identity != "" && identity != user {
		return no(goimap.ResponseCodeAuthorizationFailed, "Nobody may act for another user")
	}
	return s.enter(c, user, password)
}

// enter logs in.
func (s *session) enter(c *call, user, password string) error {
	if s.srv.stopping.Load() {
		return no(goimap.ResponseCodeUnavailable, "Server is shutting down")
	}
	a, err := s.check(user, password)
	if err != nil {
		return s.loginFailed(err)
	}
	if !s.srv.enter(a.ID) {
		return no(goimap.ResponseCodeLimit, "Too many connections of this account")
	}
	s.account, s.state = a, stateUser
	s.srv.stats.logins.Add(1)
	s.srv.stats.sessions.Add(1)
	s.log = s.log.With("account", a.Address)
	c.code, c.text = "CAPABILITY "+s.capabilities(), "Logged in"
	return s.c.loggedIn(s.mail.MaxMessage())
}

func (s *session) check(user, password string) (client.Account, error) {
	ctx, cancel := s.question()
	defer cancel()
	return s.srv.cfg.Auth(ctx, s.c.addr(), user, password)
}

// loginFailed counts failures; after too many the connection is closed.
func (s *session) loginFailed(err error) error {
	if errors.Is(err, client.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		return s.answer("log in", err)
	}
	s.srv.stats.loginFailures.Add(1)
	s.failures++
	if errors.Is(err, client.ErrBadCredentials) || errors.Is(err, client.ErrNoUser) || errors.Is(err, client.ErrNotLocal) {
		return no(goimap.ResponseCodeAuthenticationFailed, "Wrong user name or password")
	}
	s.log.Info("IMAP login refused", "error", err)
	return no(goimap.ResponseCodeUnavailable, "Login refused for the time being, try again later")
}

// enable turns on what changes responses that older clients know otherwise (RFC 5161).
func (s *session) enable(*call) error {
	asked, err := command.Enable(s.dec)
	if err != nil {
		return err
	}
	var done []string
	modseqs := false
	for _, c := range asked {
		switch {
		case c == "IMAP4REV2" && !s.rev2:
			s.rev2 = true
			done = append(done, "IMAP4rev2")
		case c == "CONDSTORE" && !s.condstore && !slices.Contains(done, c):
			modseqs = true
			done = append(done, c)
		case c == "QRESYNC" && !s.qresync:
			s.qresync, modseqs = true, true
			done = append(done, c)
		case c == "UTF8=ACCEPT" && !s.utf8:
			s.utf8 = true
			done = append(done, c)
		}
	}
	if s.rev2 || s.utf8 {
		s.dec.SetUTF8()
		s.out.SetUTF8()
	}
	s.out.Line(strings.TrimRight("* ENABLED "+strings.Join(done, " "), " "))
	if modseqs {
		s.wantModSeqs()
	}
	return nil
}
