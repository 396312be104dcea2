// Package auth is the one way into an account for all protocols: it checks a password through the
// cluster, slows down and locks out guessing, and writes one audit line per attempt.
//
// Invariants: a password is never logged, kept or put into an error; an attempt that is locked out never reaches the password
// check, so it learns nothing and costs nothing; memory is bounded by three tables of fixed size,
// whoever guesses. Everything here is forgotten when the process ends, but for what other nodes were told: a crash costs an
// attacker's record, never a user's access. Guesses that come together are checked as few as those that come one by one (turn.go).
//
// Locking an account out is itself a weapon. Therefore a user who lately logged in from an address is let
// past the locks there, until that very pair starts to fail.
package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"hongyan/cluster/client"
	"hongyan/cluster/pause"
)

// ErrThrottled says that there were too many failures lately, and the password was not looked at. It is a kind of
// client.ErrUnavailable, "later": a user must not take it for a wrong password.
var ErrThrottled = fmt.Errorf("too many failed logins: %w", client.ErrUnavailable)

const (
	maxUser     = 320  // longest login: 64 octets, @, 255 octets (RFC 5321 section 4.5.3.1)
	maxPassword = 1024 // longer ones are wrong, and not worth a hash

	checks    = 32              // password checks at the same time; the rest queue
	queueTime = 5 * time.Second // longest wait for one
)

// What an attempt may come to, in the log and the metrics.
const (
	resultOK          = "ok"
	resultThrottled   = "throttled"
	resultBad         = "bad credentials"
	resultUnavailable = "unavailable"
)

// Verifier checks a password, like *client.Client.
type Verifier interface {
	Authenticate(ctx context.Context, address, password string) (client.Account, error)
}

// Authenticator is shared by all frontends of a node. Safe for concurrent use.
type Authenticator struct {
	verifier Verifier
	log      *slog.Logger
	guard    *guard
	slots    chan struct{}
	metrics  *metrics
	teller   teller
}

// New returns an Authenticator that asks v.
func New(v Verifier, log *slog.Logger) *Authenticator {
	return &Authenticator{verifier: v, log: log, guard: newGuard(), slots: make(chan struct{}, checks), metrics: newMetrics()}
}

// Login checks user's password for a client of protocol at remote, which is invalid when the client has no
// address. A failure is answered late: the more there were, the later. Errors are
// client.ErrBadCredentials, client.ErrUnavailable, or ErrThrottled.
func (a *Authenticator) Login(ctx context.Context, protocol string, remote netip.Addr, user, password string) (client.Account, error) {
	start := time.Now()
	id := identify(user, remote)
	account, delay, err := a.check(ctx, id, user, password)
	var outcome string
	switch {
	case err == nil:
		outcome = resultOK
	case errors.Is(err, ErrThrottled):
		outcome = resultThrottled
	case errors.Is(err, client.ErrBadCredentials):
		outcome = resultBad
	default:
		outcome = resultUnavailable
		err = fmt.Errorf("check credentials: %w", err)
	}
	a.audit(protocol, remote, user, account, outcome, start, err)
	if delay > 0 {
		pause.For(ctx, delay)
	}
	return account, err
}

// check asks the verifier unless a lock holds, and says how late to answer. The result is entered in the guard before the attempt
// leaves it (turn.go), so that guesses that come together are not all made before the first has failed.
func (a *Authenticator) check(ctx context.Context, id identity, user, password string) (client.Account, time.Duration, error) {
	var none client.Account
	if user == "" || len(user) > maxUser || password == "" || len(password) > maxPassword {
		return none, firstDelay, client.ErrBadCredentials
	}
	queue, cancel := context.WithTimeout(ctx, queueTime)
	defer cancel()
	at, err := a.guard.enter(queue, id)
	if errors.Is(err, ErrThrottled) {
		return none, throttledDelay, err
	}
	if err != nil {
		return none, 0, err
	}
	defer a.guard.leave(at)
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	case <-queue.Done():
		return none, 0, fmt.Errorf("too many logins at once: %w", client.ErrUnavailable)
	}
	account, err := a.verifier.Authenticate(ctx, user, password)
	switch {
	case err == nil:
		if a.guard.succeeded(id, time.Now()) {
			a.teller.add(result{id, true})
		}
		return account, 0, nil
	case errors.Is(err, client.ErrBadCredentials):
		delay := a.guard.failed(id, time.Now())
		a.teller.add(result{id, false})
		return none, delay, err
	case errors.Is(err, client.ErrUnavailable):
		return none, 0, err
	default:
		return none, 0, fmt.Errorf("%w: %w", client.ErrUnavailable, err)
	}
}

// audit counts the attempt and writes its line. A user's name may hold anything; slog quotes it, we cut it.
func (a *Authenticator) audit(protocol string, remote netip.Addr, user string, account client.Account, outcome string, start time.Time, err error) {
	took := time.Since(start)
	a.metrics.attempt(protocol, outcome, took)
	attrs := []slog.Attr{
		slog.String("protocol", protocol), slog.Any("remote", remote), slog.String("user", user[:min(len(user), maxUser)]),
		slog.String("outcome", outcome), slog.Duration("took", took),
	}
	level := slog.LevelInfo
	switch outcome {
	case resultOK:
		attrs = append(attrs, slog.Uint64("account", account.ID))
	case resultUnavailable:
		level = slog.LevelWarn
		attrs = append(attrs, slog.Any("error", err))
	}
	a.log.LogAttrs(context.Background(), level, "login", attrs...)
}
