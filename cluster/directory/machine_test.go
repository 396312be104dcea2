package directory

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/cluster/replica"
	"hongyan/engine/codec"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// tables is one copy of the directory, without Raft.
type tables struct {
	t     *testing.T
	store *index.Shard
	next  uint64
}

func newTables(t *testing.T) *tables {
	t.Helper()
	db, err := index.Open(vfs.NewMem(), "index", index.Options{CacheBytes: 1 << 20, MemTableBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return &tables{t: t, store: db.Shard(0), next: 1}
}

// apply executes one body; whatever it holds, the machine must have an answer that can be read.
func (d *tables) apply(body []byte) *Result {
	d.t.Helper()
	txn := d.store.Begin()
	txn.SetIndex(d.next)
	b, err := Machine{}.Apply(txn, 0, body)
	if err != nil {
		d.t.Fatal(err)
	}
	if err := txn.Commit(d.next); err != nil {
		d.t.Fatal(err)
	}
	d.next++
	r := new(Result)
	if err := codec.Unmarshal(b, r); err != nil {
		d.t.Fatal(err)
	}
	return r
}

func (d *tables) do(c Command) *Result {
	d.t.Helper()
	b, err := codec.Marshal(&c)
	if err != nil {
		d.t.Fatal(err)
	}
	return d.apply(b)
}

func (d *tables) account(address, home, password string, reset bool) *Result {
	d.t.Helper()
	return d.do(Command{AddAccount: &AddAccount{Address: address, Home: home, Password: password, Reset: reset}})
}

// founded has one shard at home in each of two regions, and a domain.
func founded(t *testing.T) *tables {
	d := newTables(t)
	d.do(Command{AddShards: &AddShards{Shards: []Shard{{Number: 1, Home: "south"}, {Number: 2, Home: "north"}, {Number: 3, Home: "south"}}}})
	d.do(Command{AddDomain: &Domain{Name: "example.test", Home: "south"}})
	return d
}

func TestAccounts(t *testing.T) {
	d := founded(t)
	if r := d.account("a@elsewhere.test", "", "x", false); r.Refused == "" {
		t.Error("an account in a domain that is not ours")
	}
	var shards []uint32
	for i := range 4 {
		r := d.account(fmt.Sprintf("u%d@example.test", i), "", "x", false)
		if !r.Created || r.Account.ID != uint64(i+1) || r.Account.Home != "south" {
			t.Fatalf("account %d: %+v", i, r)
		}
		shards = append(shards, r.Account.Shard)
	}
	if fmt.Sprint(shards) != "[1 3 1 3]" {
		t.Errorf("accounts of one region are on shards %v", shards)
	}
	if r := d.account("n@example.test", "north", "x", false); r.Account.Shard != 2 {
		t.Errorf("an account at home in the north is on shard %d", r.Account.Shard)
	}
	if r := d.account("x@example.test", "nowhere", "x", false); r.Account.Shard != 2 {
		t.Errorf("an account at home where no shard is went to shard %d, not to the emptiest", r.Account.Shard)
	}

	if r := d.account("U1@Example.test", "north", "other", false); r.Created || r.Account.Password != "x" || r.Account.ID != 2 || r.Account.Home != "south" {
		t.Errorf("an account that was there: %+v", r)
	}
	if r := d.account("u1@example.test", "", "other", true); r.Created || r.Account.Password != "other" || r.Account.ID != 2 {
		t.Errorf("a new password: %+v", r)
	}
	d.do(Command{AddDomain: &Domain{Name: "EXAMPLE.test", Home: "north"}})
	if r := d.account("late@example.test", "", "x", false); r.Account.Home != "south" {
		t.Errorf("a domain that was there moved its home: %+v", r.Account)
	}
	for _, bad := range []string{"", "a", "@example.test", "a@", "a b@example.test", strings.Repeat("a", 321) + "@example.test"} {
		if r := d.account(bad, "", "x", false); r.Refused == "" {
			t.Errorf("took %q", bad)
		}
	}
	long := strings.Repeat("x", maxPassword+1)
	if r := d.account("long@example.test", long, "x", false); r.Refused == "" {
		t.Error("took a long region")
	}
	if r := d.account("long@example.test", "", long, false); r.Refused == "" {
		t.Error("took a long hash")
	}
	for _, bad := range []Domain{{Name: "a/b"}, {Name: ""}, {Name: long}, {Name: "x.test", Home: long}} {
		if r := d.do(Command{AddDomain: &bad}); r.Refused == "" {
			t.Errorf("took the domain %.20q", bad.Name)
		}
	}
}

func TestVolumes(t *testing.T) {
	d := newTables(t)
	if r := d.do(Command{OpenVolume: &OpenVolume{Primary: "a", Copies: []string{"a"}}}); r.Refused == "" {
		t.Error("a volume with one copy")
	}
	for want := volume.ID(1); want <= 3; want++ {
		if r := d.do(Command{OpenVolume: &OpenVolume{Primary: "a", Copies: []string{"a", "b"}}}); r.Volume.ID != want || r.Volume.State != replica.Open {
			t.Fatalf("volume %d: %+v", want, r.Volume)
		}
	}
	for _, length := range []int64{4096, 9999} { // the first seal wins
		if r := d.do(Command{SealVolume: &SealVolume{ID: 1, Length: length}}); r.Volume.State != replica.Sealed || r.Volume.Length != 4096 || r.Volume.Epoch != 2 {
			t.Errorf("sealed at %d: %+v", length, r.Volume)
		}
	}
	d.do(Command{SealVolume: &SealVolume{ID: 2}})
	for _, c := range []struct {
		id volume.ID
		ok bool
	}{{1, false}, {2, true}, {2, true}, {3, false}, {4, true}} { // holds records; empty; gone; open; never was
		if r := d.do(Command{DropVolume: &DropVolume{ID: c.id}}); (r.Refused == "") != c.ok {
			t.Errorf("drop volume %d: %+v", c.id, r)
		}
	}
	if r := d.do(Command{SealVolume: &SealVolume{ID: 2}}); r.Refused == "" {
		t.Errorf("sealed a volume that was dropped: %+v", r)
	}
	if r := d.do(Command{OpenVolume: &OpenVolume{Primary: "a", Copies: []string{"a", "b"}}}); r.Volume.ID != 4 {
		t.Errorf("a number was used again: %+v", r.Volume)
	}
}

// Of the compactions that were begun only the latest can be entered, once.
func TestCompaction(t *testing.T) {
	d := newTables(t)
	d.do(Command{OpenVolume: &OpenVolume{Primary: "a", Copies: []string{"a", "b"}}})
	if r := d.do(Command{Compact: &Compact{ID: 1}}); r.Refused == "" {
		t.Error("an open volume is compacted")
	}
	d.do(Command{SealVolume: &SealVolume{ID: 1, Length: 9000}})
	for want := uint32(1); want <= 2; want++ {
		if r := d.do(Command{Compact: &Compact{ID: 1}}); r.Refused != "" || r.Volume.Attempt != want || r.Volume.Generation != 0 {
			t.Fatalf("begin %d: %+v", want, r)
		}
	}
	for _, c := range []struct {
		generation uint32
		length     int64
		ok         bool
	}{{0, 5000, false}, {1, 5000, false}, {3, 5000, false}, {2, 9001, false}, {2, -1, false}, {2, 5000, true}, {2, 4000, true}} {
		r := d.do(Command{Compacted: &Compacted{ID: 1, Generation: c.generation, Length: c.length}})
		if (r.Refused == "") != c.ok || c.ok && (r.Volume.Generation != 2 || r.Volume.Length != 5000) {
			t.Errorf("generation %d, length %d: %+v", c.generation, c.length, r)
		}
	}
	if r := d.do(Command{DropVolume: &DropVolume{ID: 1}}); r.Refused == "" {
		t.Error("dropped with records")
	}
	d.do(Command{Compact: &Compact{ID: 1}})
	if r := d.do(Command{Compacted: &Compacted{ID: 1, Generation: 3}}); r.Refused != "" || r.Volume.Length != 0 {
		t.Errorf("nothing was live: %+v", r)
	}
	if r := d.do(Command{Compact: &Compact{ID: 1}}); r.Refused == "" {
		t.Error("an empty volume is compacted")
	}
	if r := d.do(Command{DropVolume: &DropVolume{ID: 1}}); r.Refused != "" {
		t.Errorf("not dropped: %+v", r)
	}
	for _, c := range []Command{{Compact: &Compact{ID: 1}}, {Compacted: &Compacted{ID: 1, Generation: 4}}} {
		if r := d.do(c); r.Refused == "" {
			t.Errorf("a volume that is gone: %+v", r)
		}
	}
}

// What no version can execute is refused, the same on every replica, and changes nothing.
func FuzzCommand(f *testing.F) {
	for _, s := range samples() {
		b, err := codec.Marshal(s.Value)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{0xa0})
	f.Fuzz(func(t *testing.T, body []byte) {
		a, b := founded(t), founded(t)
		if x, y := a.apply(body), b.apply(body); x.Refused != y.Refused {
			t.Errorf("two replicas said %q and %q", x.Refused, y.Refused)
		}
		var saved [2]bytes.Buffer
		for i, d := range []*tables{a, b} {
			if _, err := d.store.Save(&saved[i]); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(saved[0].Bytes(), saved[1].Bytes()) {
			t.Error("two replicas differ")
		}
	})
}

// A move that somebody has worked on, whose account may be frozen, waits for none of those that were called off before anybody had.
func TestFrozenMoveComesFirst(t *testing.T) {
	d := newTables(t)
	d.do(Command{AddShards: &AddShards{Shards: []Shard{{Number: 1, Home: "south"}, {Number: 2, Home: "north"}}}})
	d.do(Command{AddDomain: &Domain{Name: "example.test", Home: "south"}})
	const accounts, limit = 9, 4
	var last uint64
	for i := range accounts {
		address := fmt.Sprintf("u%d@example.test", i)
		account := d.do(Command{AddAccount: &AddAccount{Address: address}}).Account
		d.do(Command{PlanRelocations: &PlanRelocations{Addresses: []string{address}, Shard: 2}})
		if i > 0 && i < accounts-1 {
			d.do(Command{CancelRelocations: &CancelRelocations{Addresses: []string{address}}})
		}
		last = account.ID
	}
	d.do(Command{ClaimRelocation: &ClaimRelocation{Account: last}})
	v := d.store.View()
	defer v.Close()
	for _, begin := range []bool{false, true} {
		first, err := firstRelocations(v, limit, func(uint64) bool { return false }, begin)
		if err != nil || len(first) != limit || first[0].Account != last || !first[1].Cancel || !first[limit-1].Cancel {
			t.Errorf("%+v: %v", first, err)
		}
		if first, err = firstRelocations(v, accounts, func(uint64) bool { return false }, begin); err != nil || (len(first) == accounts) != begin {
			t.Errorf("%d of %d, the one that was not begun wanted: %v: %v", len(first), accounts, begin, err)
		}
	}
}
