package keys

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// Master wraps and unwraps keys. What is wrapped names the key that did it, so that several can be in use during a rotation.
type Master interface {
	// ID names the key that wraps now.
	ID() string
	// Wrap encrypts key and binds it to aad. It says which key did, since another may have become the newest.
	Wrap(ctx context.Context, key, aad []byte) (id string, wrapped []byte, err error)
	// Unwrap gives back what Wrap was given, or ErrUnknownKey or ErrWrongKey.
	Unwrap(ctx context.Context, id string, wrapped, aad []byte) ([]byte, error)
}

const (
	masterKeySize = 32
	// maxMasterKeys bounds a file of master keys: old ones may stay as long as something is wrapped by them.
	maxMasterKeys = 256
)

// masterKey is a key of 32 bytes and its name.
type masterKey struct {
	id   string
	key  [masterKeySize]byte
	aead cipher.AEAD
}

func newMasterKey(id string, key []byte) (*masterKey, error) {
	if len(key) != masterKeySize {
		return nil, fmt.Errorf("master key %s has %d bytes, expected 32", id, len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("master key %s: %w", id, err)
	}
	// A random nonce of 96 bits is safe for 2^32 keys wrapped (NIST SP 800-38D, section 8.3).
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("master key %s: %w", id, err)
	}
	return &masterKey{id: id, key: [masterKeySize]byte(key), aead: aead}, nil
}

// generateMasterKey makes a key with a name that no other has: the day, and four random bytes.
func generateMasterKey(now time.Time) (*masterKey, error) {
	b := make([]byte, masterKeySize+4)
	rand.Read(b)
	return newMasterKey(now.UTC().Format("2006-01-02")+"-"+hex.EncodeToString(b[masterKeySize:]), b[:masterKeySize])
}

// Keyring is the master keys of a node, from a file (OpenKeyFile) or wrapped by a command (OpenKeyCommand). The last wraps. It is
// a Master, and safe for concurrent use.
type Keyring struct {
	source source

	rotation sync.Mutex // one Rotate or Reload at a time

	mu   sync.RWMutex // guards keys
	keys []*masterKey
}

// source is where a keyring comes from.
type source interface {
	// lock keeps other processes from adding keys.
	lock() (io.Closer, error)
	load(ctx context.Context) ([]*masterKey, error)
	// add puts fresh behind the keys that are there, durably.
	add(ctx context.Context, old []*masterKey, fresh *masterKey) error
}

func openKeyring(ctx context.Context, s source) (*Keyring, error) {
	keys, err := s.load(ctx)
	if err != nil {
		return nil, err
	}
	return &Keyring{source: s, keys: keys}, nil
}

// Reload takes the keys from their source anew: an operator may have added one, or taken one away that nothing needs.
func (k *Keyring) Reload(ctx context.Context) error {
	k.rotation.Lock()
	defer k.rotation.Unlock()
	return k.reload(ctx)
}

func (k *Keyring) reload(ctx context.Context) error {
	keys, err := k.source.load(ctx)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys = keys
	return nil
}

// Rotate makes sure that another key wraps from now on than did before: one that was added to the source since it was loaded, or
// else a new one, which is added durably. The older ones stay.
func (k *Keyring) Rotate(ctx context.Context) error {
	k.rotation.Lock()
	defer k.rotation.Unlock()
	unlock, err := k.source.lock()
	if err != nil {
		return err
	}
	return errors.Join(k.rotate(ctx), unlock.Close())
}

func (k *Keyring) rotate(ctx context.Context) error {
	before := k.ID()
	if err := k.reload(ctx); err != nil || k.ID() != before {
		return err
	}
	fresh, err := generateMasterKey(time.Now())
	if err != nil {
		return err
	}
	if len(k.keys) >= maxMasterKeys { // only reload writes it
		return fmt.Errorf("there are %d master keys already: take away those that nothing is wrapped by", len(k.keys))
	}
	if err := k.source.add(ctx, k.keys, fresh); err != nil {
		return err
	}
	return k.reload(ctx)
}

// IDs names all keys, the oldest first.
func (k *Keyring) IDs() []string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	ids := make([]string, len(k.keys))
	for i, key := range k.keys {
		ids[i] = key.id
	}
	return ids
}

func (k *Keyring) newest() *masterKey {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.keys[len(k.keys)-1]
}

// ID implements Master.
func (k *Keyring) ID() string { return k.newest().id }

// Wrap implements Master.
func (k *Keyring) Wrap(_ context.Context, key, aad []byte) (string, []byte, error) {
	m := k.newest()
	return m.id, m.aead.Seal(nil, nil, key, aad), nil
}

// Unwrap implements Master.
func (k *Keyring) Unwrap(_ context.Context, id string, wrapped, aad []byte) ([]byte, error) {
	k.mu.RLock()
	i := slices.IndexFunc(k.keys, func(m *masterKey) bool { return m.id == id })
	if i < 0 {
		k.mu.RUnlock()
		return nil, fmt.Errorf("%q: %w", id, ErrUnknownKey)
	}
	m := k.keys[i]
	k.mu.RUnlock()
	key, err := m.aead.Open(nil, nil, wrapped, aad)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", id, ErrWrongKey)
	}
	return key, nil
}
