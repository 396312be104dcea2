package pop3

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"hongyan/cluster/client"
	"hongyan/frontends/auth"
)

// greeting obeys a command in the authorization state (RFC 1939 section 4).
func (s *session) greeting(verb, arg string) error {
	switch verb {
	case "QUIT":
		s.ok("bye")
		return errQuit
	case "STLS":
		if arg != "" {
			return errSyntax
		}
		return s.startTLS()
	case "USER":
		return s.name(arg)
	case "PASS":
		return s.password(arg)
	case "AUTH":
		return s.sasl(arg)
	case "UTF8":
		return s.allowUTF8(arg)
	default:
		return errSyntax
	}
}

// allowUTF8 obeys UTF8 (RFC 6856 section 2.1). Nothing depends on it: names and passwords are UTF-8 here, and messages go out as they
// are stored. STLS may not follow it; it is only taken where that cannot.
func (s *session) allowUTF8(arg string) error {
	if arg != "" {
		return errSyntax
	}
	if s.private() {
		s.ok("UTF-8 it is")
	}
	return nil
}

// private reports whether a password may be sent here, and says so if not.
func (s *session) private() bool {
	if !s.secure {
		s.fail("TLS is needed first, say STLS")
	}
	return s.secure
}

func (s *session) name(arg string) error {
	if !s.private() {
		return nil
	}
	if strings.TrimSpace(arg) == "" {
		return errSyntax
	}
	s.user = strings.TrimSpace(arg)
	s.ok("now the password") // also for nobody: who exists is not told
	return nil
}

func (s *session) password(arg string) error {
	if !s.private() {
		return nil
	}
	user := s.user
	s.user = ""
	if user == "" {
		s.fail("USER comes first")
		return nil
	}
	return s.login(user, arg) // a password may hold blanks anywhere
}

// sasl obeys AUTH (RFC 5034).
func (s *session) sasl(arg string) error {
	mechanism, response, given := strings.Cut(arg, " ")
	if mechanism == "" {
		s.ok("mechanisms follow")
		if s.secure {
			s.write("PLAIN\r\n")
		}
		s.write(".\r\n")
		return nil
	}
	if !strings.EqualFold(mechanism, "PLAIN") {
		s.fail("mechanism is not offered")
		return nil
	}
	if !s.private() {
		return nil
	}
	if !given {
		s.write("+ \r\n")
		if err := s.out.Flush(); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		line, err := s.line(maxResponse)
		if err != nil {
			return err
		}
		response = line
	}
	if response == "*" {
		s.fail("cancelled")
		return nil
	}
	user, password, err := auth.ParsePlain(response)
	if err != nil {
		s.fail("%v", err)
		return nil
	}
	return s.login(user, password)
}

// login checks the password and opens the maildrop. The failures of one connection are bounded too.
func (s *session) login(user, password string) error {
	account, err := s.srv.cfg.Auth.Login(s.context(), "pop3", s.guard.Addr(), user, password)
	if err == nil {
		err = s.open(account)
	}
	switch {
	case err == nil:
		s.srv.metrics.sessions.Inc()
		s.guard.SetIdle(sessionIdle)
		s.guard.Limit(-1)
		s.ok("%d messages", s.drop.count())
		return nil
	case errors.Is(err, client.ErrInUse):
		s.srv.metrics.inUse.Inc()
		s.fail("[IN-USE] another session has the maildrop open, try later")
		return nil // the password was right
	case errors.Is(err, auth.ErrThrottled):
		s.fail("[SYS/TEMP] too many failed logins, try later")
	default:
		s.trouble(err)
	}
	if s.failures++; s.failures >= maxFailures {
		return errTooMany
	}
	return nil
}

// open locks the account's maildrop and takes its snapshot. The lock comes first: what the session before removes at its QUIT is not shown.
func (s *session) open(account client.Account) error {
	ctx, cancel := context.WithTimeout(s.context(), callTime)
	defer cancel()
	lock, err := s.srv.store.Exclusive(ctx, account, s.srv.cfg.Limits.LockWait)
	if err != nil {
		return fmt.Errorf("lock the maildrop of account %d: %w", account.ID, err)
	}
	drop, err := openMaildrop(s.context(), s.srv.store, account)
	if err != nil {
		lock.Release()
		return err
	}
	s.lock, s.drop = lock, drop
	return nil
}

// hold makes sure that the lock is this session's still, and says why if not. errLost ends the session.
func (s *session) hold() (ok bool, err error) {
	ctx, cancel := context.WithTimeout(s.context(), callTime)
	defer cancel()
	err = s.lock.Hold(ctx)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, client.ErrInUse):
		s.fail("[IN-USE] the maildrop could not be kept, another session has it: this one ends, and removes nothing")
		return false, errLost
	}
	s.trouble(err)
	return false, nil
}
