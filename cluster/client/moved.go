package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"hongyan/cluster/mailbox"
	"hongyan/cluster/pause"
	"hongyan/cluster/shard"
	"hongyan/engine/index"
)

// An account may move to another shard while sessions of it are open and mail for it is on its way (package relocate). Who asks in vain is told where it
// is, and goes there; while the move is being finished, which takes moments, who wants to change something waits.

// maxPlaces bounds what a door remembers of accounts that have moved. Forgetting costs one question.
const maxPlaces = 100_000

// Pauses before an account that is on its way is asked for again: each is movePause longer than the one before.
const (
	movePause        = 5 * time.Millisecond
	longestMovePause = 100 * time.Millisecond
)

// place is an account as somebody found it in the directory: who comes later and finds it in another shard is not sent back to where it was in between.
type place struct {
	account uint64
	given   uint32
}

// places remembers where accounts have moved to, as seen through this door.
type places struct {
	mu sync.Mutex
	m  map[place]uint32 // guarded by mu
}

// of is the shard to ask for an account that was in given when its session began.
func (p *places) of(account uint64, given uint32) uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now, ok := p.m[place{account, given}]; ok {
		return now
	}
	return given
}

func (p *places) set(account uint64, given, shard uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.m == nil || len(p.m) >= maxPlaces {
		p.m = make(map[place]uint32)
	}
	p.m[place{account, given}] = shard
}

// follow takes note of where an account is that was in given, or waits a moment while that is not known. try counts from 0.
func (c *Client) follow(ctx context.Context, account uint64, given uint32, moved *index.MovedError, try int) error {
	if moved.Shard != 0 {
		c.reached(moved.Shard, moved.At)
		c.places.set(account, given, moved.Shard)
		if try < 2 { // else two shards send us to and fro until the account has come
			return ctx.Err()
		}
	}
	if !pause.For(ctx, min(movePause*time.Duration(try+1), longestMovePause)) {
		return unavailable(fmt.Errorf("%w: %w", moved, ctx.Err()))
	}
	return nil
}

// proposing commits a command at a shard, under an id. After an error that wraps ErrUnavailable it may still be applied.
type proposing func(ctx context.Context, number uint32, id shard.RequestID, cmd *mailbox.Command) (*mailbox.Result, error)

// askAgain is the pause before a command that is not decided is asked for again.
const askAgain = 500 * time.Millisecond

// decided is propose for who must know what became of a command: as long as that is not known it is asked for again under its id, until ctx ends. What the first
// proposal gave is then the answer, and what of it comes late is not applied.
func decided(propose proposing) proposing {
	return func(ctx context.Context, number uint32, id shard.RequestID, cmd *mailbox.Command) (*mailbox.Result, error) {
		for {
			r, err := propose(ctx, number, id, cmd)
			if !errors.Is(err, ErrUnavailable) || !pause.For(ctx, askAgain) {
				return r, err
			}
		}
	}
}

// changeAccount commits a command about one account, wherever that is.
func (c *Client) changeAccount(ctx context.Context, a Account, cmd *mailbox.Command) (*mailbox.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	return c.enter(ctx, a, c.changeAs, anew(cmd))
}

// anew is a command under another id in each shard that is asked for it.
func anew(cmd *mailbox.Command) func(uint32) (shard.RequestID, *mailbox.Command) {
	return func(uint32) (shard.RequestID, *mailbox.Command) { return shard.NewRequestID(), cmd }
}

// enter is changeAccount of a command that request makes for a shard, with its id there.
func (c *Client) enter(ctx context.Context, a Account, propose proposing, request func(number uint32) (shard.RequestID, *mailbox.Command)) (*mailbox.Result, error) {
	for try := 0; ; try++ {
		number := c.places.of(a.ID, a.Shard)
		id, cmd := request(number)
		if a.Guest != 0 {
			cmd = &mailbox.Command{As: &mailbox.As{User: a.Guest, Do: cmd}}
		}
		r, err := propose(ctx, number, id, cmd)
		var moved *index.MovedError
		if !errors.As(err, &moved) {
			return r, err
		}
		if err := c.follow(ctx, a.ID, a.Shard, moved, try); err != nil {
			return nil, err
		}
	}
}

// settled waits until an account that was on its way takes changes.
func (c *Client) settled(ctx context.Context, a Account, moved *index.MovedError) error {
	if err := c.follow(ctx, a.ID, a.Shard, moved, 0); err != nil {
		return err
	}
	return c.ensure(ctx, a)
}
