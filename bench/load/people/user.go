package people

import (
	"context"
	"time"

	"hongyan/bench/load"
	"hongyan/bench/load/read"
	"hongyan/cluster/pause"
)

// Bounds of coming back after a failure.
const (
	firstBack = time.Second
	lastBack  = 30 * time.Second
)

// live is a user's whole run: sessions, and pauses after those that failed. Waiting is under ctx, operations are under work.
func (u *user) live(ctx, work context.Context) {
	back := firstBack
	for ctx.Err() == nil {
		began := time.Now()
		err := u.session(ctx, work)
		u.picker.Done(err != nil)
		if time.Since(began) > lastBack {
			back = firstBack
		}
		if err != nil {
			pause.For(ctx, back/2+time.Duration(u.rng.Int64N(int64(back))))
			back = min(2*back, lastBack)
		}
	}
}

// session is one connection's life, or one poll or message of those who keep none. It ends when ctx does, and with an error when something failed.
func (u *user) session(ctx, work context.Context) error {
	switch u.profile {
	case POP3:
		return u.once(ctx, 300*time.Second, u.c.poll, func() error { return u.poll(work) })
	case Bulk:
		return u.once(ctx, 2*time.Second, u.c.bulk, func() error { return u.sendBulk(work) })
	}
	s, err := u.enter(work)
	if err != nil {
		return err
	}
	defer func() {
		s.Close()
		u.c.online.Add(-1)
	}()
	switch u.profile {
	case Phone:
		return u.phone(ctx, work, s)
	case Desktop:
		return u.desktop(ctx, work, s)
	}
	return u.searcher(ctx, work, s)
}

// once thinks, and does something that is recorded. Thinking that ctx cut short is no failure.
func (u *user) once(ctx context.Context, mean time.Duration, rec *load.Recorder, f func() error) error {
	if !u.think(ctx, mean) {
		return nil
	}
	return record(rec, f)
}

func record(rec *load.Recorder, f func() error) error {
	op := rec.Begin(time.Now())
	err := f()
	op.End(err)
	return err
}

// think waits for a time around the mean, at least a tenth of a millisecond, and says whether ctx let it.
func (u *user) think(ctx context.Context, mean time.Duration) bool {
	d := time.Duration(u.rng.ExpFloat64() * float64(mean) / u.c.o.Speed)
	return pause.For(ctx, max(d, 100*time.Microsecond))
}

// enter logs in and opens INBOX.
func (u *user) enter(work context.Context) (s *read.Session, err error) {
	err = record(u.c.logins[u.profile], func() error {
		if s, err = read.DialIMAP(work, u.c.t, u.picker.Node(), u.c.o.Read); err != nil {
			return err
		}
		if err = s.Login(work, u.account); err == nil {
			_, err = s.Select(work, "INBOX")
		}
		if err != nil {
			s.Close()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	u.c.online.Add(1)
	return s, nil
}
