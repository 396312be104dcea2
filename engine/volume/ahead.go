package volume

const (
	// DefaultAhead is how far a growing volume is filled with zeros ahead of its end. An fsync after a write into blocks that
	// the file has already writes just those; one after a write behind the file's end writes the file system's journal as well.
	DefaultAhead = 1 << 20
	// aheadGroup is the largest group of records that is worth it: of larger ones the second writing costs more than the journal.
	aheadGroup = 128 << 10
)

// fillAhead fills the file with zeros behind n bytes that are about to be written at off, if that helps. The next fsync
// covers them. Only the file's writer calls it.
func (v *Volume) fillAhead(off, n int64) error {
	end := off + n
	if v.o.Ahead <= 0 || end <= v.filled || end >= v.o.MaxSize {
		return nil
	}
	v.mu.Lock()
	helps := !v.sealed && end-v.durable <= aheadGroup
	v.mu.Unlock()
	if !helps {
		return nil
	}
	to := min(end+v.o.Ahead, v.o.MaxSize)
	if v.room(to-end) != nil {
		return nil // the records themselves may still have room
	}
	zeros := newBuffer(int(min(to-end, pieceSize)))
	defer zeros.release()
	zeros.b = zeros.b[:min(to-end, pieceSize)]
	for at := end; at < to; at += int64(len(zeros.b)) {
		zeros.b = zeros.b[:min(to-at, pieceSize)]
		clear(zeros.b) // a file system may have used it as scratch
		if _, err := v.file.WriteAt(zeros.b, at); err != nil {
			return v.fail("write", err)
		}
	}
	v.filled = to
	return nil
}
