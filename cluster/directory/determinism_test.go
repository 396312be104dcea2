package directory

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"hongyan/engine/codec"
	"hongyan/engine/volume"
)

// randomCommand draws from few names and numbers, so that commands meet.
func randomCommand(rng *rand.Rand) Command {
	pick := func(list ...string) string { return list[rng.IntN(len(list))] }
	switch rng.IntN(11) {
	case 7:
		return Command{AddDictionary: &AddDictionary{Dictionary: Dictionary{Number: uint32(1 + rng.IntN(7)), Bytes: []byte{byte(rng.Uint32())}, Made: 1}}}
	case 8:
		return Command{AddCopy: &AddCopy{ID: volume.ID(1 + rng.IntN(10)), Node: pick("n3", "n4"), Epoch: uint64(1 + rng.IntN(3))}}
	case 9:
		return Command{RemoveCopy: &RemoveCopy{ID: volume.ID(1 + rng.IntN(10)), Node: pick("n1", "n3"), Epoch: uint64(1 + rng.IntN(3))}}
	case 0:
		return Command{AddShards: &AddShards{Shards: []Shard{{Number: uint32(1 + rng.IntN(4)), Home: pick("south", "north")}}}}
	case 1:
		return Command{AddDomain: &Domain{Name: pick("a.test", "B.test", "bad/name"), Home: pick("south", "north", "")}}
	case 2, 3, 4:
		address := fmt.Sprintf("u%d@%s", rng.IntN(20), pick("a.test", "b.test", "c.test"))
		return Command{AddAccount: &AddAccount{Address: address, Home: pick("", "north"), Password: pick("x", "y"), Reset: rng.IntN(2) == 0}}
	case 5:
		return Command{OpenVolume: &OpenVolume{Primary: pick("n1", "n2"), Copies: []string{"n1", "n2"}, Class: uint8(rng.IntN(2))}}
	case 6:
		return Command{SealVolume: &SealVolume{ID: volume.ID(1 + rng.IntN(10)), Length: rng.Int64N(2) * 4096}}
	}
	return Command{DropVolume: &DropVolume{ID: volume.ID(1 + rng.IntN(10))}}
}

func (d *tables) save() []byte {
	d.t.Helper()
	var b bytes.Buffer
	if _, err := d.store.Save(&b); err != nil {
		d.t.Fatal(err)
	}
	return b.Bytes()
}

// applyRun executes bodies in one batch, as raft groups them, and gives the results.
func (d *tables) applyRun(bodies [][]byte) (results [][]byte) {
	d.t.Helper()
	txn := d.store.Begin()
	for _, b := range bodies {
		txn.SetIndex(d.next)
		r, err := Machine{}.Apply(txn, int64(d.next), b)
		if err != nil {
			d.t.Fatal(err)
		}
		results = append(results, r)
		d.next++
	}
	if err := txn.Commit(d.next - 1); err != nil {
		d.t.Fatal(err)
	}
	return results
}

// The same log gives the same results and, byte for byte, the same tables, however it is cut into batches, and also on a node
// that joined by a snapshot on the way.
func TestSameLogSameTables(t *testing.T) {
	for seed := range uint64(10) {
		rng := rand.New(rand.NewPCG(seed, 7))
		var log [][]byte
		for range 300 {
			c := randomCommand(rng)
			b, err := codec.Marshal(&c)
			if err != nil {
				t.Fatal(err)
			}
			log = append(log, b)
		}
		single, grouped, late := newTables(t), newTables(t), newTables(t)
		var one, many [][]byte
		for _, b := range log {
			one = append(one, single.applyRun([][]byte{b})...)
		}
		joined := false
		for done := 0; done < len(log); {
			n := min(1+rng.IntN(30), len(log)-done)
			many = append(many, grouped.applyRun(log[done:done+n])...)
			if joined {
				late.applyRun(log[done : done+n])
			} else if done+n > 100 {
				if err := late.store.Load(bytes.NewReader(grouped.save())); err != nil {
					t.Fatal(err)
				}
				joined, late.next = true, grouped.next
			}
			done += n
		}
		for i := range one {
			if !bytes.Equal(one[i], many[i]) {
				t.Fatalf("seed %d, entry %d: other results in other batches", seed, i+1)
			}
		}
		if want := single.save(); !bytes.Equal(want, grouped.save()) || !bytes.Equal(want, late.save()) {
			t.Fatalf("seed %d: the tables differ", seed)
		}
	}
}
