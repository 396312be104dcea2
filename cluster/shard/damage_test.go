package shard

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

// TestDamagedLogs does to a node's logs what disks and people do. Opening them must not make anew what had been promised, nor end the process.
func TestDamagedLogs(t *testing.T) {
	terms, journal := "raft/"+termsName, "raft/journal"
	change := func(f func(b []byte) []byte) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			b, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(path, f(b), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(t *testing.T, path string) {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, path string
		do         func(t *testing.T, path string)
		says       string // "": nothing is wrong
	}{
		{"nothing", terms, func(*testing.T, string) {}, ""},
		{"terms and votes are gone", terms, remove, "terms and votes of its replicas, is missing"},
		{"cut", terms, change(func(b []byte) []byte { return b[:len(b)/4] }), "bytes of"},
		{"emptied", terms, change(func([]byte) []byte { return nil }), "is empty"},
		{"something else", terms, change(func(b []byte) []byte { return []byte(strings.Repeat("x", len(b))) }), "is no database"},
		{"a page is another's", terms, change(func(b []byte) []byte {
			clear(b[8192:]) // behind the two that say what there is
			return b
		}), "does not read as a database"},
		{"a directory", terms, func(t *testing.T, path string) {
			remove(t, path)
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "is no file"},
		{"the journal is gone", journal, remove, "the journal of its replicas is missing"},
		{"the journal is damaged", journal + "/0000000000000001.log", change(func(b []byte) []byte {
			b[4096+20] ^= 1 // in the first frame
			return b
		}), "is damaged at"},
		{"marked", "raft", func(t *testing.T, path string) {
			if err := MarkDamaged(path, "the leader says so"); err != nil {
				t.Fatal(err)
			}
		}, "the leader says so"},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := t.TempDir()
			dir := filepath.Join(data, "raft")
			logs, err := OpenLogs(dir, nil, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(os.Mkdir(Dir(data, 1), 0o700), os.WriteFile(filepath.Join(dir, IncarnationName), []byte("name"), 0o600)); err != nil {
				t.Fatal(err)
			}
			g := logs.group(1)
			for i := uint64(1); i <= 3; i++ {
				if err := errors.Join(g.SetUint64([]byte("CurrentTerm"), i), g.StoreLog(&raft.Log{Index: i, Term: i, Data: []byte("entry")})); err != nil {
					t.Fatal(err)
				}
			}
			if err := logs.Close(); err != nil {
				t.Fatal(err)
			}
			c.do(t, filepath.Join(data, c.path))
			logs, err = OpenLogs(dir, nil, slog.New(slog.DiscardHandler))
			if err == nil {
				err = logs.Close()
			}
			damaged := (*DamagedError)(nil)
			if errors.As(err, &damaged) != (c.says != "") || c.says != "" && !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, expected %q", err, c.says)
			}
		})
	}
}

// TestRebuiltLogs opens what a rebuild leaves: replicas without logs.
func TestRebuiltLogs(t *testing.T) {
	data := t.TempDir()
	if err := os.MkdirAll(Dir(data, 1), 0o700); err != nil {
		t.Fatal(err)
	}
	logs, err := OpenLogs(filepath.Join(data, "raft"), nil, slog.New(slog.DiscardHandler))
	if err == nil {
		err = logs.Close()
	}
	if err != nil {
		t.Error(err)
	}
}

// TestVotesContradict has terms that are lower than what they have led to.
func TestVotesContradict(t *testing.T) {
	for _, c := range []struct{ term, voted, entry uint64 }{{3, 4, 3}, {2, 2, 3}} {
		data := t.TempDir()
		logs, err := OpenLogs(filepath.Join(data, "raft"), nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		g := logs.group(1)
		err = errors.Join(os.Mkdir(Dir(data, 1), 0o700), g.SetUint64([]byte("CurrentTerm"), c.term), g.SetUint64([]byte("LastVoteTerm"), c.voted),
			g.StoreLog(&raft.Log{Index: 1, Term: c.entry}), logs.Close())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := OpenLogs(filepath.Join(data, "raft"), nil, slog.New(slog.DiscardHandler)); !errors.As(err, new(*DamagedError)) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
