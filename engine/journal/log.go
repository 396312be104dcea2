package journal

import (
	"fmt"
	"sync"
)

// Log is one shard's log within the journal: entries with indexes from First to Last, without gaps. One goroutine at a
// time changes it, any number read.
type Log struct {
	j     *Journal
	group uint32

	write sync.Mutex // orders changes; taken before the journal's mu

	// Guarded by the journal's mu.
	first  uint64
	places []place // of first, first+1, …
}

// First is the index of the oldest entry, or 0.
func (l *Log) First() uint64 {
	l.j.mu.Lock()
	defer l.j.mu.Unlock()
	if len(l.places) == 0 {
		return 0
	}
	return l.first
}

// Last is the index of the newest entry, or 0.
func (l *Log) Last() uint64 {
	l.j.mu.Lock()
	defer l.j.mu.Unlock()
	return l.last()
}

func (l *Log) last() uint64 {
	if len(l.places) == 0 {
		return 0
	}
	return l.first + uint64(len(l.places)) - 1
}

// Get reads an entry.
func (l *Log) Get(index uint64) (Entry, error) {
	j := l.j
	j.mu.Lock()
	if len(l.places) == 0 || index < l.first || index > l.last() {
		j.mu.Unlock()
		return Entry{}, fmt.Errorf("entry %d of log %d: %w", index, l.group, ErrNotFound)
	}
	p := l.places[index-l.first]
	s := j.segment(p)
	s.readers++
	end := s.end
	j.mu.Unlock()
	r, err := s.readEntry(int64(p.off), end)
	j.mu.Lock()
	s.readers--
	j.mu.Unlock()
	if err == nil && (r.group != l.group || r.Index != index) {
		err = &CorruptError{Path: s.path, Offset: int64(p.off), Reason: fmt.Sprintf("entry %d of log %d stands there", r.Index, r.group)}
	}
	if err != nil {
		return Entry{}, fmt.Errorf("entry %d of log %d: %w", index, l.group, err)
	}
	return r.Entry, nil
}

// Append adds entries, whose indexes follow each other, and returns when they are durable. Entries from the first one's index
// on are replaced. If it does not follow the log's last entry, nor replaces one, all older ones are gone.
func (l *Log) Append(entries []Entry) error {
	if len(entries) == 0 {
		return nil
	}
	l.write.Lock()
	defer l.write.Unlock()
	size := 0
	for i := range entries {
		size += recordHead + len(entries[i].Data) + len(entries[i].Ext)
		if size > MaxFrame {
			return fmt.Errorf("append %d entries to log %d: %w", len(entries), l.group, ErrTooLarge)
		}
		if entries[i].Index != entries[0].Index+uint64(i) || entries[i].Index == 0 {
			return fmt.Errorf("append entry %d to log %d behind %d: indexes must follow each other", entries[i].Index, l.group, entries[0].Index)
		}
	}
	l.j.mu.Lock()
	first, last := l.first, l.last()
	l.j.mu.Unlock()
	var flags uint8
	if last > 0 && (entries[0].Index > last+1 || entries[0].Index < first) {
		flags = flagGap
	}
	r := &request{log: l, op: opAppend, index: entries[0].Index, flags: flags, body: make([]byte, 0, size), offs: make([]uint32, len(entries))}
	for i := range entries {
		r.offs[i] = uint32(len(r.body))
		rec := record{op: opAppend, flags: flags, group: l.group, Entry: entries[i]}
		r.body = rec.appendTo(r.body)
		flags = 0
	}
	return l.do(r)
}

// Drop removes the entries before an index.
func (l *Log) Drop(before uint64) error {
	return l.mark(opDrop, before)
}

func (l *Log) mark(op uint8, index uint64) error {
	l.write.Lock()
	defer l.write.Unlock()
	index = max(index, 1) // no entry has 0
	rec := record{op: op, group: l.group, Entry: Entry{Index: index}}
	return l.do(&request{log: l, op: op, index: index, body: rec.appendTo(nil)})
}

func (l *Log) do(r *request) error {
	if err := l.j.wait(r); err != nil {
		return fmt.Errorf("write log %d: %w", l.group, err)
	}
	return nil
}

// apply changes the log as a durable request says; base is where its records begin in the segment. The caller holds mu.
func (l *Log) apply(r *request, s *segment, base int64) {
	switch r.op {
	case opCut:
		l.cut(r.index)
	case opDrop:
		l.drop(r.index)
	case opAppend:
		if r.flags&flagGap != 0 || len(l.places) == 0 {
			l.drop(l.last() + 1)
			l.first = r.index
		}
		l.cut(r.index)
		for _, off := range r.offs {
			l.places = append(l.places, place{uint32(s.number), uint32(base) + off})
		}
		s.entries += len(r.offs)
		s.live += len(r.offs)
	}
}

func (l *Log) cut(from uint64) {
	if len(l.places) == 0 || from > l.last() {
		return
	}
	keep := max(from, l.first) - l.first
	l.forget(l.places[keep:])
	l.places = l.places[:keep]
}

func (l *Log) drop(before uint64) {
	if len(l.places) == 0 || before <= l.first {
		return
	}
	n := min(before-l.first, uint64(len(l.places)))
	l.forget(l.places[:n])
	l.first += n
	l.places = append([]place(nil), l.places[n:]...) // gives the memory back
}

func (l *Log) forget(gone []place) {
	for _, p := range gone {
		l.j.segment(p).live--
	}
}
