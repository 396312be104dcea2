package smtp

import (
	"context"
	"io"

	"hongyan/cluster/client"
)

// store is what this package needs of the cluster. Tests put their own behind it to make it fail.
type store interface {
	Recipient(ctx context.Context, address string) (client.Account, error)
	// Room says *client.QuotaError of an account that may not take a message of some bytes.
	Room(ctx context.Context, a client.Account, bytes uint64) error
	MaxMessage() int64
	NewDraft() draft
	// Deliver returns one error for each of to.Recipients.
	Deliver(ctx context.Context, d draft, to client.Delivery) []error
}

// draft is a message on its way in.
type draft interface {
	io.Writer
	io.Closer
}

// door is the real store.
type door struct{ *client.Client }

func (d door) NewDraft() draft { return d.Client.NewDraft() }

// Deliver hands back to the client the draft that it gave out.
func (d door) Deliver(ctx context.Context, m draft, to client.Delivery) []error {
	return d.Client.Deliver(ctx, m.(*client.Draft), to)
}
