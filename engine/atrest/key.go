package atrest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
)

// The kinds of failure that callers tell apart.
var (
	// ErrPlain: what is read was not written by this package.
	ErrPlain = errors.New("not encrypted")
	// ErrWrongKey: it was encrypted with another key, or is damaged.
	ErrWrongKey = errors.New("store key does not fit")
	// ErrVersion: it was written by a newer version of the program.
	ErrVersion = errors.New("unknown format version")
)

const saltSize = 32

// Key is a store key.
type Key struct{ secret [32]byte }

// NewKey makes a Key of 32 secret bytes.
func NewKey(secret [32]byte) *Key { return &Key{secret} }

// ScratchKey makes a Key that ends with the process: nobody reads what is encrypted with it later.
func ScratchKey() *Key {
	k := new(Key)
	rand.Read(k.secret[:]) // never fails: the program ends instead
	return k
}

// derive makes a key for one use.
func (k *Key) derive(parts ...[]byte) []byte {
	mac := hmac.New(sha256.New, k.secret[:])
	for _, p := range parts {
		mac.Write(p)
	}
	return mac.Sum(nil)
}

func salt() (s [saltSize]byte) {
	rand.Read(s[:])
	return s
}

// newAES makes a cipher of a derived key, which has the right length for that.
func newAES(key []byte) cipher.Block {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("atrest: " + err.Error())
	}
	return block
}

func newGCM(key []byte) cipher.AEAD {
	aead, err := cipher.NewGCM(newAES(key))
	if err != nil {
		panic("atrest: " + err.Error())
	}
	return aead
}
