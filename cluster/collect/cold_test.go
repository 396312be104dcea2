package collect

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/replica"
	"hongyan/cluster/wire"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// freezing is a directory in which a volume turns cold just before its compaction is begun.
type freezing struct {
	t    *testing.T
	cold bool
}

func (f *freezing) CompactVolume(_ context.Context, id volume.ID) (replica.Entry, error) {
	e := replica.Entry{ID: id, State: replica.Sealed, Length: 5000, Last: 2, Attempt: 3, Copies: []string{"a", "b"}}
	if f.cold {
		e.Copies, e.Cold = nil, &replica.Cold{Data: 2, Parity: 1, Nodes: []string{"a", "b", "c"}}
	}
	return e, nil
}

func (f *freezing) VolumeCompacted(_ context.Context, id volume.ID, generation uint32, length int64) (replica.Entry, error) {
	f.t.Errorf("volume %s, which has a live record, became generation %d of %d bytes", id, generation, length)
	return replica.Entry{}, nil
}

// emptied are copies of which nothing is left to be made.
type emptied struct{ Copies }

func (emptied) Entered(replica.Entry) {}

func (emptied) Prepare(context.Context, string, replica.Entry, []byte, []uint32, int64) (volume.Prepared, error) {
	return volume.Prepared{}, nil
}

// TestTurnedCold: a volume with live records that turned cold after it was looked at has no copies to be compacted from, and is left as it is.
func TestTurnedCold(t *testing.T) {
	c, err := New(Config{Options: Options{Every: time.Second, AtOnce: 1, Garbage: 30}, Directory: &freezing{t: t, cold: true}, Copies: emptied{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	l := &live{records: roaring.BitmapOf(1), owner: map[uint32]index.Reference{1: {Record: 1, Account: 1, Mailbox: 1}}}
	census := volume.Census{Bytes: 5000, StayBytes: 2500, Here: roaring.BitmapOf(1, 2), Stay: roaring.BitmapOf(1)}
	if _, err := c.compact(t.Context(), replica.Entry{ID: 9}, l, census); !errors.Is(err, wire.ErrUnavailable) {
		t.Errorf("%v", err)
	}
}
