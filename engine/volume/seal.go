package volume

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// recordKeys gives the keys of an encrypted volume's records. Those of package keys do.
type recordKeys interface {
	Record(n uint64) ([32]byte, error)
}

const (
	metaCounter  = 0 // of the nonce; chunk i has i + 1
	nonceSize    = 12
	nonceCounter = 4 // where the counter begins in the nonce; the round stands before it
)

// recordCipher seals and opens the parts of one record. One goroutine uses it.
type recordCipher struct {
	aead  cipher.AEAD
	key   [32]byte
	nonce [nonceSize]byte
	data  [16]byte // volume id and record number
}

func newRecordCipher(key [32]byte, volume ID, record uint64) (*recordCipher, error) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, fmt.Errorf("record cipher: %w", err)
	}
	c := &recordCipher{key: key}
	if c.aead, err = cipher.NewGCM(block); err != nil {
		return nil, fmt.Errorf("record cipher: %w", err)
	}
	binary.LittleEndian.PutUint64(c.data[:], uint64(volume))
	binary.LittleEndian.PutUint64(c.data[8:], record)
	return c, nil
}

func (c *recordCipher) at(counter uint64) []byte {
	binary.LittleEndian.PutUint64(c.nonce[nonceCounter:], counter)
	return c.nonce[:]
}

// seal encrypts p into dst, which may begin where p does and gets tagSize bytes more.
func (c *recordCipher) seal(dst, p []byte, counter uint64) []byte {
	return c.aead.Seal(dst[:0], c.at(counter), p, c.data[:])
}

// open decrypts p in place.
func (c *recordCipher) open(p []byte, counter uint64) ([]byte, error) {
	plain, err := c.aead.Open(p[:0], c.at(counter), p, c.data[:])
	if err != nil {
		return nil, malformed("what is encrypted does not fit its key")
	}
	return plain, nil
}

// mac is what the header of a sealed record has in place of the message's hash.
func (c *recordCipher) mac(hash [32]byte) (sum [32]byte) {
	m := hmac.New(sha256.New, c.key[:])
	m.Write(hash[:])
	m.Sum(sum[:0])
	return sum
}

// cipher gives the cipher of a record; nil if the volume is not encrypted.
func (v *Volume) cipher(record uint64) (*recordCipher, error) {
	if !v.rules.encrypted {
		return nil, nil
	}
	if v.o.Keys == nil {
		return nil, fmt.Errorf("volume %s: record %d: %w", v.header.ID, record, ErrNoKeys)
	}
	key, err := v.o.Keys.Record(record)
	if err != nil {
		return nil, fmt.Errorf("volume %s: key of record %d: %w", v.header.ID, record, err)
	}
	return newRecordCipher(key, v.header.ID, record)
}
