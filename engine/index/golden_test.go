package index

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

var update = flag.Bool("update", false, "rewrite the golden files of the formats")

// goldenShard has one of each kind of key.
func goldenShard(t *testing.T) (*DB, *Shard) {
	db := openTest(t, vfs.NewMem())
	db.sweep = 2
	s := db.Shard(0x01020304)
	messages := make([]NewMessage, 5)
	for i := range messages {
		messages[i] = NewMessage{Flags: Flags{System: FlagSeen, Keywords: []string{"$Work"}}, Date: 1700000000, Zone: 480, Ref: testRef(uint64(i)),
			Size: 1000 + uint64(i), Summary: []byte("summary"), SaveDate: 1700000001}
	}
	entry(t, s, 1000, func(tx *Txn) {
		must(t, tx.EnsureAccount(0x0a0b, 1600000000))
		_, _, err := tx.AddMessages(0x0a0b, 1, messages)
		must(t, err)
		_, _, err = tx.AddMessages(0x0a0b, 4, messages)
		must(t, err)
		must(t, tx.Remember([16]byte{0xd1}, []byte("result")))
		must(t, tx.Put([]byte("key"), []byte("value")))
	})
	entry(t, s, 1001, func(tx *Txn) {
		_, _, err := tx.SetFlags(0x0a0b, 1, roaring.BitmapOf(2), OpAdd, Flags{System: FlagFlagged, Keywords: []string{"new"}}, 0)
		must(t, err)
		_, err = tx.Expunge(0x0a0b, 1, roaring.BitmapOf(4), false)
		must(t, err)
		must(t, tx.DeleteMailbox(0x0a0b, "Junk")) // two of its five rows are swept
		_, _, err = tx.CopyMessages(0x0a0b, 1, roaring.BitmapOf(1), 6, false, 1700000002)
		must(t, err)
		must(t, tx.Annotate(0x0a0b, 1, []Annotation{{Name: "/shared/comment", Value: []byte("note")}, {User: 0x0a0b, Name: "/private/comment", Value: []byte{}}}))
		must(t, tx.Grant(0x0a0b, Grant{Mailbox: 1, User: 0x0c0d, Rights: RightLookup | RightAdminister, Address: "bo@example.org"}))
		must(t, tx.NoteSharer(0x0a0b, Sharer{Owner: 0x0c0d, Address: "bo@example.org"}))
		must(t, tx.Condemn(2, 3))
		must(t, tx.MarkEarly(6))
	})
	return db, s
}

// A fixed log gives the keys and values of the golden file: what is on disk today must be read tomorrow. A
// stream that was saved once loads to the same.
func TestGoldenFormats(t *testing.T) {
	db, s := goldenShard(t)
	defer closeTest(t, db)
	keys, stream := filepath.Join("testdata", "keys.golden"), filepath.Join("testdata", "shard.saved")
	if *update {
		var b bytes.Buffer
		_, err := s.Save(&b)
		must(t, err)
		must(t, os.WriteFile(stream, b.Bytes(), 0o644))
		must(t, os.WriteFile(keys, []byte(describe(t, s)), 0o644))
	}
	want, err := os.ReadFile(keys)
	must(t, err)
	if got := describe(t, s); got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	saved, err := os.ReadFile(stream)
	must(t, err)
	other := openTest(t, vfs.NewMem())
	defer closeTest(t, other)
	must(t, other.Shard(0x01020304).Load(bytes.NewReader(saved)))
	if got := describe(t, other.Shard(0x01020304)); got != string(want) {
		t.Errorf("loaded\n%s\nwant\n%s", got, want)
	}
}
