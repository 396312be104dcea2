package rebuild

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/cluster/checkpoint"
	"hongyan/cluster/directory"
	"hongyan/cluster/mailbox"
	"hongyan/cluster/placement"
	"hongyan/cluster/replica"
	"hongyan/engine/codec"
	"hongyan/engine/cold"
	"hongyan/engine/effort"
	"hongyan/engine/index"
	"hongyan/engine/message"
	"hongyan/engine/volume"
)

const mailShards = 2

// world is a cluster without a network: volumes, a directory and mailbox shards.
type world struct {
	t        *testing.T
	rng      *rand.Rand
	fs       vfs.FS
	set      *volume.Set
	open     []*volume.Volume
	live     *index.DB
	expected *index.DB         // what a rebuild must give; nil before the checkpoint
	next     map[uint32]uint64 // log entries
	entries  uint64            // that were expected since
	moved    map[uint64]uint32 // the shards of accounts that moved
	most     int               // recipients of a delivery
	now      int64
	accounts []directory.Account
	serial   int
	stores   []*cold.Store // one of each fragment of frozen volumes
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 7)), fs: vfs.NewMem(), next: make(map[uint32]uint64), moved: make(map[uint64]uint32), most: 3, now: 1_700_000_000}
	must(t, w.fs.MkdirAll("/tmp", 0o700))
	w.live = w.db("/live")
	var err error
	w.set, err = volume.OpenSet(w.fs, "/volumes", volume.SetOptions{})
	must(t, err)
	t.Cleanup(func() { must(t, w.set.Close()) })
	for i := range volume.ID(3) {
		w.volume(i + 1)
	}
	shards := &directory.AddShards{}
	for i := range uint32(mailShards) {
		shards.Shards = append(shards.Shards, directory.Shard{Number: i + 1, Home: "south"})
	}
	w.directory(&directory.Command{AddShards: shards})
	w.directory(&directory.Command{AddDomain: &directory.Domain{Name: "a.test", Home: "south"}})
	for i := range 4 {
		w.account(i)
	}
	return w
}

func (w *world) db(dir string) *index.DB {
	db, err := index.Open(w.fs, dir, index.Options{CacheBytes: 1 << 20, MemTableBytes: 256 << 10})
	must(w.t, err)
	w.t.Cleanup(func() { must(w.t, db.Close()) })
	return db
}

func (w *world) volume(id volume.ID) {
	v, err := w.set.Create(volume.Header{ID: id, Epoch: 1, Primary: "n1", Copies: []string{"n1", "n2"}, Salt: w.rng.Uint64()}, nil, nil)
	must(w.t, err)
	w.open = append(w.open, v)
}

func (w *world) directory(c *directory.Command) *directory.Result {
	body, err := codec.Marshal(c)
	must(w.t, err)
	w.next[0]++
	txn := w.live.Shard(0).Begin()
	txn.SetIndex(w.next[0])
	b, err := directory.Machine{}.Apply(txn, w.now, body)
	must(w.t, err)
	must(w.t, txn.Commit(w.next[0]))
	r := new(directory.Result)
	must(w.t, codec.Unmarshal(b, r))
	if r.Refused != "" {
		w.t.Fatal(r.Refused)
	}
	return r
}

func (w *world) account(i int) {
	r := w.directory(&directory.Command{AddAccount: &directory.AddAccount{Address: fmt.Sprintf("u%d@a.test", i), Password: "hash"}})
	w.accounts = append(w.accounts, *r.Account)
}

// put stores a message, or a part of a checkpoint, in some volume.
func (w *world) put(kind volume.Kind, meta any, body []byte) volume.Ref {
	b, err := codec.Marshal(meta)
	must(w.t, err)
	spool := volume.NewSpool(w.fs, "/tmp", 1<<20)
	_, err = spool.Write(body)
	must(w.t, err)
	blob, err := spool.Finish()
	must(w.t, err)
	ref, _, err := w.open[w.rng.IntN(len(w.open))].Append(context.Background(), kind, b, blob)
	must(w.t, errors.Join(err, blob.Close()))
	return ref
}

// apply executes a command as the shard's replica does, remembering its request.
func (w *world) apply(db *index.DB, at uint64, shard uint32, id [16]byte, c *mailbox.Command) *mailbox.Result {
	body, err := c.Encode()
	must(w.t, err)
	txn := db.Shard(shard).Begin()
	txn.SetIndex(at)
	b, err := mailbox.NewMachine(func([]mailbox.Event) {}).Apply(txn, w.now, body)
	must(w.t, err)
	must(w.t, txn.Remember(id, b))
	must(w.t, txn.Commit(at))
	r, err := mailbox.DecodeResult(b)
	must(w.t, err)
	return r
}

// command goes to the live shard, and to the expected one if it enters a message.
func (w *world) command(shard uint32, id [16]byte, c *mailbox.Command, enters bool) {
	w.next[shard]++
	r := w.apply(w.live, w.next[shard], shard, id, c)
	if enters {
		w.expect(shard, id, c)
	}
	if r.Code != mailbox.OK && r.Code != mailbox.Exists && r.Code != mailbox.NoMailbox && r.Code != mailbox.HasChildren && r.Code != mailbox.Invalid {
		w.t.Fatalf("%+v: %s", c, r.Message)
	}
}

// expect enters a message where a rebuild is to.
func (w *world) expect(shard uint32, id [16]byte, c *mailbox.Command) {
	if w.expected != nil {
		w.entries++
		w.apply(w.expected, 1<<20+w.entries, shard, id, c)
	}
}

// shard is where an account is now.
func (w *world) shard(a directory.Account) uint32 { return cmp.Or(w.moved[a.ID], a.Shard) }

func (w *world) randomID() (id [16]byte) {
	for i := range id {
		id[i] = byte(w.rng.Uint32())
	}
	return id
}

func (w *world) some() directory.Account { return w.accounts[w.rng.IntN(len(w.accounts))] }

// deliver has a message go to some accounts' INBOX, or to a folder of one.
func (w *world) deliver() {
	var to []directory.Account
	for range 1 + w.rng.IntN(w.most) {
		to = append(to, w.some())
	}
	if w.rng.IntN(4) > 0 {
		w.deliverTo(to...)
		return
	}
	w.bring(&mailbox.Origin{Zone: 480, System: index.FlagSeen, Keywords: []string{"$Mine"}}, []string{"Sent", "Work/2026"}[w.rng.IntN(2)], w.some()) // an APPEND
}

func (w *world) deliverTo(to ...directory.Account) { w.bring(&mailbox.Origin{}, "INBOX", to...) }

// bring stores a message, sometimes twice as a slow volume makes a frontend do, and enters it.
func (w *world) bring(o *mailbox.Origin, folder string, to ...directory.Account) {
	w.serial++
	w.now++
	body := []byte(fmt.Sprintf("From: a@remote.test\r\nSubject: message %d\r\n\r\n%s\r\n", w.serial, strings.Repeat("x", w.rng.IntN(2000))))
	scanner := message.NewScanner()
	_, err := scanner.Write(body)
	must(w.t, err)
	summary, err := scanner.Finish().Encode()
	must(w.t, err)
	o.Delivery, o.From, o.Date, o.Arrived = w.randomID(), "a@remote.test", w.now-5, w.now
	shards, expected := map[uint32][]uint64{}, map[uint32][]uint64{}
	for _, a := range w.accounts {
		if slices.ContainsFunc(to, func(t directory.Account) bool { return t.ID == a.ID }) {
			o.Targets = append(o.Targets, mailbox.Target{Account: a.ID, Mailbox: folder})
			shards[w.shard(a)] = append(shards[w.shard(a)], a.ID)
			expected[a.Shard] = append(expected[a.Shard], a.ID)
		}
	}
	ref := w.put(volume.KindMessage, o, body)
	if w.rng.IntN(5) == 0 {
		w.put(volume.KindMessage, o, body)
	}
	m := mailbox.Message{Ref: ref, Summary: summary, Date: o.Date, Zone: o.Zone, System: o.System, Keywords: o.Keywords}
	enter := func(shards map[uint32][]uint64, do func(shard uint32, id [16]byte, c *mailbox.Command)) {
		for _, shard := range slices.Sorted(maps.Keys(shards)) {
			ids := shards[shard]
			c := &mailbox.Command{Deliver: &mailbox.Deliver{Accounts: ids, Message: m}}
			if folder != "INBOX" {
				do(shard, w.randomID(), &mailbox.Command{Create: &mailbox.Create{Account: ids[0], Name: folder}})
				c = &mailbox.Command{Append: &mailbox.Append{Account: ids[0], Mailbox: folder, Message: m}}
			}
			do(shard, mailbox.Request(o.Delivery, shard), c)
		}
	}
	enter(shards, func(shard uint32, id [16]byte, c *mailbox.Command) { w.command(shard, id, c, false) })
	enter(expected, w.expect)
}

// change does what no record tells of.
func (w *world) change() {
	a := w.some()
	v := w.live.Shard(a.Shard).View()
	boxes, err := v.Mailboxes(a.ID)
	if len(boxes) == 0 {
		must(w.t, v.Close())
		return
	}
	must(w.t, err)
	box := boxes[w.rng.IntN(len(boxes))]
	uids, err := v.UIDs(a.ID, box.ID)
	must(w.t, errors.Join(err, v.Close()))
	picked := roaring.New()
	for _, uid := range uids.ToArray() {
		if w.rng.IntN(3) == 0 {
			picked.Add(uid)
		}
	}
	set, err := mailbox.EncodeUIDs(picked)
	must(w.t, err)
	list := []mailbox.Command{
		{Store: &mailbox.Store{Account: a.ID, Mailbox: box.ID, UIDs: set, Op: uint8(index.OpAdd), System: index.FlagFlagged, Keywords: []string{"$Work"}}},
		{Copy: &mailbox.Copy{Account: a.ID, Mailbox: box.ID, UIDs: set, To: "Archive", Move: true}},
		{Copy: &mailbox.Copy{Account: a.ID, Mailbox: box.ID, UIDs: set, To: "Trash"}},
		{Expunge: &mailbox.Expunge{Account: a.ID, Mailbox: box.ID, UIDs: set}},
		{Rename: &mailbox.Rename{Account: a.ID, From: "Work", To: fmt.Sprintf("Old/%d", w.serial)}},
		{Delete: &mailbox.Delete{Account: a.ID, Name: "Work/2026"}},
		{Subscribe: &mailbox.Subscribe{Account: a.ID, Name: "Lists", On: true}},
	}
	list = append(list, w.shared(a, box, set)...)
	w.command(a.Shard, w.randomID(), &list[w.rng.IntN(len(list))], false)
}

// checkpoint saves all shards in parts, and remembers what they were.
func (w *world) checkpoint() {
	w.now++
	w.expected = w.db(fmt.Sprintf("/expected-%d", w.serial))
	for shard := range uint32(mailShards + 1) {
		must(w.t, w.expected.Shard(shard).Load(strings.NewReader(w.save(shard))))
	}
	w.compare(w.live) // as a replica does that is made from another one's state
}

// save saves a shard in parts.
func (w *world) save(shard uint32) string {
	var state strings.Builder
	applied, err := w.live.Shard(shard).Save(&state)
	must(w.t, err)
	m := checkpoint.Meta{ID: w.randomID(), Shard: shard, Applied: applied, Taken: w.now}
	for rest := state.String(); rest != ""; m.Part++ {
		n := min(len(rest), 1500)
		m.Last = n == len(rest)
		w.put(volume.KindCheckpoint, &m, []byte(rest[:n]))
		rest = rest[n:]
	}
	return state.String()
}

// volumes gives all volumes as a stopped node has them.
func (w *world) volumes() *Volumes {
	vs := &Volumes{}
	for _, id := range w.set.List() {
		v, err := volume.Open(w.fs, "/volumes/"+id.String()+".vol", volume.Options{ReadOnly: true})
		must(w.t, err)
		w.t.Cleanup(func() { must(w.t, v.Close()) })
		vs.Add(v)
	}
	for _, g := range cold.Gather(w.stores) {
		v, err := g.Open(w.t.Context())
		must(w.t, err)
		vs.AddCold(v, g.Layout.Length, &replica.Cold{Data: g.Layout.Data, Parity: g.Layout.Parity, Seed: g.Layout.Seed, Nodes: strings.Fields("a b c d e f")})
	}
	return vs
}

func (w *world) rebuild(dir string, o Options) (*index.DB, *Report) {
	w.t.Helper()
	if o.Groups == nil {
		for i := range uint32(mailShards + 1) {
			o.Groups = append(o.Groups, placement.Group{Shard: i})
		}
	}
	o.Now, o.Say = w.now, w.t.Logf
	vs := w.volumes()
	survey, err := Look(vs)
	must(w.t, err)
	db := w.db(dir)
	report, err := Run(vs, survey, db, o)
	must(w.t, err)
	return db, report
}

// contents are an account's folders with everything that a client sees, but for UIDVALIDITY and modseqs. Which of two
// records with the same bytes a message refers to does not matter.
func (w *world) contents(db *index.DB, a directory.Account) map[string][]string {
	out := make(map[string][]string)
	v := db.Shard(a.Shard).View()
	defer func() { must(w.t, v.Close()) }()
	boxes, err := v.Mailboxes(a.ID)
	if errors.Is(err, index.ErrNoAccount) {
		return out
	}
	must(w.t, err)
	for _, b := range boxes {
		lines := []string{fmt.Sprint(b.ID, b.UIDNext, b.Messages, b.Unseen, b.Deleted, b.Size, b.SpecialUse, b.Subscribed, b.NoSelect, " told ", b.Told, b.Recent)}
		lines = append(lines, w.notes(v, a.ID, b.ID)...)
		if !b.NoSelect {
			must(w.t, v.Messages(a.ID, b.ID, nil, index.WantFlags|index.WantImmutable|index.WantSummary, func(m *index.Message) error {
				lines = append(lines, fmt.Sprintf("uid %d flags %v date %d %d size %d saved %d %d bytes %x summary %x", m.UID, m.Flags, m.Date, m.Zone, m.Size,
					m.SaveDate, m.Saved(), m.Ref.Hash[:4], sha256.Sum256(m.Summary)))
				return nil
			}))
		}
		out[b.Name] = lines
	}
	subscribed, err := v.Subscriptions(a.ID)
	must(w.t, err)
	out["subscriptions"] = subscribed
	out["account"] = append(w.notes(v, a.ID, 0), w.usage(v, a.ID))
	return out
}

func (w *world) compare(got *index.DB) {
	w.t.Helper()
	for _, a := range w.accounts {
		if want, have := w.contents(w.expected, a), w.contents(got, a); !reflect.DeepEqual(want, have) {
			for name := range want {
				if !reflect.DeepEqual(want[name], have[name]) {
					w.t.Errorf("%s %s:\nwant %.600s\ngot  %.600s", a.Address, name, strings.Join(want[name], "\n"), strings.Join(have[name], "\n"))
				}
			}
			w.t.Errorf("%s has %d folders, want %d", a.Address, len(have), len(want))
		}
	}
}

// TestRebuild holds what comes back against the state at the checkpoint with every later message entered where it went, for many
// random histories.
func TestRebuild(t *testing.T) {
	for seed := range uint64(effort.Of(3, 25, 500)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t, seed)
			steps := func(n int, what func(i int)) {
				for i := range n {
					what(i)
				}
			}
			mixed := func(int) {
				switch w.rng.IntN(8) {
				case 0:
					w.several()
				case 1:
					w.replace()
				case 2, 3, 4:
					w.deliver()
				default:
					w.change()
				}
			}
			steps(60, mixed)
			w.checkpoint()
			steps(40, mixed)
			w.checkpoint()
			w.volume(9) // the directory's checkpoint does not know it
			steps(30, func(int) { w.deliver(); w.several(); w.replace() })
			got, report := w.rebuild("/rebuilt", Options{DropMissing: true})
			w.compare(got)
			if report.Accounts != len(w.accounts) || report.Strangers != 0 || report.Volumes != len(w.open) {
				t.Errorf("%+v", report)
			}
			for _, s := range report.Shards {
				if s.Missing+s.Refused+s.Unreadable > 0 || s.Applied <= w.next[s.Shard] {
					t.Errorf("%+v", s)
				}
			}
		})
	}
}

// rehouse puts what shards refer to in a volume into others, as package rehouse does, and removes the volume.
func (w *world) rehouse(from volume.ID) (entries int) {
	old, err := w.set.Get(from)
	must(w.t, err)
	w.open = slices.DeleteFunc(w.open, func(v *volume.Volume) bool { return v == old })
	for shard := uint32(1); shard <= mailShards; shard++ {
		var holders []index.Holder
		v := w.live.Shard(shard).View()
		must(w.t, v.HoldersOf(from, func(h index.Holder) error { holders = append(holders, h); return nil }))
		put := make(map[uint64]volume.Ref)
		for _, h := range holders {
			must(w.t, v.Messages(h.Account, h.Mailbox, roaring.BitmapOf(h.UID), index.WantImmutable|index.WantSummary, func(m *index.Message) error {
				if _, ok := put[h.Record]; !ok {
					put[h.Record] = w.again(old, m.Ref)
				}
				w.command(shard, w.randomID(), &mailbox.Command{Amend: &mailbox.Amend{Account: h.Account, Mailbox: h.Mailbox, Entry: index.Amendment{
					UID: h.UID, Seen: m.Ref, Ref: put[h.Record], Size: m.Size, Date: m.Date, Zone: m.Zone, Summary: m.Summary,
				}}}, false)
				entries++
				return nil
			}))
		}
		must(w.t, v.Close())
	}
	must(w.t, w.set.Remove(from))
	return entries
}

// again puts a record's message once more, in another volume.
func (w *world) again(v *volume.Volume, ref volume.Ref) volume.Ref {
	info, err := v.Get(ref.Record)
	must(w.t, err)
	o := new(mailbox.Origin)
	must(w.t, codec.Unmarshal(info.Meta, o))
	o.Before = append(o.Before, mailbox.Former{Volume: ref.Volume, Record: ref.Record})
	r, err := v.OpenRef(ref, 0, ref.Length)
	must(w.t, err)
	body, err := io.ReadAll(r)
	must(w.t, errors.Join(err, r.Close()))
	return w.put(volume.KindMessage, o, body)
}

// Messages that were put under another policy after the last checkpoint, also twice, and whose former volumes are gone, come back as the checkpoint has them.
func TestRehoused(t *testing.T) {
	for seed := range uint64(5) {
		w := newWorld(t, seed)
		for range 60 {
			w.deliver()
			w.change()
		}
		first := w.open[0]
		w.open = w.open[1:] // parts of checkpoints are not put again
		w.checkpoint()
		w.open = append(w.open, first)
		for range 10 {
			w.deliver()
		}
		w.volume(9)
		kept := w.open[:len(w.open)-2]
		w.open = w.open[len(w.open)-2:] // the first and the new one
		n := w.rehouse(first.Header().ID)
		w.volume(10)
		n += w.rehouse(9)
		w.open = append(w.open, kept...)
		got, report := w.rebuild(fmt.Sprint("/rebuilt-", seed), Options{DropMissing: true})
		w.compare(got)
		moved := uint64(0)
		for _, s := range report.Shards {
			if moved += s.Rehoused; s.Missing+s.Refused+s.Unreadable > 0 {
				t.Errorf("%+v", s)
			}
		}
		if n == 0 || moved == 0 {
			t.Errorf("seed %d: %d entries were put elsewhere, %d were found there", seed, n, moved)
		}
	}
}
