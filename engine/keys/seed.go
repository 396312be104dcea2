package keys

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
)

// Seed is what the copies of a new volume make the same Secret from: a line instead of megabytes on the way to them. It crosses
// nodes only inside mutual TLS, and no disk keeps it, so that it gives no destroyed key back.
type Seed struct {
	Key   []byte `cbor:"1,keyasint"` // 32 bytes
	Slots uint32 `cbor:"2,keyasint"`
}

// NewSeed chooses a seed for as many slots, one to MaxSlots.
func NewSeed(slots int) *Seed {
	s := &Seed{Key: make([]byte, 32), Slots: uint32(min(max(slots, 1), MaxSlots))}
	rand.Read(s.Key) // never fails: the program ends instead
	return s
}

// Secret is the key stream of AES-256-CTR, from a counter of zero: first the volume key, then the slots.
func (s *Seed) Secret() (*Secret, error) {
	if len(s.Key) != 32 || s.Slots == 0 || s.Slots > MaxSlots {
		return nil, fmt.Errorf("seed of %d bytes for %d slots: %w", len(s.Key), s.Slots, ErrNoSlot)
	}
	block, err := aes.NewCipher(s.Key)
	if err != nil {
		return nil, fmt.Errorf("seed of volume keys: %w", err)
	}
	out := &Secret{Slots: make([]byte, int(s.Slots)*slotSize)}
	stream := cipher.NewCTR(block, make([]byte, aes.BlockSize))
	stream.XORKeyStream(out.Key[:], out.Key[:])
	stream.XORKeyStream(out.Slots, out.Slots)
	return out, nil
}
