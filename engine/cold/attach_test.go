package cold

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/keys"
	"hongyan/engine/volume"
)

// TestAttachments: index and keys are there whole or not at all, and no key that was destroyed comes back.
func TestAttachments(t *testing.T) {
	fs := vfs.NewMem()
	must(t, keys.CreateKeyFile(fs, "master.key"))
	ring, err := keys.OpenKeyFile(fs, "master.key")
	must(t, err)
	s, err := OpenStore(fs, "cold", ring)
	must(t, err)
	if s.HasAttached(5, 1) {
		t.Fatal("attached before")
	}
	if _, _, err := s.Attached(5, 1); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	secret := keys.NewSecret(100)
	must(t, s.Attach(5, 1, []byte("index"), secret))
	must(t, s.UseKeys(5, func(f *keys.File) error { return f.Destroy([]uint64{7}) }))
	must(t, s.Attach(5, 1, []byte("index again"), secret)) // by a peer that has not heard of it
	index, got, err := s.Attached(5, 1)
	if err != nil || !bytes.Equal(index, []byte("index again")) || got.Key != secret.Key || !s.HasAttached(5, 1) {
		t.Fatalf("%q, %v", index, err)
	}
	if gone := Destroyed(got, 6); len(gone) != 0 {
		t.Errorf("of the first six %v are destroyed", gone)
	}
	if gone := Destroyed(got, math.MaxUint64); len(gone) != 1 || gone[0] != 7 {
		t.Fatalf("destroyed: %v", gone)
	}
	if n, err := s.Erase(5, func(n uint64) bool { return n <= 10 }); err != nil || n != 90 {
		t.Fatalf("%d erased: %v", n, err)
	}
	state := func(id volume.ID) (missing, lost bool) {
		t.Helper()
		missing, err := s.KeysMissing(id)
		must(t, err)
		lost, err = s.KeysLost(id)
		must(t, err)
		return missing, lost
	}
	if missing, lost := state(5); missing || lost {
		t.Errorf("keys that are here: missing %v, lost %v", missing, lost)
	}
	must(t, s.Attach(8, 0, nil, secret))
	flip(t, fs, s.keyPath(8), 100)
	flip(t, fs, s.keyPath(8), 4096+100)
	if missing, lost := state(8); missing || !lost {
		t.Errorf("keys without a header: missing %v, lost %v", missing, lost)
	}
	must(t, fs.Remove(s.keyPath(8)))
	if missing, lost := state(8); !missing || !lost {
		t.Errorf("keys without a file: missing %v, lost %v", missing, lost)
	}
	must(t, s.Attach(6, 0, []byte("plain"), nil))
	if _, secret, err := s.Attached(6, 0); err != nil || secret != nil {
		t.Fatalf("keys of a plain volume: %v", err)
	}
	if n, err := s.Erase(6, func(uint64) bool { return false }); err != nil || n != 0 {
		t.Fatalf("%d erased of a plain volume: %v", n, err)
	}
	if keyed, err := s.Keyed(); err != nil || len(keyed) != 1 || keyed[0] != 5 {
		t.Fatalf("%v, %v", keyed, err)
	}
	must(t, s.Close())
	without, err := OpenStore(fs, "cold", nil)
	must(t, err)
	if err := without.Attach(7, 0, nil, secret); !errors.Is(err, ErrNoMaster) {
		t.Fatalf("keys without a master key: %v", err)
	}
	must(t, s.Detach(5))
	if _, err := s.Record(5, 1); !errors.Is(err, ErrNotFound) || s.HasAttached(5, 1) || !s.HasAttached(6, 0) {
		t.Fatal(err)
	}
}
