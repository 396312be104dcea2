package imap

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"hongyan/cluster/client"
	"hongyan/frontends/imap/command"
)

const retryUpdates = time.Second // what IDLE waits after it could not learn what a wake-up was about

// idle tells what happens until the client says DONE (RFC 2177). A second goroutine tells, while this one waits for the
// client: the session's mutex says which of them may write.
func (s *session) idle(*call) error {
	if err := command.None(s.dec); err != nil {
		return err
	}
	if err := s.out.Line("+ idling").Flush(); err != nil {
		return err
	}
	s.srv.stats.idle.Add(1)
	defer s.srv.stats.idle.Add(-1)
	line, err := s.await()
	if err != nil {
		return err
	}
	if !strings.EqualFold(string(line), "DONE") {
		return bad("Expected DONE")
	}
	return nil
}

// await lets updates be told until the client's next line is there.
func (s *session) await() ([]byte, error) {
	var stop, done chan struct{}
	if s.sel != nil {
		stop, done = make(chan struct{}), make(chan struct{})
		wake := s.sel.wake
		s.sel.stale = true
		go func() {
			defer close(done)
			s.watch(wake, stop)
		}()
	}
	if err := s.c.rest(); err != nil {
		s.c.end()
	}
	s.c.idling = true
	s.mu.Unlock()
	line, err := s.dec.Answer()
	if err != nil && !timedOut(err) {
		s.c.end() // nobody is there for whom an update that is being written could still matter
	}
	if stop != nil {
		close(stop)
		<-done
	}
	s.mu.Lock()
	s.c.idling = false
	s.c.work()
	return line, err
}

// watch tells updates until stop. A wake-up is taken before the question that it causes, so none is missed. A failure, ours too,
// ends the connection.
func (s *session) watch(wake <-chan struct{}, stop <-chan struct{}) {
	defer func() {
		if p := recover(); p != nil {
			s.srv.stats.panics.Add(1)
			s.log.Error("IMAP session panicked in IDLE", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			s.c.end()
		}
	}()
	for {
		err := s.idleUpdate(stop)
		var retry <-chan time.Time
		if errors.Is(err, client.ErrUnavailable) {
			retry = time.After(retryUpdates)
		} else if err != nil {
			s.c.end()
			return
		}
		select {
		case <-stop:
			return
		case <-s.ctx.Done():
			return
		case <-retry:
		case <-wake:
			s.mu.Lock()
			if s.sel != nil {
				s.sel.stale = true
			}
			s.mu.Unlock()
		}
	}
}

// idleUpdate tells one batch of updates, unless IDLE is over.
func (s *session) idleUpdate(stop <-chan struct{}) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-stop:
		return nil
	default:
	}
	if s.sel == nil {
		return nil
	}
	err := s.update(true)
	if flushed := s.out.Flush(); err == nil {
		err = flushed
	}
	return err
}
