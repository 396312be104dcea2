package rebuild

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"hongyan/cluster/checkpoint"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// place is a record of a volume.
type place struct {
	volume volume.ID
	record uint64
	length uint64
}

// record names one of a volume.
type record struct {
	volume volume.ID
	number uint64
}

// Checkpoint is one that was found in the volumes.
type Checkpoint struct {
	Shard   uint32
	Applied uint64
	Taken   int64 // unix seconds
	Whole   bool  // no part is missing
	parts   map[uint32]place
	last    int // number of the last part; -1 if it was not found
}

// Survey is what step 1 found.
type Survey struct {
	Volumes     int
	Records     uint64
	Messages    uint64
	Unreadable  uint64                   // records that no copy gives
	Checkpoints map[uint32][]*Checkpoint // by shard, the newest first
}

// Look is step 1.
func Look(vs *Volumes) (*Survey, error) {
	s := &Survey{Volumes: len(vs.copies), Checkpoints: make(map[uint32][]*Checkpoint)}
	byID := make(map[[16]byte]*Checkpoint)
	for _, id := range vs.ids() {
		for n := uint64(1); n <= vs.records(id); n++ {
			info, err := vs.stat(id, n)
			if errors.Is(err, volume.ErrNotFound) {
				continue // a compaction dropped it
			}
			s.Records++
			if err != nil {
				s.Unreadable++
				continue
			}
			switch info.Kind {
			case volume.KindMessage:
				s.Messages++
			case volume.KindCheckpoint:
				if err := s.part(vs, place{id, n, info.Length}, byID); err != nil {
					return nil, err
				}
			}
		}
	}
	for _, list := range s.Checkpoints {
		for _, c := range list {
			c.Whole = c.last >= 0 && len(c.parts) == c.last+1
		}
		slices.SortFunc(list, func(a, b *Checkpoint) int {
			return cmp.Or(cmp.Compare(b.Applied, a.Applied), cmp.Compare(b.Taken, a.Taken))
		})
	}
	return s, nil
}

// part enters one part of a checkpoint. A part that cannot be read, or was erased, is as good as missing.
func (s *Survey) part(vs *Volumes, at place, byID map[[16]byte]*Checkpoint) error {
	info, err := vs.get(at.volume, at.record)
	if errors.Is(err, volume.ErrNoKeys) {
		return fmt.Errorf("read a checkpoint's part: %w", err)
	}
	if err != nil {
		s.Unreadable++
		return nil
	}
	m, err := checkpoint.DecodeMeta(info.Meta)
	if err != nil {
		return fmt.Errorf("volume %s record %d: %w", at.volume, at.record, err)
	}
	c := byID[m.ID]
	if c == nil {
		c = &Checkpoint{Shard: m.Shard, Applied: m.Applied, Taken: m.Taken, parts: make(map[uint32]place), last: -1}
		byID[m.ID] = c
		s.Checkpoints[m.Shard] = append(s.Checkpoints[m.Shard], c)
	}
	c.parts[m.Part] = at
	if m.Last {
		c.last = int(m.Part)
	}
	return nil
}

// load is step 2 for one shard. It gives the checkpoint that it took, nil if there is none.
func (s *Survey) load(vs *Volumes, number uint32, to *index.Shard, say func(format string, args ...any)) (*Checkpoint, error) {
	for _, c := range s.Checkpoints[number] {
		if !c.Whole {
			continue
		}
		err := c.load(vs, to)
		if err == nil {
			return c, nil
		}
		if errors.Is(err, volume.ErrNoKeys) {
			return nil, err
		}
		say("shard %d: the checkpoint of entry %d cannot be used: %v", number, c.Applied, err)
	}
	return nil, nil
}

// load has a store hold what the checkpoint has; it need not be the same shard's.
func (c *Checkpoint) load(vs *Volumes, to *index.Shard) error {
	r, w := io.Pipe()
	go func() { w.CloseWithError(c.copy(vs, w)) }()
	return errors.Join(to.LoadOf(r, c.Shard), r.Close())
}

// copy writes the parts in order.
func (c *Checkpoint) copy(vs *Volumes, w io.Writer) error {
	for i := range uint32(c.last + 1) {
		p := c.parts[i]
		if err := vs.content(p.volume, p.record, p.length, w); err != nil {
			return fmt.Errorf("part %d: %w", i, err)
		}
	}
	return nil
}
