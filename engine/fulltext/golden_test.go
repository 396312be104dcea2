package fulltext

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

var update = flag.Bool("update", false, "write the golden file")

// TestGolden holds the keys and values of a small index against what format 2 wrote. Where they differ, an index of before cannot be used: raise format, and
// begin another file.
func TestGolden(t *testing.T) {
	db := openIn(t, vfs.NewMem())
	long := strings.Repeat("0123456789", 20)
	first := NewBatch(box, validity, 0)
	for i, text := range []string{"Subject: Größe", "中文 test " + long, "one more"} {
		first.Begin(3 + uint32(i))
		first.Text([]byte(text))
	}
	if err := db.Commit(first, 5); err != nil {
		t.Fatal(err)
	}
	for i := range uint32(8) {
		db.index(t, 6+i, []string{"test"})
	}
	db.tend(t, upTo(13))
	b := NewBatch(box, validity, 13)
	b.Begin(14)
	b.Partial()
	if err := db.Commit(b, 20); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	fmt.Fprintf(&out, "format %d\n", format)
	ids := 0
	err := db.use(func(p *pebble.DB) error {
		it, err := p.NewIter(nil)
		if err != nil {
			return err
		}
		last := ""
		for ok := it.First(); ok; ok = it.Next() {
			key := string(it.Key())
			if len(key) >= segmentLen && key[mailboxLen] == tagSegment {
				if id := key[mailboxLen+1 : segmentLen]; id != last { // the time of day is in it
					last = id
					ids++
				}
				key = fmt.Sprintf("%s<segment %d>%s", key[:mailboxLen+1], ids, key[segmentLen:])
			}
			value := fmt.Sprintf("%q", it.Value())
			if strings.HasSuffix(key, string(rune(tagEntry))) {
				e, err := decodeEntry(it.Value())
				if err != nil {
					return err
				}
				for i := range e.Segments {
					e.Segments[i].ID = uint64(i) + 1
				}
				value = fmt.Sprintf("%+v", *e)
			}
			fmt.Fprintf(&out, "%q\n    %s\n", key, value)
		}
		return it.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
	const file = "testdata/index-2.golden"
	if *update {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("the index is written as\n%s, and was as\n%s", out.String(), want)
	}
}
