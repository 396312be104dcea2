package recovery

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"hongyan/cluster/mailbox"
	"hongyan/cluster/shard"
	"hongyan/engine/message"
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
	if len(c.inbox) > 0 {
		return r.propose(ctx, number, id, &mailbox.Command{Deliver: &mailbox.Deliver{Accounts: c.inbox, Message: *m}})
	}
	f := c.folder[0] // an append has one target
	why, err = r.propose(ctx, number, shard.NewRequestID(), &mailbox.Command{Create: &mailbox.Create{Account: f.Account, Name: f.Mailbox}})
	if err != nil || why != "" {
		return why, err
	}
	return r.propose(ctx, number, id, &mailbox.Command{Append: &mailbox.Append{Account: f.Account, Mailbox: f.Mailbox, Message: *m}})
}

func (r *Recovery) propose(ctx context.Context, number uint32, id shard.RequestID, c *mailbox.Command) (why string, err error) {
	body, err := c.Encode()
	if err != nil {
		return "", err
	}
	b, _, err := r.cfg.Router.ProposeAs(ctx, number, id, body, shard.Background)
	if err != nil {
		return "", fmt.Errorf("enter a message in shard %d: %w", number, err)
	}
	answer, err := mailbox.DecodeResult(b)
	switch {
	case err != nil:
		return "", err
	case answer.Code == mailbox.Exists && c.Create != nil:
		return "", nil
	case answer.Code != mailbox.OK:
		return "refused: " + answer.Message, nil
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
	content, err := v.Open(c.at.Record, 0, c.length)
	if err != nil {
		return nil, err
	}
	scanner, sum := message.NewScanner(), sha256.New()
	n, err := io.Copy(io.MultiWriter(scanner, sum), content)
	if err = errors.Join(err, content.Close()); err == nil && uint64(n) != c.length {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	summary, err := scanner.Finish().Encode()
	if err != nil {
		return nil, err
	}
	ref := volume.Ref{Volume: c.at.Volume, Record: c.at.Record, Length: c.length}
	sum.Sum(ref.Hash[:0])
	if !c.sealed && ref.Hash != c.hash {
		return nil, errors.New("its hash differs")
	}
	o := &c.origin
	return &mailbox.Message{Ref: ref, Summary: summary, Date: o.Date, Zone: o.Zone, System: o.System, Keywords: o.Keywords}, nil
}
