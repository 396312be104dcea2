package journal

import (
	"runtime"
	"time"
)

// commit is the goroutine that writes: it takes everybody who waits, writes one frame, and answers after its fsync.
func (j *Journal) commit() {
	defer close(j.writer)
	for {
		batch := j.take()
		if len(batch) == 0 {
			return
		}
		began := time.Now()
		j.writing.Store(&began)
		err := j.writeBatch(batch)
		j.writing.Store(nil)
		took := int64(time.Since(began))
		j.busy.Add(took)
		if took > j.longest.Load() {
			j.longest.Store(took) // Longest may be asked in between: then it hears of it the next time
		}
		for _, r := range batch {
			r.done <- err
		}
		j.reclaim()
		if len(batch) > 1 {
			runtime.Gosched() // those who were answered often come again at once: before the next batch rather than behind it
		}
	}
}

// take waits for callers and gives the next batch; none when the committer is to end.
func (j *Journal) take() []*request {
	j.mu.Lock()
	defer j.mu.Unlock()
	for len(j.pending) == 0 && !j.closed && j.failed == nil {
		j.wake.Wait()
	}
	if j.failed != nil {
		for _, r := range j.pending {
			r.done <- j.failed
		}
		j.pending = nil
		return nil
	}
	n, size := 0, 0
	for n < len(j.pending) && (n == 0 || size+len(j.pending[n].body) <= batchSize) {
		size += len(j.pending[n].body)
		n++
	}
	batch := append([]*request(nil), j.pending[:n]...)
	rest := copy(j.pending, j.pending[n:])
	clear(j.pending[rest:])
	j.pending = j.pending[:rest]
	return batch
}

// moved is an old entry that is written anew.
type moved struct {
	log   *Log
	index uint64
	from  place
	off   int // in the frame
}

// writeBatch makes one frame of a batch durable, and then visible.
func (j *Journal) writeBatch(batch []*request) error {
	if cap(j.frame) < frameHead || cap(j.frame) > 2*batchSize { // a large one is not kept
		j.frame = make([]byte, frameHead, batchSize/16)
	}
	frame, moves, err := j.moveOld(j.frame[:frameHead])
	if err != nil {
		return j.fail(err)
	}
	bases := make([]int, len(batch))
	for i, r := range batch {
		bases[i] = len(frame)
		frame = append(frame, r.body...)
	}
	j.frame = frame
	s, err := j.room(int64(len(frame)))
	if err != nil {
		return err
	}
	putFrameHead(frame, s.seed, s.end)
	if _, err := s.file.WriteAt(frame, s.end); err != nil {
		return j.fail(err)
	}
	if err := s.file.SyncData(); err != nil {
		return j.fail(err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	base := s.end
	for _, m := range moves {
		m.log.places[m.index-m.log.first] = place{uint32(s.number), uint32(base) + uint32(m.off)}
		j.segment(m.from).live--
		s.entries++
		s.live++
	}
	for i, r := range batch {
		r.log.apply(r, s, base+int64(bases[i]))
		j.stats.Entries += uint64(len(r.offs))
	}
	s.end = aligned(base + int64(len(frame)))
	if s.end >= s.size/wantedAfter {
		j.want(s)
	}
	j.stats.Frames++
	j.stats.Bytes += uint64(len(frame))
	j.stats.Moved += uint64(len(moves))
	return nil
}

// room gives the segment for a frame of n bytes: the current one, or the next.
func (j *Journal) room(n int64) (*segment, error) {
	s := j.current()
	if s.end+n <= s.size {
		return s, nil
	}
	var next *spare
	if n > j.o.SegmentSize-headerSize {
		var err error
		if next, err = j.newSpare(aligned(n+headerSize), atOnce); err != nil {
			return nil, err
		}
	} else {
		j.want(s)
		j.hurry.Store(true)
		p := <-j.spares
		j.hurry.Store(false)
		if p.err != nil {
			return nil, p.err
		}
		next = p.spare
	}
	if err := j.begin(next); err != nil {
		return nil, j.fail(err)
	}
	return j.current(), nil
}

func (j *Journal) current() *segment {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.segments[len(j.segments)-1]
}

// moveOld writes some entries of the oldest segment behind b if it is worth it: when few of its entries are left, or when
// the segments are many times as large as what is left in them.
func (j *Journal) moveOld(b []byte) ([]byte, []moved, error) {
	j.mu.Lock()
	var moves []moved
	oldest := j.segments[0]
	if j.movable() {
		moves = j.remains(oldest)
	}
	j.mu.Unlock()
	for i := range moves {
		m := &moves[i]
		if len(b) > moveSize {
			return b, moves[:i], nil
		}
		r, err := oldest.readEntry(int64(m.from.off), oldest.end)
		if err != nil {
			return nil, nil, err
		}
		r.op, r.flags = opMoved, 0
		m.off = len(b)
		b = r.appendTo(b)
	}
	return b, moves, nil
}

// When segments are cleaned.
const (
	keepSegments = 4 // so many are no burden, whatever is in them
	sparseShare  = 4 // a segment is sparse when less than 1/sparseShare of its entries are left
	bloatedBy    = 4 // all segments together may have so many times the entries that are left, or the bytes written, then the oldest goes in any case
)

// movable decides. The caller holds mu.
func (j *Journal) movable() bool {
	if len(j.segments) <= keepSegments {
		return false
	}
	oldest := j.segments[0]
	entries, live := 0, 0
	var size, used int64
	for _, s := range j.segments {
		entries += s.entries
		live += s.live
		size += s.size
		used += s.end - headerSize
	}
	// Each Open begins a segment: restarts leave segments with little in them, all of which may be needed.
	return oldest.live > 0 && (oldest.live*sparseShare < oldest.entries || live*bloatedBy < entries || used*bloatedBy < size)
}

// remains lists the first few entries that are left in a segment. The caller holds mu.
func (j *Journal) remains(s *segment) []moved {
	const enough = moveSize / recordHead
	var out []moved
	for _, l := range j.logs {
		for i, p := range l.places {
			if p.segment == uint32(s.number) {
				out = append(out, moved{log: l, index: l.first + uint64(i), from: p})
			}
			if len(out) == enough {
				return out
			}
		}
	}
	return out
}

// reclaim lets go of the oldest segments that no log needs.
func (j *Journal) reclaim() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for len(j.segments) > 1 && j.segments[0].live == 0 && j.segments[0].readers == 0 {
		select {
		case j.returned <- j.segments[0]:
			j.segments = append([]*segment(nil), j.segments[1:]...)
		default:
			return // the preparer is behind: later
		}
	}
}

// Stalled is how long the write that is under way has taken, 0 while there is none.
func (j *Journal) Stalled() time.Duration {
	if began := j.writing.Load(); began != nil {
		return time.Since(*began)
	}
	return 0
}

// Longest is how long the longest write took that has ended since Longest was asked last, 0 if none has.
func (j *Journal) Longest() time.Duration { return time.Duration(j.longest.Swap(0)) }

// Failed is why the journal takes nothing any more, nil if it does.
func (j *Journal) Failed() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failed
}
