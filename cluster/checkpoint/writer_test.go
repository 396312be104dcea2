package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/cluster/replica"
	"hongyan/engine/codec/codectest"
	"hongyan/engine/volume"
)

// partTest is a small part's size.
const partTest = 100_000

// records is a Store in memory.
type records struct {
	metas  []Meta
	bodies [][]byte
	fail   int // the put that fails, from 1
}

func (r *records) Put(_ context.Context, to replica.Place, kind volume.Kind, meta []byte, b *volume.Blob) (volume.Ref, error) {
	if len(r.metas)+1 == r.fail {
		return volume.Ref{}, errors.New("no volume is open")
	}
	m, err := DecodeMeta(meta)
	if err != nil || kind != volume.KindCheckpoint || to.Home != "south" || to.Policy.Key() != "" {
		return volume.Ref{}, errors.Join(err, errors.New("not a checkpoint's part for the south"))
	}
	rd, err := b.Open(0, b.Length())
	if err != nil {
		return volume.Ref{}, err
	}
	body, err := io.ReadAll(rd)
	r.metas, r.bodies = append(r.metas, m), append(r.bodies, body)
	return volume.Ref{Volume: 1, Record: uint64(len(r.metas)), Length: b.Length(), Hash: b.Hash()}, errors.Join(err, rd.Close())
}

func newTestWriter(s Store) *writer {
	return &writer{ctx: context.Background(), store: s, fs: vfs.NewMem(), home: "south", size: partTest, meta: Meta{ID: [16]byte{1}, Shard: 3, Applied: 9}}
}

// TestParts cuts states of all awkward lengths, and puts them together again.
func TestParts(t *testing.T) {
	state := make([]byte, 2*partTest+1)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(state)
	for _, n := range []int{1, partTest - 1, partTest, partTest + 1, 2 * partTest, 2*partTest + 1} {
		r := &records{}
		w := newTestWriter(r)
		for rest := state[:n]; len(rest) > 0; {
			k := min(len(rest), 70_001)
			if _, err := w.Write(rest[:k]); err != nil {
				t.Fatal(err)
			}
			rest = rest[k:]
		}
		if err := errors.Join(w.finish(), w.abort()); err != nil {
			t.Fatal(err)
		}
		if got := bytes.Join(r.bodies, nil); !bytes.Equal(got, state[:n]) || w.out.Bytes != uint64(n) || len(w.out.Parts) != (n+partTest-1)/partTest {
			t.Errorf("%d bytes came back as %d in %d parts", n, len(got), len(w.out.Parts))
		}
		for i, m := range r.metas {
			if m.Part != uint32(i) || m.Last != (i == len(r.metas)-1) || m.ID != w.meta.ID || m.Shard != 3 {
				t.Errorf("%d bytes: part %d says %+v", n, i, m)
			}
		}
	}
}

// TestPartFails leaves nothing open behind, and says which part it was.
func TestPartFails(t *testing.T) {
	w := newTestWriter(&records{fail: 2})
	_, err := w.Write(make([]byte, 2*partTest+1))
	if err == nil || w.abort() != nil {
		t.Errorf("wrote with %v", err)
	}
	if err := newTestWriter(&records{}).finish(); err == nil {
		t.Error("a checkpoint of nothing was finished")
	}
}

func TestFormat(t *testing.T) {
	codectest.Golden(t, "testdata/formats-v1.txt", []codectest.Sample{
		{Name: "part", Value: &Meta{ID: [16]byte{15: 1}, Shard: 3, Applied: 1000, Taken: 1_700_000_000, Part: 2, Last: true}},
	})
}
