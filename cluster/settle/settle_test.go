package settle

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"hongyan/cluster/directory"
	"hongyan/cluster/placement"
	"hongyan/cluster/replica"
	"hongyan/engine/volume"
)

// tables is a directory, with all that a node knows of volumes.
type tables struct {
	entries []replica.Entry
	notes   []directory.RecoveryNote
}

func (t *tables) CatchUp(context.Context) error                             { return nil }
func (t *tables) RecoveryNotes() ([]directory.RecoveryNote, error)          { return t.notes, nil }
func (t *tables) Volumes(context.Context) ([]replica.Entry, error)          { return t.entries, nil }
func (t *tables) LastRecord(context.Context, replica.Entry) (uint64, error) { return 9, nil }

func (t *tables) Entry(id volume.ID) (replica.Entry, bool) {
	for _, e := range t.entries {
		if e.ID == id {
			return e, true
		}
	}
	return replica.Entry{}, false
}

// TestEnd: a volume that the directory does not know has ended, unless the directory went on from a survivor and such volumes are still looked for.
func TestEnd(t *testing.T) {
	d := &tables{entries: []replica.Entry{{ID: 1, State: replica.Open}, {ID: 2, State: replica.Sealed}}}
	s := New(Config{Volumes: d, Directory: d, Log: slog.New(slog.DiscardHandler)})
	check := func(id volume.ID, last uint64, ended bool) {
		t.Helper()
		if l, e, err := s.end(t.Context(), id); err != nil || l != last || e != ended {
			t.Errorf("volume %s: %d, %v, %v; expected %d, %v", id, l, e, err, last, ended)
		}
	}
	check(1, 0, false)
	check(2, 9, true)
	check(3, 0, true)
	d.notes = []directory.RecoveryNote{{Shard: 4}}
	check(3, 0, true)
	d.notes = append(d.notes, directory.RecoveryNote{Shard: placement.DirectoryShard})
	check(3, 0, false)
	check(2, 9, true)
}

// TestHeld: what a shard entered in vain stays while its messages are looked for after a recovery, for a while.
func TestHeld(t *testing.T) {
	now := time.Now()
	d := &tables{notes: []directory.RecoveryNote{{Shard: 4, Hold: now.Add(time.Minute).Unix()}, {Shard: 5, Hold: now.Unix() - 1}, {Shard: 6}}}
	s := New(Config{Directory: d})
	for number, want := range map[uint32]bool{3: false, 4: true, 5: false, 6: false} {
		if held, err := s.held(t.Context(), number); err != nil || held != want {
			t.Errorf("shard %d: %v, %v", number, held, err)
		}
	}
}
