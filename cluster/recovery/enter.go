package recovery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"hongyan/cluster/mailbox"
	"hongyan/cluster/shard"
	"hongyan/engine/volume"
)

// enter puts a message where it was delivered to, as its frontend would have, under the same request id. It says why that was not possible for good; an error
// means that it may be later.
func (r *Recovery) enter(ctx context.Context, number uint32, c *candidate) (why string, err error) {
	m, err := r.read(c)
	if err != nil {
		return fmt.Sprintf("its bytes cannot be read at %s: %v", r.cfg.Self, err), nil
	}
	id := shard.RequestID(mailbox.Request(c.origin.Delivery, number))
	if deliver := c.inbox; len(deliver.Accounts) > 0 {
		deliver.Message = *m
		return r.propose(ctx, number, id, &mailbox.Command{Deliver: &deliver})
	}
	f := c.folder[0] // an append has one target
	why, err = r.propose(ctx, number, shard.NewRequestID(), &mailbox.Command{Create: &mailbox.Create{Account: f.Account, Name: f.Mailbox}})
	if err != nil || why != "" {
		return why, err
	}
	return r.propose(ctx, number, id, &mailbox.Command{Append: &mailbox.Append{Account: f.Account, Mailbox: f.Mailbox, Message: *m}})
}

// rebind gives entries in vain a message that has their bytes, one of each account: it was put again, which its frontend told a shard that has forgotten it. It says whether
// there were such, and why that was not possible for good.
func (r *Recovery) rebind(ctx context.Context, number uint32, c *candidate, known *knownResponse) (bound bool, why string, err error) {
	var given []uint64
	for {
		i, m, err := r.match(c, known.Vain, given)
		switch {
		case err != nil:
			return true, fmt.Sprintf("an entry without bytes may be of it, and its own cannot be read at %s: %v", r.cfg.Self, err), nil
		case i < 0:
			return bound, "", nil
		}
		e := known.Vain[i]
		t := c.origin.Targets[slices.IndexFunc(c.origin.Targets, func(t mailbox.Target) bool { return t.Account == e.Account })]
		var to mailbox.Deliver
		to.Add(t.Account, mailbox.Terms{Detail: t.Detail})
		why, err := r.propose(ctx, number, shard.NewRequestID(),
			&mailbox.Command{Rebind: &mailbox.Rebind{Accounts: to.Accounts, Mailbox: t.Mailbox, Old: e.Ref, Message: *m, Terms: to.Terms}})
		if bound = true; err != nil || why != "" {
			return bound, why, err
		}
		given = append(given, e.Account)
		known.Vain = slices.DeleteFunc(known.Vain, func(o vain) bool { return o == e }) // in all folders that it was copied to
	}
}

// match finds an entry that has a message's bytes, of an account that it was for, but not of these, and gives the message; -1 if there is none. It fails if that is not known.
func (r *Recovery) match(c *candidate, among []vain, but []uint64) (int, *mailbox.Message, error) {
	var m *mailbox.Message
	for i, e := range among {
		if e.Ref.Length != c.length || slices.Contains(but, e.Account) || !slices.ContainsFunc(c.origin.Targets, func(t mailbox.Target) bool { return t.Account == e.Account }) {
			continue
		}
		if m == nil {
			var err error
			if m, err = r.read(c); err != nil {
				return -1, nil, err
			}
		}
		if m.Ref.Hash == e.Ref.Hash {
			return i, m, nil
		}
	}
	return -1, nil, nil
}

// mayBeOf says whether one of these entries has a message's bytes, or that is not known.
func (r *Recovery) mayBeOf(c *candidate, among []vain) bool {
	i, _, err := r.match(c, among, nil)
	return i >= 0 || err != nil
}

func (r *Recovery) propose(ctx context.Context, number uint32, id shard.RequestID, c *mailbox.Command) (why string, err error) {
	answer, _, err := c.Commit(func(body []byte) ([]byte, uint64, error) {
		return r.cfg.Router.ProposeAs(ctx, number, id, c.Level(), body, shard.Background)
	})
	var no *mailbox.RefusedError
	switch {
	case errors.As(err, &no) && no.Code == mailbox.Exists && c.Create != nil:
		return "", nil
	case errors.As(err, &no):
		return "refused: " + no.Message, nil
	case err != nil:
		return "", fmt.Errorf("enter a message in shard %d: %w", number, err)
	case len(answer.Refused) > 0:
		return fmt.Sprintf("refused for some accounts: %v", answer.Refused), nil
	}
	return "", nil
}

// read computes what the index keeps of a message, from this node's copy.
func (r *Recovery) read(c *candidate) (*mailbox.Message, error) {
	v, err := r.cfg.Volumes.Get(c.at.Volume)
	if err != nil {
		return nil, err
	}
	ref := volume.Ref{Volume: c.at.Volume, Record: c.at.Record, Length: c.length, Hash: c.hash}
	return c.origin.Message(ref, c.sealed, func(w io.Writer) error {
		content, err := v.Open(c.at.Record, 0, c.length)
		if err != nil {
			return err
		}
		n, err := io.Copy(w, content)
		if err = errors.Join(err, content.Close()); err == nil && uint64(n) != c.length {
			err = io.ErrUnexpectedEOF
		}
		return err
	})
}
