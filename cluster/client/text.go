package client

import (
	"context"

	"github.com/RoaringBitmap/roaring/v2"
)

// Candidates says which messages of a folder may contain a text, in their header, text or the names of their files, regardless of case: of those up to the UID through only
// the ones in uids. Of messages above that nothing is known, so through is 0 where no full-text index answers. It never fails, and what is
// found by looking into the candidates and the messages above is exact.
func (c *Client) Candidates(ctx context.Context, a Account, folder, uidValidity uint32, text string) (through uint32, uids *roaring.Bitmap) {
	return c.cfg.Text.Candidates(ctx, c.places.of(a.ID, a.Shard), a.ID, folder, uidValidity, text)
}
