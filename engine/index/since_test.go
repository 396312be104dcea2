package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Rows of messages that were just saved are all named, in the order of their keys, also those behind others that came with an older time.
func TestAccountRecent(t *testing.T) {
	db := openTest(t, vfs.NewMem())
	defer closeTest(t, db)
	s := db.Shard(1)
	const saved = 1000
	add := func(tx *Txn, box uint32, dates ...int64) {
		list := make([]NewMessage, len(dates))
		for i := range list {
			list[i] = NewMessage{Ref: testRef(uint64(box)*1000 + uint64(i)), Size: 1, SaveDate: dates[i], Summary: []byte("s")}
		}
		_, _, err := tx.AddMessages(1, box, list)
		must(t, err)
	}
	entry(t, s, 1, func(tx *Txn) {
		must(t, tx.EnsureAccount(1, 1))
		box, err := tx.CreateMailbox(1, "second", "", 1)
		must(t, err)
		add(tx, 1, 1, 2, saved, 3, saved+5, 4)
		add(tx, box.ID, saved)
	})
	v := s.View()
	defer func() { must(t, v.Close()) }()
	var keys [][]byte
	must(t, v.AccountRecent(1, saved, func(key, _ []byte) error { keys = append(keys, bytes.Clone(key)); return nil }))
	if !slices.IsSortedFunc(keys, bytes.Compare) {
		t.Errorf("keys are not in order: %x", keys)
	}
	var uids []uint32
	for _, key := range keys {
		if key[0] != tagMessage {
			t.Errorf("key %x", key)
		}
		uids = append(uids, binary.BigEndian.Uint32(key[len(key)-4:]))
	}
	if !slices.Equal(uids, []uint32{3, 4, 5, 6, 1}) {
		t.Errorf("UIDs %v", uids)
	}
	keys = nil
	must(t, v.AccountRecent(1, saved+6, func(key, _ []byte) error { keys = append(keys, key); return nil }))
	enough := errors.New("enough")
	if err := v.AccountRecent(1, saved, func(_, _ []byte) error { return enough }); len(keys) > 0 || !errors.Is(err, enough) {
		t.Errorf("%x, %v", keys, err)
	}
}
