package mailbox

import (
	"fmt"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// do applies a command and gives its result, which the window of remembered requests must be able to hold: a result that
// it cannot hold would stop the shard on every replica.
func (r *replica) do(t *testing.T, c Command) *Result {
	t.Helper()
	body, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	b := r.apply(t, body)[0]
	if len(b) > index.MaxResultBytes {
		t.Fatalf("a result of %d bytes", len(b))
	}
	result, err := DecodeResult(b)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// Messages with as many and as long keywords as a mailbox may have: a STORE that shows them all would give four megabytes.
func TestStoreGivesASmallResult(t *testing.T) {
	r := newReplica(t)
	var keywords []string
	for i := range index.MaxKeywords {
		keywords = append(keywords, fmt.Sprintf("%03d%s", i, strings.Repeat("k", index.MaxKeywordBytes-3)))
	}
	all := roaring.New()
	for i := range maxChanged {
		m := Message{Ref: volume.Ref{Volume: 1, Record: uint64(i)}, Summary: []byte{1}, Keywords: keywords}
		result := r.do(t, Command{Append: &Append{Account: 1, Mailbox: "INBOX", Message: m}})
		all.Add(result.FirstUID)
	}
	set, err := EncodeUIDs(all.Clone())
	if err != nil {
		t.Fatal(err)
	}
	result := r.do(t, Command{Store: &Store{Account: 1, Mailbox: 1, UIDs: set, Op: uint8(index.OpAdd), System: index.FlagSeen}})
	if result.Code != OK || len(result.Changed) != 0 {
		t.Fatalf("code %d, %d changes", result.Code, len(result.Changed))
	}
	if got, err := DecodeUIDs(result.UIDs); err != nil || !got.Equals(all) {
		t.Fatalf("changed %v, %v", got, err)
	}
	few, err := EncodeUIDs(roaring.BitmapOf(1, 2))
	if err != nil {
		t.Fatal(err)
	}
	result = r.do(t, Command{Store: &Store{Account: 1, Mailbox: 1, UIDs: few, Op: uint8(index.OpAdd), System: index.FlagFlagged}})
	if len(result.Changed) != 2 || len(result.Changed[0].Flags.Keywords) != index.MaxKeywords {
		t.Fatalf("%d changes of two", len(result.Changed))
	}
}

// A delivery that a thousand accounts refuse says so to each, and still fits.
func TestManyRefusalsFit(t *testing.T) {
	r := newReplica(t)
	c := &Deliver{Message: Message{Summary: make([]byte, index.MaxSummaryBytes+1)}}
	for i := range 1000 {
		c.Accounts = append(c.Accounts, uint64(1+i))
	}
	if result := r.do(t, Command{Deliver: c}); len(result.Refused) != 1000 {
		t.Fatalf("%d refusals", len(result.Refused))
	}
}
