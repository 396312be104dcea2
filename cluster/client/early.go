package client

import (
	"context"
	"errors"
	"slices"
	"sync"

	"hongyan/cluster/mailbox"
	"hongyan/cluster/shard"
	"hongyan/engine/volume"
)

// How a message is entered; the steps are those of "Delivery in one round trip" in docs/architecture.md. A message whose bytes are on
// every copy already needs step 3 only.

// inbox is where deliveries go.
const inbox = "INBOX"

// entry is one command that enters a message, and what became of it.
type entry struct {
	shard    uint32
	id       shard.RequestID
	name     string // of the folder
	accounts []uint64
	appends  bool // Append instead of Deliver

	err         error            // nil: the command is known to be applied
	refused     map[uint64]error // by account
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

// command enters a message.
func (e *entry) command(m mailbox.Message, early bool) *mailbox.Command {
	if e.appends {
		return &mailbox.Command{Append: &mailbox.Append{Account: e.accounts[0], Mailbox: e.name, Message: m, Early: early}}
	}
	return &mailbox.Command{Deliver: &mailbox.Deliver{Accounts: e.accounts, Message: m, Early: early}}
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
		e.refused[refusal.Account] = refusalOf(refusal.Code, refusal.Message)
	}
}

// decided says that the log has the command, whatever its result: under its id nothing else is applied any more.
func (e *entry) decided() bool { return !errors.Is(e.err, ErrUnavailable) }

// accepted are the accounts that have the message.
func (e *entry) accepted() (accounts []uint64) {
	for _, a := range e.accounts {
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

// enter commits the entries of a message.
func (c *Client) enter(ctx context.Context, p *placed, entries []*entry) {
	early := p.early != nil
	propose := func() {
		each(entries, func(e *entry) { e.take(c.changeAs(ctx, e.shard, e.id, e.command(p.entry, early))) }) // step 3
	}
	if !early {
		propose()
		return
	}
	copies := make(chan error, 1)
	go func() { copies <- p.early.Wait(ctx) }()
	propose()
	if err := <-copies; err != nil { // else step 4
		c.placeAgain(ctx, p, entries)
	}
}

// placeAgain is step 5: the bytes did not get to the other copies in time, so they are put again in the safe order, and the entries are
// given the new place.
func (c *Client) placeAgain(ctx context.Context, p *placed, entries []*entry) {
	old := p.entry.Ref
	for range maxPuts {
		again, err := c.put(ctx, p)
		if err != nil {
			for _, e := range entries {
				e.err = err
			}
			return
		}
		each(entries, func(e *entry) { e.open = c.rebind(ctx, e, old, again) })
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
func (c *Client) rebind(ctx context.Context, e *entry, old volume.Ref, again mailbox.Message) (condemned bool) {
	if !e.decided() { // now it gets decided, and what comes late is not applied
		e.take(c.changeAs(ctx, e.shard, e.id, e.command(again, false)))
	}
	accounts := e.accepted()
	if len(accounts) == 0 {
		return false
	}
	r, err := c.change(ctx, e.shard, &mailbox.Command{Rebind: &mailbox.Rebind{Accounts: accounts, Mailbox: e.name, Old: old, Message: again}})
	if errors.Is(err, errCondemned) {
		return true
	}
	e.take(r, err)
	return false
}
