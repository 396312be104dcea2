package engine

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/keys"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// master makes a file of master keys outside of the store.
func master(t *testing.T) *keys.Keyring {
	t.Helper()
	path := filepath.Join(t.TempDir(), "master.key")
	must(t, keys.CreateKeyFile(vfs.Default, path))
	k, err := keys.OpenKeyFile(vfs.Default, path)
	must(t, err)
	return k
}

// open opens a store, closes it again, and gives what it said.
func open(t *testing.T, dir string, m keys.Master) (said string, encrypted bool, err error) {
	t.Helper()
	var log bytes.Buffer
	s, err := Open(dir, Options{Reserve: 1, Master: m, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		return log.String(), false, err
	}
	tx := s.Index.Shard(1).Begin()
	tx.SetIndex(1)
	must(t, tx.Put([]byte("k"), []byte("v")))
	must(t, tx.Commit(1))
	must(t, s.Index.Flush())
	encrypted = s.Key != nil
	must(t, s.Close())
	return log.String(), encrypted, nil
}

func TestEncryptedStore(t *testing.T) {
	dir, m := t.TempDir(), master(t)
	for range 2 {
		if said, encrypted, err := open(t, dir, m); err != nil || !encrypted || said != "" {
			t.Fatalf("encrypted: %v, said %q: %v", encrypted, said, err)
		}
	}
	if _, _, err := open(t, dir, nil); err == nil || !strings.Contains(err.Error(), "encryption section") {
		t.Errorf("opened without a master key: %v", err)
	}
	if _, _, err := open(t, dir, master(t)); err == nil {
		t.Error("opened with another master key")
	}
	path := filepath.Join(dir, "store.key")
	must(t, os.Rename(path, path+".away"))
	if _, _, err := open(t, dir, m); err == nil || !strings.Contains(err.Error(), "put it back") {
		t.Errorf("opened without the store's key: %v", err)
	}
	must(t, os.Rename(path+".away", path))
	// Without an index the store begins anew, under the same key.
	must(t, os.RemoveAll(filepath.Join(dir, "index")))
	if _, encrypted, err := open(t, dir, m); err != nil || !encrypted {
		t.Errorf("encrypted: %v, %v", encrypted, err)
	}
}

func TestPlainStoreStaysPlain(t *testing.T) {
	dir := t.TempDir()
	if said, encrypted, err := open(t, dir, nil); err != nil || encrypted || !strings.Contains(said, "not encrypted") {
		t.Fatalf("encrypted: %v, said %q: %v", encrypted, said, err)
	}
	if said, encrypted, err := open(t, dir, master(t)); err != nil || encrypted || !strings.Contains(said, "in the clear") {
		t.Fatalf("encrypted: %v, said %q: %v", encrypted, said, err)
	}
}

func TestRewrap(t *testing.T) {
	dir, m := t.TempDir(), master(t)
	s, err := Open(dir, Options{Reserve: 1, Master: m, Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	old := m.ID()
	must(t, m.Rotate(t.Context()))
	if use, err := s.KeyUse(); err != nil || use.Masters[old] != 1 || use.Left != 1 {
		t.Fatalf("%+v, %v", use, err)
	}
	for range 2 {
		if use, err := s.Rewrap(t.Context()); err != nil || use.Masters[m.ID()] != 1 || use.Left != 0 {
			t.Fatalf("%+v, %v", use, err)
		}
	}
	must(t, s.Close())
	if _, encrypted, err := open(t, dir, m); err != nil || !encrypted {
		t.Fatalf("encrypted: %v, %v", encrypted, err)
	}
}
