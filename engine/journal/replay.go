package journal

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"slices"
)

// replay reads all segments and makes the logs what they were.
func (j *Journal) replay(names []string) error {
	var numbers []uint64
	for _, name := range names {
		if n, ok := parseSegment(name); ok {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	logs := make(map[uint32]*replayed)
	for i, n := range numbers {
		if n != numbers[0]+uint64(i) {
			return &CorruptError{Path: segmentName(n - 1), Reason: "the file is missing"}
		}
		if err := j.replaySegment(n, logs); err != nil {
			return err
		}
	}
	for group, r := range logs {
		l := j.logOf(group)
		l.first, l.places = r.result()
		for _, p := range l.places {
			j.segment(p).live++
		}
	}
	return nil
}

func (j *Journal) replaySegment(number uint64, logs map[uint32]*replayed) (err error) {
	path := j.fs.PathJoin(j.dir, segmentName(number))
	f, err := j.fs.Open(path)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	block := make([]byte, headerSize)
	if _, err := f.ReadAt(block, 0); err != nil && err != io.EOF {
		return fmt.Errorf("read %s: %w", path, err)
	}
	h, seed, err := decodeHeader(block)
	if errors.Is(err, ErrVersion) {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err == nil && h.number != number {
		err = fmt.Errorf("it says that it is segment %d", h.number)
	}
	if err != nil {
		return &CorruptError{Path: path, Reason: err.Error()}
	}
	if n := len(j.segments); n > 0 && j.segments[n-1].end != h.prevEnd {
		before := j.segments[n-1]
		return &CorruptError{Path: before.path, Offset: before.end, Reason: fmt.Sprintf("no whole frame, though there were frames up to %d", h.prevEnd)}
	}
	s := &segment{number: number, path: path, file: f, seed: seed, size: info.Size(), end: headerSize}
	if err := s.replay(logs); err != nil {
		return err
	}
	j.segments = append(j.segments, s)
	return nil
}

// replay takes the frames in. The first place without a whole one is the end, if no frame follows behind.
func (s *segment) replay(logs map[uint32]*replayed) error {
	for {
		payload, ok, err := s.frame(s.end)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		base := s.end + frameHead
		for off := int64(0); off < int64(len(payload)); {
			r, n, err := decodeRecord(payload[off:])
			if err != nil {
				return &CorruptError{Path: s.path, Offset: base + off, Reason: err.Error()}
			}
			log := logs[r.group]
			if log == nil {
				log = &replayed{places: make(map[uint64]place)}
				logs[r.group] = log
			}
			log.take(&r, place{uint32(s.number), uint32(base + off)})
			if r.op == opAppend || r.op == opMoved {
				s.entries++
			}
			off += n
		}
		s.end = aligned(base + int64(len(payload)))
	}
	at, found, err := s.search(s.end + alignment)
	if err == nil && found {
		err = &CorruptError{Path: s.path, Offset: s.end, Reason: fmt.Sprintf("no whole frame, but there is one behind, at %d", at)}
	}
	return err
}

// frame reads the payload of the frame at off, if there is a whole one.
func (s *segment) frame(off int64) ([]byte, bool, error) {
	if off+frameHead > s.size {
		return nil, false, nil
	}
	head := make([]byte, frameHead)
	if _, err := s.file.ReadAt(head, off); err != nil {
		return nil, false, fmt.Errorf("read %s at %d: %w", s.path, off, err)
	}
	n, sum, ok := frameAt(head, s.seed, off)
	if !ok || off+frameHead+n > s.size {
		return nil, false, nil
	}
	payload := make([]byte, n)
	if _, err := s.file.ReadAt(payload, off+frameHead); err != nil {
		return nil, false, fmt.Errorf("read %s at %d: %w", s.path, off+frameHead, err)
	}
	return payload, crc32.Checksum(payload, table) == sum, nil
}

const searchWindow = 1 << 20

// search finds a whole frame from off on. The salt keeps what an earlier use of the file left from being taken for one.
func (s *segment) search(off int64) (int64, bool, error) {
	buf := make([]byte, searchWindow+frameHead)
	for ; off+frameHead <= s.size; off += searchWindow {
		b := buf[:min(int64(len(buf)), s.size-off)]
		if _, err := s.file.ReadAt(b, off); err != nil {
			return 0, false, fmt.Errorf("read %s at %d: %w", s.path, off, err)
		}
		for i := 0; i+frameHead <= len(b) && i < searchWindow; i += alignment {
			if _, _, ok := frameAt(b[i:], s.seed, off+int64(i)); !ok {
				continue
			}
			if _, whole, err := s.frame(off + int64(i)); err != nil || whole {
				return off + int64(i), whole, err
			}
		}
	}
	return 0, false, nil
}

// replayed is a log while it is read back. Entries may be missing at its beginning until the segments they were moved to are
// read, since the oldest segments are gone.
type replayed struct {
	places map[uint64]place
	last   uint64
}

func (l *replayed) take(r *record, p place) {
	switch r.op {
	case opAppend:
		if r.flags&flagGap != 0 {
			clear(l.places)
		} else if r.Index <= l.last {
			l.cut(r.Index)
		}
		l.places[r.Index] = p
		l.last = r.Index
	case opMoved:
		l.places[r.Index] = p
		l.last = max(l.last, r.Index)
	case opCut:
		l.cut(r.Index)
	case opDrop:
		maps.DeleteFunc(l.places, func(i uint64, _ place) bool { return i < r.Index })
		if len(l.places) == 0 {
			l.last = 0
		}
	}
}

func (l *replayed) cut(from uint64) {
	for i := from; i <= l.last; i++ {
		delete(l.places, i)
	}
	l.last = min(l.last, from-1)
	if len(l.places) == 0 {
		l.last = 0
	}
}

// result is the run of entries that ends with the last.
func (l *replayed) result() (first uint64, places []place) {
	first = l.last + 1
	for {
		p, ok := l.places[first-1]
		if !ok {
			break
		}
		first--
		places = append(places, p)
	}
	slices.Reverse(places)
	return first, places
}
