package index

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestRevalidateInAnyBatch gives the same state whether the folders were made in an earlier batch or in the same one: a replica that catches up applies many
// entries at once.
func TestRevalidateInAnyBatch(t *testing.T) {
	const account = 42
	found := func(tx *Txn) {
		must(t, tx.EnsureAccount(account, 1000))
		_, err := tx.CreateMailbox(account, "Work/2026", "", 1001)
		must(t, err)
	}
	renew := func(tx *Txn) { must(t, tx.Revalidate(account, 5000)) }
	db := openTest(t, vfs.NewMem())
	defer closeTest(t, db)
	apart, together := db.Shard(1), db.Shard(2)
	entry(t, apart, 1, found)
	entry(t, apart, 2, renew)
	txn := together.Begin()
	txn.SetIndex(1)
	found(txn)
	txn.SetIndex(2)
	renew(txn)
	must(t, txn.Commit(2))
	if a, b := describe(t, apart), describe(t, together); a != b || a == "" {
		t.Errorf("apart:\n%s\ntogether:\n%s", a, b)
	}
	v := together.View()
	list, err := v.Mailboxes(account)
	must(t, err)
	must(t, v.Close())
	for _, mb := range list {
		if mb.UIDValidity < 5000 {
			t.Errorf("%s has UIDVALIDITY %d", mb.Name, mb.UIDValidity)
		}
	}
}
