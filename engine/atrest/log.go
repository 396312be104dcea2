package atrest

import (
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
)

// An entry of a log as it is stored: version, salt of the opening that wrote it, number among those that it wrote, and then
// what AES-256-GCM makes of it. The salt and the number never occur twice, so neither does a nonce under a key.
const (
	entryVersion = 1
	entrySalt    = 16
	entryHeader  = 1 + entrySalt + 8
	tagSize      = 16
	nonceSize    = 12
	// EntryOverhead is how much longer an entry is when it is stored.
	EntryOverhead = entryHeader + tagSize

	// maxOpenings bounds the ciphers that are kept at hand: a log holds entries of the last few openings.
	maxOpenings = 16
)

// Log encrypts the entries of one log. Safe for concurrent use.
type Log struct {
	key   *Key
	name  []byte
	own   opening
	count atomic.Uint64 // entries that were written since it was opened

	mu    sync.Mutex // guards older
	older []opening  // that were read, the latest last
}

// opening is a stretch of entries that one process wrote, with a key of its own.
type opening struct {
	salt [entrySalt]byte
	aead cipher.AEAD
}

// Log gives what encrypts the log of that name. An entry of one log cannot be read as one of another.
func (k *Key) Log(name string) *Log {
	l := &Log{key: k, name: []byte(name)}
	unique := salt()
	l.own = l.opening([entrySalt]byte(unique[:]))
	return l
}

func (l *Log) opening(unique [entrySalt]byte) opening {
	return opening{unique, newGCM(l.key.derive([]byte("hongyan log "), l.name, []byte{0}, unique[:]))}
}

// Seal encrypts an entry and binds it to its place.
func (l *Log) Seal(entry []byte, place uint64) []byte {
	b := make([]byte, entryHeader, EntryOverhead+len(entry))
	b[0] = entryVersion
	copy(b[1:], l.own.salt[:])
	binary.LittleEndian.PutUint64(b[1+entrySalt:], l.count.Add(1))
	return l.own.aead.Seal(b, nonce(b), entry, binary.LittleEndian.AppendUint64(nil, place))
}

// Open gives back what Seal was given for that place.
func (l *Log) Open(stored []byte, place uint64) ([]byte, error) {
	switch {
	case len(stored) < EntryOverhead:
		return nil, fmt.Errorf("entry %d of log %s: %w", place, l.name, ErrPlain)
	case stored[0] != entryVersion:
		return nil, fmt.Errorf("entry %d of log %s is of version %d: %w", place, l.name, stored[0], ErrVersion)
	}
	entry, err := l.find([entrySalt]byte(stored[1:])).Open(nil, nonce(stored), stored[entryHeader:], binary.LittleEndian.AppendUint64(nil, place))
	if err != nil {
		return nil, fmt.Errorf("entry %d of log %s: %w", place, l.name, ErrWrongKey)
	}
	return entry, nil
}

// nonce is the entry's number, behind zeros.
func nonce(header []byte) []byte {
	var n [nonceSize]byte
	copy(n[nonceSize-8:], header[1+entrySalt:entryHeader])
	return n[:]
}

// find gives the cipher of the opening with that salt, and remembers the last few.
func (l *Log) find(unique [entrySalt]byte) cipher.AEAD {
	if unique == l.own.salt {
		return l.own.aead
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.older) - 1; i >= 0; i-- {
		if l.older[i].salt == unique {
			return l.older[i].aead
		}
	}
	if len(l.older) == maxOpenings {
		l.older = append(l.older[:0], l.older[1:]...)
	}
	l.older = append(l.older, l.opening(unique))
	return l.older[len(l.older)-1].aead
}
