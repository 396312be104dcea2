package client

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/alexedwards/argon2id"

	"hongyan/cluster/directory"
)

// A verified password is remembered, under a key that only this process has, so that clients which log in again and
// again cost one hash in provenFor. At most maxProven are kept.
const (
	provenFor = 10 * time.Minute
	maxProven = 100_000
)

// logins checks passwords, a few at a time since each check takes memory.
type logins struct {
	key   [32]byte
	slots chan struct{}
	decoy string // checked for unknown users, so that they take as long

	mu     sync.Mutex // guards proven
	proven map[[32]byte]time.Time
}

func newLogins() *logins {
	l := &logins{slots: make(chan struct{}, runtime.NumCPU()), proven: make(map[[32]byte]time.Time)}
	rand.Read(l.key[:])
	return l
}

// matches checks a password against a hash. Of logins with the same password that come at once, those that had to wait cost nothing: mail clients open several
// connections each, and all of them come back together when a node was away.
func (l *logins) matches(ctx context.Context, hash, password string) (bool, error) {
	proof := l.proof(hash, password)
	if l.knows(proof) {
		return true, nil
	}
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-ctx.Done():
		return false, unavailable(ctx.Err())
	}
	if l.knows(proof) {
		return true, nil
	}
	good, err := argon2id.ComparePasswordAndHash(password, hash)
	if err != nil {
		return false, fmt.Errorf("check a password: %w", err)
	}
	if good {
		l.remember(proof)
	}
	return good, nil
}

// proof stands for a password and the hash that it was checked against.
func (l *logins) proof(hash, password string) [32]byte {
	mac := hmac.New(sha256.New, l.key[:])
	fmt.Fprintf(mac, "%d:%s%s", len(hash), hash, password)
	return [32]byte(mac.Sum(nil))
}

// knows says whether a password was found to be right lately.
func (l *logins) knows(proof [32]byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	until, ok := l.proven[proof]
	return ok && time.Now().Before(until)
}

func (l *logins) remember(proof [32]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.proven) >= maxProven {
		clear(l.proven) // rare, and only costs hashes
	}
	l.proven[proof] = time.Now().Add(provenFor)
}

// pretend takes as long as a check.
func (l *logins) pretend(ctx context.Context, password string) error {
	l.mu.Lock()
	if l.decoy == "" {
		decoy, err := HashPassword("nobody's")
		if err != nil {
			l.mu.Unlock()
			return err
		}
		l.decoy = decoy
	}
	decoy := l.decoy
	l.mu.Unlock()
	_, err := l.matches(ctx, decoy, password)
	return err
}

// Resolve finds an account by its address. ErrNoUser, ErrNotLocal, ErrInvalidName, ErrUnavailable.
func (c *Client) Resolve(ctx context.Context, address string) (Account, error) {
	return find(ctx, c.cfg.Directory.Lookup, address)
}

// Recipient is Resolve of who gets mail for an address: of user+detail, unless that is an account itself, the account user, with the Detail. That
// there is none by the whole address is asked afresh, so mail of an account that was just made goes to no other.
func (c *Client) Recipient(ctx context.Context, address string) (Account, error) {
	a, err := find(ctx, c.cfg.Directory.Recipient, address)
	if err == nil {
		a.Detail = detailOf(address, a.Address)
	}
	return a, err
}

// ValidDomain says whether mail may come for a domain of this name: whether it can be one of ours.
func ValidDomain(name string) bool { return directory.ValidDomain(name) }

// find looks an account up in the directory, with this package's errors.
func find(ctx context.Context, lookup func(ctx context.Context, address string) (directory.Account, error), address string) (Account, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	a, err := lookup(ctx, address)
	switch {
	case errors.Is(err, directory.ErrNoAccount):
		return Account{}, ErrNoUser
	case errors.Is(err, directory.ErrNotLocal):
		return Account{}, ErrNotLocal
	case errors.Is(err, directory.ErrInvalidAddress):
		return Account{}, fmt.Errorf("%w: %w", ErrInvalidName, err)
	case err != nil:
		return Account{}, unavailable(err)
	}
	return public(a), nil
}

// detailOf is what an address has behind the first + of its local part that the account's has not, in the sender's spelling.
func detailOf(address, account string) string {
	if canonical, err := directory.Canonical(address); err != nil || canonical == account {
		return ""
	}
	local := address[:strings.LastIndexByte(address, '@')]
	_, detail, _ := strings.Cut(local, "+")
	return detail
}

func public(a directory.Account) Account {
	return Account{ID: a.ID, Address: a.Address, Shard: a.Shard, Home: a.Home}
}

// Authenticate checks a password. ErrBadCredentials (also for unknown users, in the same time), ErrUnavailable.
func (c *Client) Authenticate(ctx context.Context, address, password string) (Account, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	a, err := c.cfg.Directory.Lookup(ctx, address)
	if errors.Is(err, directory.ErrNoAccount) || errors.Is(err, directory.ErrNotLocal) || errors.Is(err, directory.ErrInvalidAddress) {
		if err := c.login.pretend(ctx, password); err != nil {
			return Account{}, err
		}
		return Account{}, ErrBadCredentials
	}
	if err != nil {
		return Account{}, unavailable(err)
	}
	good, err := c.login.matches(ctx, a.Password, password)
	if err != nil || good {
		return public(a), err
	}
	// The password may have changed a moment ago, and this replica may not know it yet.
	fresh, err := c.cfg.Directory.Refresh(ctx, a.Address)
	if err != nil {
		return Account{}, unavailable(err)
	}
	if fresh.Password == a.Password {
		return Account{}, ErrBadCredentials
	}
	good, err = c.login.matches(ctx, fresh.Password, password)
	if err == nil && !good {
		err = ErrBadCredentials
	}
	return public(fresh), err
}
