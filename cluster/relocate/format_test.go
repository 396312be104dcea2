package relocate

import (
	"testing"

	"hongyan/cluster/mailbox"
	"hongyan/engine/codec/codectest"
	"hongyan/engine/index"
)

// TestFormats holds what nodes say to each other against what version 1 said; see docs/formats.md.
func TestFormats(t *testing.T) {
	codectest.Golden(t, "testdata/formats-v1.txt", []codectest.Sample{
		{Name: "keys-asked", Value: &keysRequest{Shard: 1, Account: 2, Min: 3, Part: since, Bases: []index.Base{{Mailbox: 1, ModSeq: 2, UIDNext: 3}}, Saved: 4}},
		{Name: "keys", Value: &keysFrame{State: index.Gone, To: 2, Applied: 77, Markers: []mailbox.Marker{{Volume: 7, Last: 9}}, Pairs: []index.Pair{{Key: []byte("c"), Value: []byte{1}}},
			Removes: [][]byte{[]byte("nx")}}},
	})
}
