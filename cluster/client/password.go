package client

import (
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/alexedwards/argon2id"
)

// passwordCost is Argon2id's (RFC 9106) as OWASP advises for servers: 19 MiB, two passes, one lane.
var passwordCost = argon2id.Params{Memory: 19 << 10, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32}

// What a hash that comes from outside may cost: every login pays it again. The least is what OWASP calls the least.
const (
	minHashMemory = 7 << 10 // KiB
	maxHashMemory = 64 << 10
	maxHashPasses = 8
	maxHashLanes  = 16
	maxHashText   = 256
	minHashBytes  = 16 // of the key; a salt may have half of that (RFC 9106 section 3.1)
	maxHashBytes  = 64
)

// NewAccount describes an account to be made. One of Password and Hash is set.
type NewAccount struct {
	Address  string
	Home     string // region; "": that of the domain
	Password string
	Hash     string // PHC string, see CheckPasswordHash
	Reset    bool   // if the account is there, give it this password
}

// Credential is what the directory keeps of the password: the hash, made now or elsewhere. ErrInvalidHash.
func (n *NewAccount) Credential() (string, error) {
	if (n.Password == "") == (n.Hash == "") {
		return "", fmt.Errorf("%w: expected either a password or a hash of one", ErrInvalidHash)
	}
	if n.Hash != "" {
		return n.Hash, CheckPasswordHash(n.Hash)
	}
	return HashPassword(n.Password)
}

// HashPassword makes what the directory keeps of a password.
func HashPassword(password string) (string, error) {
	h, err := argon2id.CreateHash(password, &passwordCost)
	if err != nil {
		return "", fmt.Errorf("hash a password: %w", err)
	}
	return h, nil
}

// CheckPasswordHash says what is wrong with a hash from outside, or nil: it must be Argon2id's PHC string as HashPassword
// writes it, "$argon2id$v=19$m=19456,t=2,p=1$SALT$KEY", at a cost within our bounds. ErrInvalidHash.
func CheckPasswordHash(hash string) error {
	if len(hash) > maxHashText {
		return fmt.Errorf("%w: longer than %d bytes", ErrInvalidHash, maxHashText)
	}
	p, salt, key, err := argon2id.DecodeHash(hash)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidHash, err)
	}
	// The decoder passes over signs, spaces and whatever follows a number; only the one way to write it is taken.
	encode := base64.RawStdEncoding.EncodeToString
	plain := fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", p.Memory, p.Iterations, p.Parallelism, encode(salt), encode(key))
	switch {
	case plain != hash:
		err = errors.New("expected the form $argon2id$v=19$m=…,t=…,p=…$SALT$KEY")
	case p.Memory < minHashMemory || p.Memory > maxHashMemory:
		err = fmt.Errorf("m=%d: expected %d to %d KiB", p.Memory, minHashMemory, maxHashMemory)
	case p.Iterations < 1 || p.Iterations > maxHashPasses:
		err = fmt.Errorf("t=%d: expected 1 to %d", p.Iterations, maxHashPasses)
	case p.Parallelism < 1 || p.Parallelism > maxHashLanes:
		err = fmt.Errorf("p=%d: expected 1 to %d", p.Parallelism, maxHashLanes)
	case len(salt) < minHashBytes/2 || len(salt) > maxHashBytes:
		err = fmt.Errorf("salt of %d bytes: expected %d to %d", len(salt), minHashBytes/2, maxHashBytes)
	case len(key) < minHashBytes || len(key) > maxHashBytes:
		err = fmt.Errorf("key of %d bytes: expected %d to %d", len(key), minHashBytes, maxHashBytes)
	default:
		return nil
	}
	return fmt.Errorf("%w: %w", ErrInvalidHash, err)
}
