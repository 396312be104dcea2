package directory

import (
	"errors"
	"strings"
	"testing"

	"hongyan/cluster/wire"
)

func TestValidDomain(t *testing.T) {
	label := strings.Repeat("x", maxDNSLabel)
	for _, good := range []string{"example.test", "localhost", "A.b", "a_b.c-d", "bücher.example", "[127.0.0.1]", "[IPv6:::1]", label + ".a"} {
		if !ValidDomain(good) {
			t.Errorf("%q is refused", good)
		}
	}
	for _, bad := range []string{"", ".", "a..b", ".a", "a.", "a b", "a@b", "a/b", "a\x00b", "a\u0085b", "\xff.test", "[]", "[1", "[x y]", label + "x.a", strings.Repeat("a.", 128) + "a"} {
		if ValidDomain(bad) {
			t.Errorf("%q is accepted", bad)
		}
		if err := new(Service).AddDomain(t.Context(), bad, ""); !invalid(err) {
			t.Errorf("adding %q: %v", bad, err)
		}
	}
}

// Addresses that SMTP or IMAP could not name get no account; those that have one keep it.
func TestAddressOfANewAccount(t *testing.T) {
	const old = "old/name@a.test"
	s := outside(t, func(_ string, req *LookupRequest) (*LookupResponse, error) {
		if req.Address == old {
			return &LookupResponse{Account: &Account{ID: 1, Address: old}, Local: true}, nil
		}
		return &LookupResponse{Local: true}, nil
	})
	for _, good := range []string{old, "a+b@a.test", ".a..b.@a.test", "a%b!#$&'*=?^_`{|}~@a.test", "李@a.test", "no address"} {
		if err := s.mayBeNew(t.Context(), good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"a/b@a.test", "a@b@a.test", `"a"@a.test`, `a\b@a.test`, "a,b@a.test", "a\x7fb@a.test", "a\u202eb@a.test", "\xff@a.test"} {
		if _, _, err := s.AddAccount(t.Context(), AddAccount{Address: bad}); !invalid(err) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func invalid(err error) bool {
	var e *wire.Error
	return errors.As(err, &e) && e.Code == wire.Invalid
}
