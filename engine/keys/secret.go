package keys

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
)

// Secret is what all copies of a volume share. It crosses nodes only inside mutual TLS, and is wrapped on every disk.
type Secret struct {
	Key   [32]byte `cbor:"1,keyasint"` // of the volume
	Slots []byte   `cbor:"2,keyasint"` // 16 bytes a record; zeros where the record's key was destroyed
}

// NewSecret makes a volume key and slots for as many records, one to MaxSlots.
func NewSecret(slots int) *Secret {
	s := &Secret{Slots: make([]byte, min(max(slots, 1), MaxSlots)*slotSize)}
	rand.Read(s.Key[:]) // never fails: the program ends instead
	rand.Read(s.Slots)
	return s
}

// check bounds what came from another node.
func (s *Secret) check() error {
	if n := len(s.Slots); n == 0 || n%slotSize != 0 || n/slotSize > MaxSlots {
		return fmt.Errorf("volume keys with %d bytes of slots: %w", n, ErrNoSlot)
	}
	return nil
}

// same compares volume keys in constant time.
func (s *Secret) same(key *[32]byte) bool { return subtle.ConstantTimeCompare(s.Key[:], key[:]) == 1 }

// recordKey derives K(n).
func recordKey(volume *[32]byte, slot []byte, n uint64) (k [32]byte) {
	mac := hmac.New(sha256.New, volume[:])
	mac.Write(slot)
	mac.Write(binary.LittleEndian.AppendUint64(nil, n))
	mac.Sum(k[:0])
	return k
}

func zero(slot []byte) bool {
	var none [slotSize]byte
	return subtle.ConstantTimeCompare(slot, none[:]) == 1
}

// Records is how many records there are keys for.
func (s *Secret) Records() int { return len(s.Slots) / slotSize }
