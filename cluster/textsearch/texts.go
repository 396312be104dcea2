package textsearch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"hongyan/engine/fulltext"
	"hongyan/engine/message"
)

// smallRead is up to where a message's texts are read at once, with what lies between them.
const smallRead = 64 << 10

// texts are what a message says, one after the other.
type texts struct {
	text []byte
	ends []int
	long bool // there is more
}

// into indexes them and says how many bytes they have.
func (t *texts) into(b *fulltext.Batch) int {
	from := 0
	for _, end := range t.ends {
		if b.Text(t.text[from:end]) {
			return end
		}
		from = end
	}
	if t.long {
		b.Partial()
	}
	return from
}

// add takes a text, up to what is indexed of a message.
func (t *texts) add(r io.Reader) (full bool, err error) {
	room := int64(fulltext.MaxText - len(t.text))
	w := bytes.NewBuffer(t.text)
	n, err := io.Copy(w, io.LimitReader(r, room+1))
	t.text = w.Bytes()
	if n > room {
		t.text, t.long = t.text[:fulltext.MaxText], true
	}
	t.ends = append(t.ends, len(t.text))
	return t.long, err
}

// gather reads a message's texts.
func (s *Service) gather(ctx context.Context, e *item) (*texts, error) {
	sum, err := message.Decode(e.summary)
	if err != nil || sum.Degraded {
		if sum, err = s.scan(ctx, e); err != nil {
			return nil, err
		}
	}
	t := new(texts)
	w := message.Texts{
		Open:  func(from, to uint64) (io.ReadCloser, error) { return s.open(ctx, e, from, to) },
		Field: func(text string) (bool, error) { return t.add(bytes.NewReader([]byte(text))) },
		Body:  t.add,
	}
	if end := textEnd(sum.Structure); end <= smallRead {
		raw, err := s.all(ctx, e, end)
		if err != nil {
			return nil, err
		}
		w.Open = func(from, to uint64) (io.ReadCloser, error) {
			to = min(to, uint64(len(raw)))
			return io.NopCloser(bytes.NewReader(raw[min(from, to):to])), nil
		}
	}
	_, err = w.Walk(sum.Structure, true)
	return t, err
}

// textEnd is where a message's last text ends.
func textEnd(p *message.Part) uint64 {
	end := p.BodyStart
	if p.Readable() {
		end = p.BodyEnd
	}
	for _, c := range p.Children {
		end = max(end, textEnd(c))
	}
	return end
}

// all reads a message up to end.
func (s *Service) all(ctx context.Context, e *item, end uint64) ([]byte, error) {
	r, err := s.open(ctx, e, 0, end)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(r)
	return raw, errors.Join(err, r.Close())
}

// open reads a range of a message.
func (s *Service) open(ctx context.Context, e *item, from, to uint64) (io.ReadCloser, error) {
	to = min(to, e.ref.Length)
	n := to - min(from, to)
	s.read.Add(int64(n))
	return s.cfg.Volumes.Read(ctx, e.ref, from, n)
}

// scan makes the summary of a message whose stored one does not do.
func (s *Service) scan(ctx context.Context, e *item) (*message.Summary, error) {
	r, err := s.open(ctx, e, 0, math.MaxUint64)
	if err != nil {
		return nil, err
	}
	sc := message.NewScanner()
	_, err = io.Copy(sc, r)
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("scan the message: %w", err)
	}
	return sc.Finish(), nil
}
