package client

import (
	"context"
	"errors"

	"hongyan/cluster/feature"
	"hongyan/cluster/mailbox"
)

// maxMarks bounds the folders that one command names.
const maxMarks = 1000

// Told says that a session was told of a folder's messages below a UID.
type Told struct {
	Account Account
	Folder  uint32
	Below   uint32
}

// Told notes of which messages sessions were told, so that later ones do not take them for \Recent (RFC 3501 section 2.3.2): one command for each
// shard, or a few. What is said of folders that are gone, and of accounts on their way to another shard, is lost. Where it fails some may have been noted.
func (c *Client) Told(ctx context.Context, list []Told) error {
	if !c.counts() {
		return nil
	}
	shards := make(map[uint32][]mailbox.Mark)
	for _, t := range list {
		at := c.places.of(t.Account.ID, t.Account.Shard)
		shards[at] = append(shards[at], mailbox.Mark{Account: t.Account.ID, Mailbox: t.Folder, Below: t.Below})
	}
	var failed error
	for at, marks := range shards {
		for len(marks) > 0 {
			n := min(len(marks), maxMarks)
			if _, err := c.change(ctx, at, &mailbox.Command{Told: &mailbox.Told{Marks: marks[:n]}}); err != nil {
				failed = errors.Join(failed, err)
			}
			marks = marks[n:]
		}
	}
	return failed
}

// counts says whether all programs know what Told notes.
func (c *Client) counts() bool { return c.cfg.Directory.Level() >= feature.Sharing }

// ripe leaves no message \Recent as long as nothing can be noted: else every session would see all of them so.
func (c *Client) ripe(folders []Mailbox) {
	if !c.counts() {
		for i := range folders {
			folders[i].Recent = 0
		}
	}
}
