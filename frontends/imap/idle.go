package imap

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hongyan/cluster/client"
	"hongyan/frontends/imap/command"
)

const (
	// What IDLE waits after it could not learn what a wake-up was about: as long again as it has been so, within these.
	retryUpdates    = time.Second
	maxRetryUpdates = 30 * time.Second

	maxAsking = 256                    // sessions in IDLE that ask what a wake-up was about, at once: a message to everybody wakes all
	maxTurn   = 500 * time.Millisecond // after which a question is none of those any more: who waits for a shard that cannot answer must not keep others from asking theirs

	// A session that had to wait for its turn to ask leaves the server alone for a while afterwards: restEach for every one that waited with it, at most maxRest. Where thousands
	// have a mailbox open in which one change follows the other, each of them else asks about every one, and all other work of the server stands behind that; so what
	// happens meanwhile is told as one.
	restEach = 2 * time.Millisecond
	maxRest  = 5 * time.Second
)

// wakes are the wake-ups of a mailbox that is open. Outside IDLE they are only noted, for the next command.
type wakes struct {
	pending atomic.Bool
	mu      sync.Mutex // guards what follows
	idle    *teller    // nil outside IDLE
}

// wake is called for each wake-up.
func (w *wakes) wake() {
	w.pending.Store(true)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.idle != nil {
		w.idle.poke()
	}
}

// attach has wake-ups told by t, nil: noted only.
func (w *wakes) attach(t *teller) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.idle = t
}

// teller tells updates in IDLE: by a goroutine that is there only while there is something to tell.
type teller struct {
	s       *session
	between bool // no command is under way: EXPUNGE may have to wait
	work    sync.WaitGroup

	// run's alone
	rest   time.Duration // after the last update, if that had to wait for its turn
	failed time.Time     // since when no update could be learned of; zero: the last one could
	retry  *time.Timer   // of the last one that could not

	mu                            sync.Mutex // guards what follows
	running, resting, again, over bool
}

// poke has updates told.
func (t *teller) poke() {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.over:
	case t.running, t.resting:
		t.again = true
	default:
		t.running = true
		t.work.Go(t.run)
	}
}

// stop ends the telling, and waits for what is under way.
func (t *teller) stop() {
	t.mu.Lock()
	t.over = true
	t.mu.Unlock()
	t.work.Wait()
	if t.retry != nil {
		t.retry.Stop()
	}
}

// more says whether there was a poke since run began, and its update may be told now.
func (t *teller) more() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rest > 0 && !t.over {
		t.running, t.resting = false, true
		time.AfterFunc(t.rest, t.rested)
		return false
	}
	t.running = t.again && !t.over
	t.again = false
	return t.running
}

// rested tells what happened during a rest.
func (t *teller) rested() {
	t.mu.Lock()
	t.resting = false
	again := t.again
	t.again = false
	t.mu.Unlock()
	if again {
		t.poke()
	}
}

// run tells updates until there are no more. A failure, ours too, ends the connection.
func (t *teller) run() {
	s := t.s
	defer func() {
		if p := recover(); p != nil {
			s.srv.stats.panics.Add(1)
			s.log.Error("IMAP session panicked in IDLE", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			s.c.end()
		}
	}()
	for {
		err := s.idleUpdate(t)
		switch {
		case errors.Is(err, client.ErrUnavailable):
			t.later()
		case err != nil:
			s.c.end()
		default:
			t.failed = time.Time{}
		}
		if !t.more() {
			return
		}
	}
}

// later has updates told that could not be learned of, once more.
func (t *teller) later() {
	if t.failed.IsZero() {
		t.failed = time.Now()
	}
	if t.retry != nil {
		t.retry.Stop() // a wake-up has come before it
	}
	t.retry = time.AfterFunc(min(max(time.Since(t.failed), retryUpdates), maxRetryUpdates), t.poke)
}

// idle tells what happens until the client says DONE (RFC 2177). This goroutine waits for the client meanwhile: the session's
// mutex says who may write.
func (s *session) idle(*call) error {
	if err := command.None(s.dec); err != nil {
		return err
	}
	s.srv.stats.idle.Add(1) // before the client knows: who asks it and then looks must find it counted
	defer s.srv.stats.idle.Add(-1)
	if err := s.out.Line("+ idling").Flush(); err != nil {
		return err
	}
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
func (s *session) await() (line []byte, err error) {
	err = s.telling(&teller{s: s}, func() error {
		err := s.c.rest()
		if err == nil {
			line, err = s.dec.Answer()
		}
		return err
	})
	return line, err
}

// rest waits for the client's next command. One that asked for it by NOTIFY is told what happens meanwhile.
func (s *session) rest() error {
	if s.notify == nil || s.dec.Buffered() > 0 {
		return s.c.rest()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.out.Flush(); err != nil {
		return err
	}
	return s.telling(&teller{s: s, between: true}, s.c.rest)
}

// telling has t tell updates while wait waits for the client, without the session's mutex.
func (s *session) telling(t *teller, wait func() error) error {
	s.c.idling = true
	if sel := s.sel; sel != nil {
		sel.stale = true // a change before the wake-ups were attached
		sel.wakes.attach(t)
		defer sel.wakes.attach(nil)
	}
	if n := s.notify; n != nil && n.wakes != nil {
		n.wakes.attach(t)
		defer n.wakes.attach(nil)
	}
	t.poke()
	s.mu.Unlock()
	err := wait()
	if err != nil && !timedOut(err) {
		s.c.end() // nobody is there for whom an update that is being written could still matter
	}
	t.stop()
	s.mu.Lock()
	s.c.idling = false
	return err
}

// idleUpdate tells one batch of updates.
func (s *session) idleUpdate(t *teller) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { t.rest, s.crowd = min(time.Duration(s.crowd)*restEach, maxRest), 0 }()
	var err error
	if s.sel != nil {
		err = s.update(!t.between || s.notify != nil && !s.notify.delayed)
	}
	if err == nil {
		err = s.look(t)
	}
	if flushed := s.out.Flush(); err == nil {
		err = flushed
	}
	return err
}

// changes asks what changed in the open mailbox since a modseq. In IDLE it waits for its turn.
func (s *session) changes(ctx context.Context, sel *selected, since uint64, but ...uint64) (client.Changes, error) {
	if s.c.idling {
		done, err := s.turn(ctx)
		if err != nil {
			return client.Changes{}, err
		}
		defer done()
	}
	return s.mail.Changes(ctx, sel.account, sel.id, since, but...)
}

// turn waits for the session's turn to ask, which ends with done or by itself, and notes how many waited if it had to.
func (s *session) turn(ctx context.Context) (done func(), err error) {
	select {
	case s.srv.asking <- struct{}{}:
		return s.srv.inTurn(), nil
	default:
	}
	s.crowd = max(s.crowd, s.srv.waiting.Add(1))
	defer s.srv.waiting.Add(-1)
	select {
	case s.srv.asking <- struct{}{}:
		return s.srv.inTurn(), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// inTurn begins a turn.
func (s *Server) inTurn() (done func()) {
	over := sync.OnceFunc(func() { <-s.asking })
	late := time.AfterFunc(maxTurn, over)
	return func() {
		late.Stop()
		over()
	}
}
