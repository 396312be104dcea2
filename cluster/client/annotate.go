package client

import (
	"context"
	"errors"

	"hongyan/cluster/mailbox"
	"hongyan/engine/index"
)

// Annotation is a named value that clients keep with a folder, or with the account (RFC 5464).
type Annotation = index.Annotation

// Bounds of annotations.
const (
	MaxAnnotationBytes   = index.MaxAnnotationBytes   // of a value
	MaxAnnotationName    = index.MaxAnnotationName    // bytes of a name
	MaxAnnotationsAtOnce = index.MaxAnnotationsAtOnce // in one Annotate
)

// Annotations lists those of a folder, with "" those of the account itself. Strong.
func (c *Client) Annotations(ctx context.Context, a Account, name string) ([]Annotation, error) {
	q := &mailbox.Query{Shard: a.Shard, Account: a.ID, User: a.Guest, Kind: mailbox.QueryAnnotations, Name: name}
	notes := func(f *mailbox.Frame) []Annotation { return f.Annotations }
	list, err := gather(ctx, c, q, true, notes)
	if errors.Is(err, ErrNoMailbox) && a.Guest == 0 { // of an account that nobody has used yet
		if _, err := c.Mailboxes(ctx, a); err != nil {
			return nil, err
		}
		list, err = gather(ctx, c, q, false, notes)
	}
	return list, err
}

// Notes lists the annotations of all folders and of the account, without their values: Seq says whether one has changed.
func (c *Client) Notes(ctx context.Context, a Account) ([]Annotation, error) {
	q := &mailbox.Query{Shard: a.Shard, Account: a.ID, User: a.Guest, Kind: mailbox.QueryNotes}
	return gather(ctx, c, q, false, func(f *mailbox.Frame) []Annotation { return f.Annotations })
}

// Annotate sets annotations of a folder, with "" of the account itself, and removes those without a value: all or none. ErrLimit: they would be too many.
func (c *Client) Annotate(ctx context.Context, a Account, name string, list []Annotation) error {
	_, err := c.changeAccount(ctx, a, &mailbox.Command{Annotate: &mailbox.Annotate{Account: a.ID, Mailbox: name, List: list}})
	return err
}
