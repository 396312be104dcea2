package client

import (
	"context"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/cluster/mailbox"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// ended is what is known of volumes that were sealed behind a record.
type ended uint64

func (e ended) Spread(context.Context, volume.ID, uint64) (uint64, bool, error) {
	return uint64(e), true, nil
}

// TestLostOfOthers: a replica starts with an entry in vain, which stays for a while. Accounts that have none are answered.
func TestLostOfOthers(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	db, err := index.Open(vfs.NewMem(), "index", index.Options{CacheBytes: 1 << 20, MemTableBytes: 256 << 10})
	must(err)
	defer func() { must(db.Close()) }()
	store := db.Shard(testShard)
	for account, record := range map[uint64]uint64{5: 9, 6: 4} {
		c := &mailbox.Command{Deliver: &mailbox.Deliver{Accounts: []uint64{account}, Message: mailbox.Message{Ref: volume.Ref{Volume: 7, Record: record, Length: 9}, Summary: []byte{1}}, Early: true}}
		body, err := c.Encode()
		must(err)
		txn := store.Begin()
		txn.SetIndex(record)
		_, err = mailbox.NewMachine(func([]mailbox.Event) {}).Apply(txn, 1, body)
		must(err)
		must(txn.Commit(record))
	}
	r := newReaders(ended(5))
	e, err := mailbox.NewMachine(func([]mailbox.Event) {}).Track(store)
	must(err)
	r.early[testShard] = e
	for account, shown := range map[uint64]bool{5: false, 6: true} {
		ctx, cancel := context.WithCancel(t.Context())
		if !shown {
			cancel()
		}
		v, err := r.view(ctx, store.View, &mailbox.Query{Shard: testShard, Account: account})
		cancel()
		if (err == nil) != shown {
			t.Errorf("account %d: %v", account, err)
		}
		if err == nil {
			must(v.Close())
		}
	}
}
