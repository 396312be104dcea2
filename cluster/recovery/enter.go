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
	for i := r.match(c, known.Vain, given); i >= 0; i = r.match(c, known.Vain, given) {
		e := known.Vain[i]
		m, err := r.read(c)
		if err != nil {
			return bound, "", err
		}
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
	return bound, "", nil
}

// match finds an entry that has a message's bytes, of an account that it was for, but not of these. A message that cannot be read has none; that is told elsewhere.
func (r *Recovery) match(c *candidate, among []vain, but []uint64) int {
	return slices.IndexFunc(among, func(e vain) bool {
		if e.Ref.Length != c.length || slices.Contains(but, e.Account) || !slices.ContainsFunc(c.origin.Targets, func(t mailbox.Target) bool { return t.Account == e.Account }) {
			return false
		}
		m, err := r.read(c)
		return err == nil && m.Ref.Hash == e.Ref.Hash
	})
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
