package client

import (
	"context"
	"errors"
	"slices"
	"sync"

	"hongyan/cluster/mailbox"
	"hongyan/cluster/shard"
	"hongyan/engine/index"
)

// How a message is entered; the steps are those of "Delivery in one round trip" in docs/architecture.md. A message whose bytes are on
// every copy already needs step 3 only.

// entry is one command that enters a message, and what became of it.
type entry struct {
	shard   uint32
	id      shard.RequestID
	name    string          // of the folder
	to      mailbox.Deliver // the accounts with their terms, without the message
	appends bool            // Append instead of Deliver

	err         error            // nil: the command is known to be applied
	refused     map[uint64]error // by account
	bound       map[uint64]bool  // accounts whose entry has its last place
	uidValidity uint32           // of an Append
	uid         uint32
	open        bool // step 5 is to be taken again
}

func (e *entry) errorOf(account uint64) error {
	if err := e.refused[account]; err != nil {
		return err
	}
	return e.err
}

// termsOf are those of one of its accounts.
func (e *entry) termsOf(account uint64) mailbox.Terms {
	if i := slices.Index(e.to.Accounts, account); i >= 0 && i < len(e.to.Terms) {
		return e.to.Terms[i]
	}
	return mailbox.Terms{}
}

// command enters a message.
func (e *entry) command(m mailbox.Message, early bool) *mailbox.Command {
	if e.appends {
		return &mailbox.Command{Append: &mailbox.Append{Account: e.to.Accounts[0], Mailbox: e.name, Message: m, Early: early, Limits: e.termsOf(e.to.Accounts[0]).Limits}}
	}
	return &mailbox.Command{Deliver: &mailbox.Deliver{Accounts: e.to.Accounts, Message: m, Early: early, Terms: e.to.Terms}}
}

// take notes what a command gave.
func (e *entry) take(r *mailbox.Result, err error) {
	e.err = err
	if r == nil {
		return
	}
	if r.FirstUID > 0 {
		e.uidValidity, e.uid = r.UIDValidity, r.FirstUID
	}
	for _, refusal := range r.Refused {
		if e.refused == nil {
			e.refused = make(map[uint64]error)
		}
		e.refused[refusal.Account] = refusalOf(refusal.Code, refusal.Message, refusal.Shard, refusal.At)
	}
}

// decided says that the log has the command, whatever its result: under its id nothing else is applied any more.
func (e *entry) decided() bool { return !errors.Is(e.err, ErrUnavailable) }

// accepted are the accounts that have the message.
func (e *entry) accepted() (accounts []uint64) {
	for _, a := range e.to.Accounts {
		if e.errorOf(a) == nil {
			accounts = append(accounts, a)
		}
	}
	return accounts
}

// each calls fn for every entry at once and returns when all have.
func each(entries []*entry, fn func(e *entry)) {
	var work sync.WaitGroup
	for _, e := range entries {
		work.Go(func() { fn(e) })
	}
	work.Wait()
}

// entering is a message on its way into the index, with what its steps do.
type entering struct {
	message mailbox.Message
	// copies returns when every copy has the bytes, or that is not to be waited for any longer; nil: they have them already.
	copies func(ctx context.Context) error
	// put puts the bytes once more, on every copy of some volume.
	put func(ctx context.Context) (mailbox.Message, error)
	// propose commits a command. After an error that wraps ErrUnavailable it may still be applied.
	propose func(ctx context.Context, shard uint32, id shard.RequestID, c *mailbox.Command) (*mailbox.Result, error)
	// locate says where an account is that has moved, perhaps after a moment.
	locate func(ctx context.Context, account uint64, given uint32, moved *index.MovedError, try int) (shard uint32, err error)
}

// run commits the entries.
func (m *entering) run(ctx context.Context, entries []*entry) {
	early := m.copies != nil
	propose := func() {
		each(entries, func(e *entry) { e.take(m.propose(ctx, e.shard, e.id, e.command(m.message, early))) }) // step 3
	}
	if !early {
		propose()
		return
	}
	copies := make(chan error, 1)
	go func() { copies <- m.copies(ctx) }()
	propose()
	if err := <-copies; err != nil { // else step 4
		m.again(ctx, entries)
	}
}

// again is step 5: the bytes did not get to the other copies in time, so they are put again in the safe order, and the entries are
// given the new place.
func (m *entering) again(ctx context.Context, entries []*entry) {
	for range maxPuts {
		placed, err := m.put(ctx)
		if err != nil {
			for _, e := range entries {
				e.err = err
			}
			return
		}
		each(entries, func(e *entry) { e.open = m.rebind(ctx, e, placed) })
		entries = slices.DeleteFunc(slices.Clone(entries), func(e *entry) bool { return !e.open })
		if len(entries) == 0 {
			return
		}
	}
	for _, e := range entries {
		e.err = unavailable(errCondemned)
	}
}

// rebind makes sure of one entry. It says whether the bytes have to be put once more: their volume was condemned meanwhile.
func (m *entering) rebind(ctx context.Context, e *entry, placed mailbox.Message) (condemned bool) {
	if !e.decided() { // now it gets decided, and what comes late is not applied
		e.take(m.propose(ctx, e.shard, e.id, e.command(placed, false)))
	}
	accounts := slices.DeleteFunc(e.accepted(), func(a uint64) bool { return e.bound[a] })
	if len(accounts) == 0 {
		return false
	}
	at := map[uint32][]uint64{e.shard: accounts}
	for try := 0; len(at) > 0; try++ {
		next := make(map[uint32][]uint64)
		for number, accounts := range at {
			var some mailbox.Deliver
			for _, a := range accounts {
				some.Add(a, e.termsOf(a))
			}
			c := &mailbox.Command{Rebind: &mailbox.Rebind{Accounts: some.Accounts, Mailbox: e.name, Old: m.message.Ref, Message: placed, Terms: some.Terms}}
			r, err := m.propose(ctx, number, shard.NewRequestID(), c)
			if errors.Is(err, errCondemned) {
				return true
			}
			e.rebound(accounts, r, err)
			m.onwards(ctx, e, number, accounts, try, next)
		}
		at = next
	}
	return false
}

// rebound notes what a Rebind gave for some of the accounts.
func (e *entry) rebound(accounts []uint64, r *mailbox.Result, err error) {
	if err == nil {
		e.take(r, nil)
		if e.bound == nil {
			e.bound = make(map[uint64]bool)
		}
		for _, a := range accounts {
			e.bound[a] = e.refused[a] == nil
		}
		return
	}
	if e.refused == nil {
		e.refused = make(map[uint64]error)
	}
	for _, a := range accounts {
		e.refused[a] = err
	}
}

// onwards enters in next where those of the accounts are to be rebound that were not in the shard any more: they have the message perhaps, so it
// is not entered as if they had not.
func (m *entering) onwards(ctx context.Context, e *entry, number uint32, accounts []uint64, try int, next map[uint32][]uint64) {
	for _, a := range accounts {
		var moved *index.MovedError
		if !errors.As(e.refused[a], &moved) {
			continue
		}
		number, err := m.locate(ctx, a, number, moved, try)
		if err != nil {
			e.refused[a] = err
			continue
		}
		delete(e.refused, a)
		next[number] = append(next[number], a)
	}
}
