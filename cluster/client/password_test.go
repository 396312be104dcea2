package client

import (
	"errors"
	"strings"
	"testing"
)

// Hashes from outside are taken only in the one form that we write, at a cost that every login can bear.
func TestCheckPasswordHash(t *testing.T) {
	own, err := HashPassword("secret")
	if err != nil {
		t.Fatal(err)
	}
	const salt, key = "c29tZXNhbHRzb21lc2FsdA", "RdescudvJCsgt3ub+b+dWRWJTmaaJObG"
	hash := func(head string) string { return head + "$" + salt + "$" + key }
	for _, good := range []string{own, hash("$argon2id$v=19$m=65536,t=3,p=4"), hash("$argon2id$v=19$m=7168,t=5,p=1")} {
		if err := CheckPasswordHash(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for name, bad := range map[string]string{
		"nothing":          "",
		"a password":       "secret",
		"another kind":     hash("$argon2i$v=19$m=19456,t=2,p=1"),
		"another version":  hash("$argon2id$v=16$m=19456,t=2,p=1"),
		"too much memory":  hash("$argon2id$v=19$m=4194304,t=2,p=1"),
		"too little":       hash("$argon2id$v=19$m=8,t=2,p=1"),
		"too many passes":  hash("$argon2id$v=19$m=19456,t=1000000,p=1"),
		"no pass":          hash("$argon2id$v=19$m=19456,t=0,p=1"),
		"too many lanes":   hash("$argon2id$v=19$m=19456,t=2,p=200"),
		"no lane":          hash("$argon2id$v=19$m=19456,t=2,p=0"),
		"more lanes":       hash("$argon2id$v=19$m=19456,t=2,p=257"),
		"a negative":       hash("$argon2id$v=19$m=-1,t=2,p=1"),
		"a sign":           hash("$argon2id$v=19$m=+19456,t=2,p=1"),
		"a leading zero":   hash("$argon2id$v=19$m=019456,t=2,p=1"),
		"more parameters":  hash("$argon2id$v=19$m=19456,t=2,p=1,x=1"),
		"another order":    hash("$argon2id$v=19$t=2,m=19456,p=1"),
		"a short key":      "$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$c2hvcnQ",
		"no salt":          "$argon2id$v=19$m=19456,t=2,p=1$$" + key,
		"a long salt":      "$argon2id$v=19$m=19456,t=2,p=1$" + strings.Repeat("AAAA", 30) + "$" + key,
		"a long text":      "$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$" + strings.Repeat("AAAA", 1000),
		"padded base64":    "$argon2id$v=19$m=19456,t=2,p=1$" + salt + "==$" + key,
		"a line end":       own + "\n",
		"a hash too many":  own + "$" + key,
		"something before": "x" + own,
	} {
		if err := CheckPasswordHash(bad); !errors.Is(err, ErrInvalidHash) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCredential(t *testing.T) {
	own, err := HashPassword("secret")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := (&NewAccount{Hash: own}).Credential(); err != nil || got != own {
		t.Errorf("a hash became %q, %v", got, err)
	}
	if got, err := (&NewAccount{Password: "secret"}).Credential(); err != nil || CheckPasswordHash(got) != nil || got == own {
		t.Errorf("a password became %q, %v", got, err)
	}
	for _, bad := range []NewAccount{{}, {Hash: own, Password: "secret"}, {Hash: "x"}} {
		if got, err := bad.Credential(); !errors.Is(err, ErrInvalidHash) {
			t.Errorf("%+v became %q, %v", bad, got, err)
		}
	}
}
