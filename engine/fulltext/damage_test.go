package fulltext

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/atrest"
	"hongyan/engine/effort"
	"hongyan/engine/pebblelog"
)

// TestCrash loses power at any time, between and within merges too: what is there then is complete up to where it says, and indexing goes on from there.
func TestCrash(t *testing.T) {
	for seed := range effort.Times(5, 40) {
		rng := rand.New(rand.NewPCG(uint64(seed), 4))
		fs := vfs.NewCrashableMem()
		db, err := Open(fs, "fulltext", discard)
		if err != nil {
			t.Fatal(err)
		}
		all := make(map[uint32][]string)
		through := uint32(0)
		for round := range 60 {
			some := [][]string{}
			for range 1 + rng.IntN(4) {
				some = append(some, []string{text(rng, 3), text(rng, 30)})
			}
			db.index(t, through+1, some...)
			for _, texts := range some {
				through++
				all[through] = texts
			}
			switch rng.IntN(6) {
			case 0:
				if err := db.use(func(p *pebble.DB) error { return p.Flush() }); err != nil {
					t.Fatal(err)
				}
			case 1:
				db.tend(t, upTo(through))
			case 2: // in the middle of a merge
				ctx, cancel := context.WithCancel(context.Background())
				cancel()
				_, _ = db.Tend(ctx, box, upTo(through), through+1)
			}
			if round%10 != 9 {
				continue
			}
			clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			fs = clone
			if db, err = Open(fs, "fulltext", discard); err != nil {
				t.Fatal(err)
			}
			if s, err := db.State(box); err != nil || s.Through > through {
				t.Fatalf("seed %d: %+v of %d messages, %v", seed, s, through, err)
			} else {
				through = s.Through
			}
			if through == 0 {
				continue
			}
			for range 30 {
				needle := partOf(rng, all[1+rng.Uint32N(through)][1], 8)
				a := db.find(t, needle)
				for uid := uint32(1); uid <= through; uid++ {
					if contains(all[uid], needle) && !a.UIDs.Contains(uid) {
						t.Fatalf("seed %d: after a crash %q is in message %d and not found", seed, needle, uid)
					}
				}
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// tables writes everything to tables and gives their names.
func tables(t *testing.T, fs vfs.FS, db *DB) (names []string) {
	t.Helper()
	if err := db.use(func(p *pebble.DB) error { return p.Flush() }); err != nil {
		t.Fatal(err)
	}
	list, err := fs.List("fulltext")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range list {
		if strings.HasSuffix(n, ".sst") {
			names = append(names, fs.PathJoin("fulltext", n))
		}
	}
	if len(names) == 0 {
		t.Fatal("no tables")
	}
	return names
}

// overwrite changes bytes of a file where it lies.
func overwrite(t *testing.T, fs vfs.FS, name string, change func(b []byte)) {
	t.Helper()
	f, err := fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, info.Size())
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	change(b)
	if _, err := f.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestDamage flips a byte of a table. A search either finds what it should or fails, and then the database says that it is damaged; made anew it works.
func TestDamage(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	noticed := 0
	for range effort.Of(4, 40, 600) {
		fs := vfs.NewMem()
		db, err := Open(fs, "fulltext", discard)
		if err != nil {
			t.Fatal(err)
		}
		var messages [][]string
		for i := range 200 {
			messages = append(messages, []string{fmt.Sprintf("number %d", i), text(rng, 40)})
		}
		db.index(t, 1, messages...)
		names := tables(t, fs, db)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		overwrite(t, fs, names[rng.IntN(len(names))], func(b []byte) { b[rng.IntN(len(b))] ^= 1 << rng.IntN(8) })
		db = openIn(t, fs)
		if s, err := db.State(box); err != nil || s.Through == 0 { // found when it was opened, or now
			noticed++
		}
		for i, texts := range messages {
			a, err := db.Search(context.Background(), box, validity, texts[0])
			if err != nil {
				if !db.Damaged() {
					t.Fatalf("a search failed, and the database is not damaged: %v", err)
				}
				noticed++
				break
			}
			if a.Through > 0 && !a.UIDs.Contains(uint32(i)+1) {
				t.Fatalf("%q is not found in a damaged database", texts[0])
			}
		}
		if err := db.Rebuild(); err != nil {
			t.Fatal(err)
		}
		if s, err := db.State(box); err != nil || s.Through != 0 || db.Damaged() {
			t.Fatalf("made anew: %+v %v", s, err)
		}
		db.index(t, 1, []string{"again"})
		if a := db.find(t, "gai"); a.UIDs.GetCardinality() != 1 {
			t.Errorf("made anew it finds %v", a.UIDs)
		}
	}
	if noticed == 0 {
		t.Error("no damage was ever noticed")
	}
}

// TestOtherFormat opens what another version, another program or another key wrote: it is begun anew.
func TestOtherFormat(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, fs vfs.FS) vfs.FS{
		"another version": func(t *testing.T, fs vfs.FS) vfs.FS {
			db, err := Open(fs, "fulltext", discard)
			if err != nil {
				t.Fatal(err)
			}
			db.index(t, 1, []string{"old"})
			if err := db.use(func(p *pebble.DB) error { return p.Set(formatKey, []byte{format + 1}, pebble.NoSync) }); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			return fs
		},
		"another program": func(t *testing.T, fs vfs.FS) vfs.FS {
			p, err := pebble.Open("fulltext", &pebble.Options{FS: fs, Logger: pebblelog.Logger{Log: discard, What: "full-text index"}})
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Set([]byte("something"), []byte("else"), pebble.Sync); err != nil {
				t.Fatal(err)
			}
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			return fs
		},
		"no key before": func(t *testing.T, fs vfs.FS) vfs.FS {
			db, err := Open(fs, "fulltext", discard)
			if err != nil {
				t.Fatal(err)
			}
			db.index(t, 1, []string{"old"})
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			return atrest.NewKey([32]byte{1}).FS(fs)
		},
		"a half of it": func(t *testing.T, fs vfs.FS) vfs.FS {
			db, err := Open(fs, "fulltext", discard)
			if err != nil {
				t.Fatal(err)
			}
			db.index(t, 1, []string{"old"})
			names := tables(t, fs, db)
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			if err := fs.Remove(names[0]); err != nil {
				t.Fatal(err)
			}
			return fs
		},
	} {
		t.Run(name, func(t *testing.T) {
			db := openIn(t, spoil(t, vfs.NewMem()))
			if s, err := db.State(box); err == nil && s.Through == 0 {
				db.index(t, 1, []string{"new"})
				if a := db.find(t, "new"); a.UIDs.GetCardinality() != 1 {
					t.Errorf("it finds %v", a.UIDs)
				}
			} else if !db.Damaged() {
				t.Errorf("%+v %v", s, err)
			}
		})
	}
}

// TestSealed looks for a word in the files of an encrypted index.
func TestSealed(t *testing.T) {
	base := vfs.NewMem()
	fs := atrest.NewKey([32]byte{1}).FS(base)
	db := openIn(t, fs)
	db.index(t, 1, []string{"confidentialword"})
	for _, name := range tables(t, fs, db) {
		overwrite(t, base, name, func(b []byte) {
			if strings.Contains(string(b), "confidential") {
				t.Errorf("%s has a word of mail in the clear", name)
			}
		})
	}
}

// TestDrop forgets mailboxes, a shard, and what was indexed under another UIDVALIDITY.
func TestDrop(t *testing.T) {
	db := openIn(t, vfs.NewMem())
	put := func(m Mailbox, validity uint32) {
		t.Helper()
		b := NewBatch(m, validity, 0)
		b.Begin(1)
		b.Text([]byte("word"))
		if err := db.Commit(b, 1); err != nil {
			t.Fatal(err)
		}
	}
	boxes := []Mailbox{{1, 1, 1}, {1, 1, 2}, {1, 2, 1}, {2, 1, 1}, {1<<32 - 1, 1<<64 - 1, 1<<32 - 1}}
	for _, m := range boxes {
		put(m, validity)
	}
	if list, err := db.Shards(); err != nil || fmt.Sprint(list) != "[1 2]" { // the last is no shard of a cluster, and beside the format's key
		t.Errorf("shards %v, %v", list, err)
	}
	seen := func(shard uint32) (out string) {
		if err := db.States(shard, func(s State) error { out += fmt.Sprintf("%d/%d ", s.Account, s.ID); return nil }); err != nil {
			t.Fatal(err)
		}
		return out
	}
	if got := seen(1); got != "1/1 1/2 2/1 " {
		t.Errorf("mailboxes %q", got)
	}
	if err := db.Drop(boxes[0]); err != nil {
		t.Fatal(err)
	}
	put(boxes[1], validity+1)
	if a, err := db.Search(context.Background(), boxes[1], validity, "word"); err != nil || a.Through != 0 {
		t.Errorf("of the UIDVALIDITY from before: %+v %v", a, err)
	}
	if got := seen(1); got != "1/2 2/1 " {
		t.Errorf("mailboxes %q", got)
	}
	late := NewBatch(boxes[0], validity, 1) // begun before the mailbox was dropped
	late.Begin(2)
	if err := db.Commit(late, 2); err == nil {
		t.Error("messages are left out, and the index counts up to behind them")
	}
	if err := db.DropShard(1); err != nil {
		t.Fatal(err)
	}
	if got := seen(1) + "and " + seen(2); got != "and 1/1 " {
		t.Errorf("mailboxes %q", got)
	}
}
