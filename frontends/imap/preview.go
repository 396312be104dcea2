package imap

import (
	"context"

	"hongyan/frontends/imap/preview"
)

// preview makes the preview of a message (RFC 8970), each time anew: it takes one read of the first bytes of a part.
func (s *session) preview(ctx context.Context, e *entry) (string, error) {
	p := preview.Part(e.sum.Structure)
	if p == nil {
		return "", nil
	}
	start, end := preview.Range(p)
	r, err := s.openBytes(ctx, e, start, end)
	if err != nil {
		return "", err
	}
	defer r.Close()
	return preview.Text(p, r)
}
