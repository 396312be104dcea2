package mailbox

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/codec"
	"hongyan/engine/effort"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// replica is one copy of a shard, without Raft.
type replica struct {
	machine *Machine
	store   *index.Shard
	next    uint64
}

func newReplica(t *testing.T) *replica {
	t.Helper()
	db, err := index.Open(vfs.NewMem(), "index", index.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return &replica{machine: NewMachine(func([]Event) {}), store: db.Shard(1), next: 1}
}

// apply runs bodies as one batch and returns their results.
func (r *replica) apply(t *testing.T, bodies ...[]byte) [][]byte {
	t.Helper()
	txn := r.store.Begin()
	var out [][]byte
	for _, b := range bodies {
		txn.SetIndex(r.next)
		result, err := r.machine.Apply(txn, int64(1_700_000_000+r.next), b)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, result)
		r.next++
	}
	if err := txn.Commit(r.next - 1); err != nil {
		t.Fatal(err)
	}
	r.machine.Committed()
	return out
}

func (r *replica) dump(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := r.store.Save(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// randomCommand draws from few accounts, folders and UIDs, so that commands meet.
func randomCommand(rng *rand.Rand) []byte {
	account := uint64(1 + rng.IntN(3))
	names := []string{"INBOX", "Archive", "Archive/2026", "项目", "Trash", "a/b/c", "bad//name"}
	name := func() string { return names[rng.IntN(len(names))] }
	uids := func() []byte {
		set := roaring.New()
		for range rng.IntN(4) {
			set.Add(uint32(1 + rng.IntN(12)))
		}
		b, err := EncodeUIDs(set)
		if err != nil {
			panic(err)
		}
		return b
	}
	folder := uint32(1 + rng.IntN(8))
	m := Message{
		Ref:     volume.Ref{Volume: volume.ID(1 + rng.IntN(3)), Record: rng.Uint64N(100), Length: rng.Uint64N(1 << 20)},
		Summary: []byte{1}, Date: rng.Int64N(1 << 31), System: uint8(rng.IntN(32)),
	}
	var terms []Terms
	if rng.IntN(3) == 0 {
		limits := &index.Limits{Bytes: 1 + rng.Uint64N(40<<20), Messages: rng.Uint64N(40)}
		terms = []Terms{{Limits: limits, Detail: name()}, {Detail: "archive"}}
	}
	keywords := [][]string{nil, {"$Project"}, {"$project", "other"}}
	var c Command
	switch rng.IntN(16) {
	case 0, 1, 2:
		c.Deliver = &Deliver{Accounts: []uint64{account, 1 + account%3}, Message: m, Early: rng.IntN(2) == 0, Terms: terms}
	case 3, 4:
		m.Keywords = keywords[rng.IntN(3)]
		c.Append = &Append{Account: account, Mailbox: name(), Message: m, Early: rng.IntN(2) == 0}
	case 5, 6:
		c.Store = &Store{Account: account, Mailbox: folder, UIDs: uids(), Op: uint8(rng.IntN(3)), System: uint8(rng.IntN(32)), Keywords: keywords[rng.IntN(3)]}
	case 7, 8:
		c.Copy = &Copy{Account: account, Mailbox: folder, UIDs: uids(), To: name(), Move: rng.IntN(2) == 0, Dated: rng.IntN(2) == 0}
		if terms != nil {
			c.Copy.Limits = terms[0].Limits
		}
	case 9:
		c.Expunge = &Expunge{Account: account, Mailbox: folder, UIDs: uids(), OnlyDeleted: rng.IntN(2) == 0}
	case 12:
		old := volume.Ref{Volume: volume.ID(1 + rng.IntN(3)), Record: rng.Uint64N(100)}
		c.Rebind = &Rebind{Accounts: []uint64{account, 1 + account%3}, Mailbox: name(), Old: old, Message: m, Terms: terms}
	case 13:
		c.Settle = &Settle{Volume: m.Ref.Volume, Last: 50 + rng.Uint64N(50)}
	case 14:
		two := m
		two.Ref.Record++
		c.AppendAll = &AppendAll{Account: account, Mailbox: name(), List: []Entering{{Message: m, Request: [16]byte{1, 15: byte(rng.IntN(4))}}, {Message: two, Request: [16]byte{2, 15: byte(rng.IntN(4))}}}}
	case 15:
		c.Replace = &Replace{Account: account, Mailbox: name(), Message: m, From: folder, UID: uint32(1 + rng.IntN(12))}
	case 10:
		c.Create = &Create{Account: account, Name: name()}
	default:
		switch rng.IntN(3) {
		case 0:
			c.Delete = &Delete{Account: account, Name: name()}
		case 1:
			c.Rename = &Rename{Account: account, From: name(), To: name()}
		default:
			c.Subscribe = &Subscribe{Account: account, Name: name(), On: rng.IntN(2) == 0}
		}
	}
	b, err := c.Encode()
	if err != nil {
		panic(err)
	}
	return b
}

// The same log gives the same results and, byte for byte, the same state, however Raft groups the entries into batches, and
// also on a replica that joined by a snapshot in the middle.
func TestSameLogSameBytes(t *testing.T) {
	for seed := range uint64(effort.Of(2, 20, 400)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			var log [][]byte
			for range 300 {
				log = append(log, randomCommand(rng))
			}
			log = append(log, []byte("no command at all"))
			one, grouped, late := newReplica(t), newReplica(t), newReplica(t)
			var results [][]byte
			for _, b := range log {
				results = append(results, one.apply(t, b)...)
			}
			var again [][]byte
			for rest := log; len(rest) > 0; {
				n := min(1+rng.IntN(40), len(rest))
				again = append(again, grouped.apply(t, rest[:n]...)...)
				rest = rest[n:]
				if late.next == 1 && len(again) > 100 {
					if err := late.store.Load(bytes.NewReader(grouped.dump(t))); err != nil {
						t.Fatal(err)
					}
					late.next = grouped.next
				} else if late.next > 1 {
					late.apply(t, log[late.next-1:grouped.next-1]...)
				}
			}
			for i := range results {
				if !bytes.Equal(results[i], again[i]) {
					t.Fatalf("entry %d: results differ", i+1)
				}
			}
			if !bytes.Equal(one.dump(t), grouped.dump(t)) {
				t.Fatal("states differ between groupings")
			}
			if !bytes.Equal(one.dump(t), late.dump(t)) {
				t.Fatal("the replica that joined by a snapshot differs")
			}
		})
	}
}

// A delivery that one account cannot take reaches the others.
func TestDeliveryIsPerAccount(t *testing.T) {
	r := newReplica(t)
	c := Command{Deliver: &Deliver{Accounts: []uint64{1, 2}, Message: Message{Summary: make([]byte, index.MaxSummaryBytes+1)}}}
	b, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	result, err := DecodeResult(r.apply(t, b)[0])
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Refused) != 2 || result.Refused[0].Code != Limit {
		t.Fatalf("got %+v", result)
	}
}

func FuzzCommand(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 30 {
		f.Add(randomCommand(rng))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		newReplica(t).apply(t, b)
	})
}

func FuzzDecodeUIDs(f *testing.F) {
	b, err := EncodeUIDs(roaring.BitmapOf(1, 2, 3, 70000))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		set, err := DecodeUIDs(b)
		if err != nil {
			return
		}
		again, err := EncodeUIDs(set.Clone())
		if err != nil {
			t.Fatal(err)
		}
		back, err := DecodeUIDs(again)
		if err != nil || !back.Equals(set) {
			t.Fatalf("a decoded set does not survive: %v", err)
		}
	})
}

func FuzzResult(f *testing.F) {
	b, err := codec.Marshal(&Result{Code: Limit, Message: "x", Refused: []Refusal{{Account: 1, Code: Exists}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := DecodeResult(b); err == nil && r == nil {
			t.Fatal("no result and no error")
		}
	})
}

// A result is remembered, so it must stay small whatever keywords the messages have.
func TestResultsStaySmall(t *testing.T) {
	r := newReplica(t)
	run := func(c Command) *Result {
		b, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		out := r.apply(t, b)[0]
		if len(out) > index.MaxResultBytes {
			t.Fatalf("a result of %d bytes", len(out))
		}
		result, err := DecodeResult(out)
		if err != nil || result.Code != OK {
			t.Fatalf("%+v, %v", result, err)
		}
		return result
	}
	var keywords []string
	for i := range index.MaxKeywords {
		keywords = append(keywords, fmt.Sprintf("%0*d", index.MaxKeywordBytes, i))
	}
	for range maxChanged {
		run(Command{Deliver: &Deliver{Accounts: []uint64{1}, Message: Message{Summary: []byte{1}}}})
	}
	all := roaring.New()
	all.AddRange(1, maxChanged+1)
	set, err := EncodeUIDs(all)
	if err != nil {
		t.Fatal(err)
	}
	result := run(Command{Store: &Store{Account: 1, Mailbox: 1, UIDs: set, Op: uint8(index.OpSet), Keywords: keywords}})
	changed, err := DecodeUIDs(result.UIDs)
	if err != nil || changed.GetCardinality() != maxChanged || result.Changed != nil {
		t.Fatalf("%d UIDs, %d changes, %v", changed.GetCardinality(), len(result.Changed), err)
	}
}

// Marks of folders and accounts that are not here are dropped, and keep no other from being noted.
func TestTold(t *testing.T) {
	r := newReplica(t)
	r.do(t, Command{Append: &Append{Account: 1, Mailbox: "INBOX", Message: Message{Ref: volume.Ref{Volume: 1, Record: 1}, Summary: []byte{1}}}})
	before := r.ask(t, &Query{Kind: QueryStatus, Account: 1, Name: "INBOX"})[0].Mailboxes[0]
	r.do(t, Command{Told: &Told{Marks: []Mark{{Account: 7, Mailbox: 1, Below: 2}, {Account: 1, Mailbox: 99, Below: 2}, {Account: 1, Mailbox: before.ID, Below: 2}}}})
	after := r.ask(t, &Query{Kind: QueryStatus, Account: 1, Name: "INBOX"})[0].Mailboxes[0]
	if before.Recent != 1 || after.Recent != 0 || after.HighestModSeq != before.HighestModSeq {
		t.Errorf("before %+v, after %+v", before, after)
	}
}
