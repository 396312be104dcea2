package recovery

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/cluster/directory"
	"hongyan/cluster/feature"
	"hongyan/cluster/mailbox"
	"hongyan/cluster/placement"
	"hongyan/cluster/replica"
	"hongyan/cluster/shard"
	"hongyan/cluster/transport/transporttest"
	"hongyan/engine/atrest"
	"hongyan/engine/codec"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// mailShard is the only one of a world.
const mailShard = 1

// world is the node that is left, with a directory, a mailbox shard and volumes, when both shards go on.
type world struct {
	*Recovery
	t  *testing.T
	fs vfs.FS
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, fs: vfs.NewMem()}
	net := transporttest.Nodes(t, "a")[0]
	db, err := index.Open(w.fs, "index", index.Options{CacheBytes: 1 << 20, MemTableBytes: 256 << 10})
	w.must(err)
	set, err := volume.OpenSet(w.fs, "volumes", volume.SetOptions{})
	w.must(err)
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	logs, err := shard.OpenLogs(dir, atrest.NewKey([32]byte{7}), log)
	w.must(err)
	groups := []placement.Group{{Shard: placement.DirectoryShard, Voters: []string{"a"}}, {Shard: mailShard, Voters: []string{"a"}}}
	host := shard.NewHost(net)
	router := shard.NewRouter("a", net, host, groups)
	service := directory.NewService(router, host, net, db.Shard(placement.DirectoryShard))
	topology := &directory.Topology{Version: 1, Level: feature.Newest(), Nodes: []directory.Node{{ID: "a", Region: "south", Address: "a:1", Roles: []string{"storage"}}}, Groups: groups}
	service.Known = func() *directory.Topology { return topology }
	entry := func(id volume.ID) (e replica.Entry, known bool) {
		list, err := service.Volumes(t.Context())
		w.must(err)
		i := slices.IndexFunc(list, func(e replica.Entry) bool { return e.ID == id })
		if i < 0 {
			return e, false
		}
		return list[i], true
	}
	w.Recovery = New(Config{
		Self: "a", Net: net, Router: router, Host: host, Directory: service, Topology: func() *directory.Topology { return topology },
		Entry: entry, Volumes: set, Index: db, Log: log,
		Spread: func(context.Context, volume.ID, uint64) (uint64, bool, error) {
			return 0, false, context.DeadlineExceeded
		},
	})
	w.moves = time.Millisecond
	net.Serve()
	for _, g := range groups {
		c := shard.Config{Group: g, Founds: true, Self: "a", Region: func(string) string { return "" }, Dir: filepath.Join(dir, "shard", string(rune('0'+g.Shard))),
			Logs: logs, Transport: net.RaftGroup(g.Shard), Peers: net, Store: db.Shard(g.Shard), Machine: service.Machine(), Log: log}
		if g.Shard == mailShard {
			c.Machine = mailbox.NewMachine(func([]mailbox.Event) {})
		}
		group, err := shard.Start(c)
		w.must(err)
		host.Add(group)
		group.StandAlone(t.Context())
	}
	t.Cleanup(func() {
		w.Close()
		for _, g := range host.Groups() {
			w.must(g.Stop())
		}
		for _, err := range []error{logs.Close(), set.Close(), db.Close()} {
			w.must(err)
		}
	})
	for _, c := range []*directory.Command{
		{FoundTopology: &directory.FoundTopology{Nodes: topology.Nodes, Groups: groups}},
		{AddShards: &directory.AddShards{Shards: []directory.Shard{{Number: mailShard}}}},
	} {
		w.command(c)
	}
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// propose has a shard apply a command's body, as soon as it is led.
func (w *world) propose(number uint32, id shard.RequestID, body []byte) []byte {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	result, _, err := w.cfg.Router.ProposeAs(ctx, number, id, 0, body, shard.Background)
	w.must(err)
	return result
}

func (w *world) command(c *directory.Command) {
	w.t.Helper()
	body, err := codec.Marshal(c)
	w.must(err)
	w.body(body)
}

func (w *world) body(body []byte) {
	w.t.Helper()
	r := new(directory.Result)
	w.must(codec.Unmarshal(w.propose(placement.DirectoryShard, shard.NewRequestID(), body), r))
	if r.Refused != "" {
		w.t.Fatal(r.Refused)
	}
}

// behind has the directory be one that goes on from a survivor.
func (w *world) behind() {
	w.t.Helper()
	bodies, err := directory.EncodeBehind(nil, time.Now().Unix())
	w.must(err)
	for _, body := range bodies {
		w.body(body)
	}
}

// mail is a message to account 5.
type mail struct {
	origin mailbox.Origin
	body   string
}

func (w *world) mail(delivery byte) mail {
	return mail{mailbox.Origin{Delivery: [16]byte{delivery}, Targets: []mailbox.Target{{Account: 5, Mailbox: mailbox.Inbox}}, Arrived: 1000}, "Subject: x\r\n\r\n"}
}

// put stores a message in a volume of this node.
func (w *world) put(id volume.ID, m mail) volume.Ref {
	w.t.Helper()
	v, err := w.cfg.Volumes.Get(id)
	if err != nil {
		v, err = w.cfg.Volumes.Create(volume.Header{ID: id, Epoch: 1, Primary: "a", Copies: []string{"a", "b"}}, nil, nil)
	}
	w.must(err)
	meta, err := codec.Marshal(&m.origin)
	w.must(err)
	s := volume.NewSpool(w.fs, "", 1<<10)
	_, err = s.Write([]byte(m.body))
	w.must(err)
	b, err := s.Finish()
	w.must(err)
	ref, _, err := v.Append(w.t.Context(), volume.KindMessage, meta, b)
	w.must(err)
	w.must(b.Close())
	return ref
}

// deliver enters a message early.
func (w *world) deliver(m mail, ref volume.Ref) {
	w.t.Helper()
	c := &mailbox.Command{Deliver: &mailbox.Deliver{Accounts: []uint64{5}, Message: mailbox.Message{Ref: ref, Summary: []byte{1}}, Early: true}}
	body, err := c.Encode()
	w.must(err)
	w.propose(mailShard, shard.RequestID(mailbox.Request(m.origin.Delivery, mailShard)), body)
}

// holders are what the shard refers to, and marked the volumes that it has markers of.
func (w *world) holders() (refs []volume.Ref, marked []volume.ID) {
	w.t.Helper()
	v := w.cfg.Index.Shard(mailShard).View()
	w.must(v.Holders(func(h index.Holder) error {
		refs = append(refs, volume.Ref{Volume: h.Volume, Record: h.Record})
		return nil
	}))
	early, err := v.EarlyVolumes()
	w.must(err)
	for _, e := range early {
		marked = append(marked, e.Volume)
	}
	w.must(v.Close())
	return refs, marked
}

// notes are the shards with one.
func (w *world) notes() (shards []uint32) {
	w.t.Helper()
	list, err := w.cfg.Directory.RecoveryNotes()
	w.must(err)
	for _, n := range list {
		shards = append(shards, n.Shard)
	}
	return shards
}

// TestUnknownVolumes: the directory went on from a survivor that had not heard of two volumes of which the shard has entries. One is found, and settled when it is sealed; nobody
// has the other one, and what the shard has of it stays. Until that is certain nothing is settled.
func TestUnknownVolumes(t *testing.T) {
	w := newWorld(t)
	w.behind()
	found := w.put(7, w.mail(1))
	w.deliver(w.mail(1), found)
	w.deliver(w.mail(2), volume.Ref{Volume: 8, Record: 3, Length: 5})
	step := func(job *Job) {
		t.Helper()
		w.must(w.noteMail(t.Context(), job))
		w.must(w.enterVolumes(t.Context(), job))
		w.must(w.endUnknown(t.Context(), job))
	}
	job := &Job{Notes: "b does not answer. "}
	step(job)
	if _, marked := w.holders(); !slices.Equal(w.notes(), []uint32{placement.DirectoryShard}) || !slices.Equal(marked, []volume.ID{7}) {
		t.Errorf("with a node that does not answer: notes of %v, markers of %v", w.notes(), marked)
	}
	if !slices.Equal(job.nowhere, []volume.ID{8}) {
		t.Errorf("nobody who answers has %v", job.nowhere)
	}
	job = new(Job)
	step(job)
	refs, marked := w.holders()
	if _, known := w.cfg.Entry(7); !known || job.Entered != 0 || len(job.Shards) > 0 {
		t.Errorf("%+v", job)
	}
	if len(refs) != 2 || !slices.Equal(marked, []volume.ID{7}) || len(w.notes()) > 0 {
		t.Errorf("entries %v, markers of %v, notes of %v", refs, marked, w.notes())
	}
}

// note has the mail of the shard be looked for.
func (w *world) note(held bool) {
	w.t.Helper()
	n := directory.RecoveryNote{Shard: mailShard, Until: 2000}
	if held {
		n.Hold = time.Now().Add(time.Hour).Unix()
	}
	w.must(w.cfg.Directory.NoteRecoveries(w.t.Context(), []directory.RecoveryNote{n}))
}

// look has step 5 look for the mail of account 5.
func (w *world) look(job *Job, noted bool) *ShardResult {
	w.t.Helper()
	list, err := w.cfg.Directory.RecoveryNotes()
	w.must(err)
	job.Shards = []ShardResult{{ShardPlan: ShardPlan{Shard: mailShard}, noted: noted}}
	s := &job.Shards[0]
	for _, n := range list {
		if n.Shard == mailShard {
			s.note = n
		}
	}
	w.must(w.lookForMail(w.t.Context(), job, s, []uint64{5}))
	return s
}

// open opens volumes 1 and 2.
func (w *world) open() {
	w.t.Helper()
	for range 2 {
		w.command(&directory.Command{OpenVolume: &directory.OpenVolume{Primary: "a", Copies: []string{"a", "b"}}})
	}
}

// seal has volume 1 end behind its second record.
func (w *world) seal() {
	w.t.Helper()
	w.command(&directory.Command{SealVolume: &directory.SealVolume{ID: 1, Length: 5000, Last: 2}})
}

// inVain enters a message at a record of volume 1, and puts it in volume 2.
func (w *world) inVain(delivery byte, record uint64) {
	w.t.Helper()
	ref := w.put(2, w.mail(delivery))
	ref.Volume, ref.Record = 1, record
	w.deliver(w.mail(delivery), ref)
}

// expect checks what came of a look, and what the shard refers to then.
func (w *world) expect(what string, s *ShardResult, entered, expunged, open int, refs ...volume.Ref) {
	w.t.Helper()
	got, _ := w.holders()
	if s.Entered != entered || s.Expunged != expunged || len(s.Open) != open || !slices.Equal(got, refs) {
		w.t.Errorf("%s: %d entered, %d expunged, open %+v; entries %v", what, s.Entered, s.Expunged, s.Open, got)
	}
}

// held says whether the shard keeps what it entered in vain.
func (w *world) held() bool {
	w.t.Helper()
	list, err := w.cfg.Directory.RecoveryNotes()
	w.must(err)
	return slices.ContainsFunc(list, func(n directory.RecoveryNote) bool { return n.Shard == mailShard && n.SurelyHeld(time.Now().Unix()) })
}

// TestPutAgain: a message was entered early, its bytes were put again, and the survivor has not heard of that. What it entered in vain gets the bytes' new place, once.
func TestPutAgain(t *testing.T) {
	w := newWorld(t)
	w.open()
	w.seal()
	w.inVain(1, 3)
	for _, entered := range []int{1, 0} {
		w.note(true)
		w.expect("in vain", w.look(new(Job), true), entered, 0, 0, volume.Ref{Volume: 2, Record: 1})
	}
	// The same bytes twice more, and once more than that in vain: none is lost, and none is there twice.
	w.inVain(2, 4)
	w.inVain(3, 5)
	w.note(true)
	w.expect("twice", w.look(new(Job), true), 2, 0, 0, volume.Ref{Volume: 2, Record: 1}, volume.Ref{Volume: 2, Record: 2}, volume.Ref{Volume: 2, Record: 3})
	vain := volume.Ref{Volume: 1, Record: 6}
	old := w.put(3, w.mail(4))
	old.Volume, old.Record = vain.Volume, vain.Record
	w.deliver(w.mail(4), old)
	w.must(w.cfg.Volumes.Remove(3))
	w.note(true)
	w.expect("of which nothing was put again", w.look(new(Job), true), 0, 0, 0, vain, volume.Ref{Volume: 2, Record: 1}, volume.Ref{Volume: 2, Record: 2}, volume.Ref{Volume: 2, Record: 3})
}

// rot damages the bytes of what was put last in a volume.
func (w *world) rot(id volume.ID) {
	w.t.Helper()
	names, err := w.fs.List("volumes")
	w.must(err)
	for _, name := range names {
		if !strings.Contains(name, id.String()) {
			continue
		}
		f, err := w.fs.OpenReadWrite(w.fs.PathJoin("volumes", name), vfs.WriteCategoryUnspecified)
		w.must(err)
		info, err := f.Stat()
		w.must(err)
		whole := make([]byte, info.Size())
		_, err = f.ReadAt(whole, 0)
		w.must(err)
		if at := bytes.LastIndex(whole, []byte("Subject: x")); at >= 0 {
			_, err = f.WriteAt([]byte("s"), int64(at))
			w.must(err)
		}
		w.must(f.Close())
	}
}

// TestPutAgainUnreadable: an entry may need a message whose bytes cannot be read at the moment: it was not expunged.
func TestPutAgainUnreadable(t *testing.T) {
	w := newWorld(t)
	w.open()
	w.seal()
	w.inVain(1, 3)
	w.rot(2)
	w.note(true)
	w.expect("rotten", w.look(new(Job), true), 0, 0, 1, volume.Ref{Volume: 1, Record: 3})
	if len(w.notes()) == 0 {
		t.Error("the note went")
	}
}

// TestPutAgainFromUnknown: the directory does not know the volume of an entry, and nobody has it.
func TestPutAgainFromUnknown(t *testing.T) {
	w := newWorld(t)
	w.behind()
	w.inVain(1, 3)
	w.note(true)
	job := new(Job)
	w.must(w.noteMail(t.Context(), job))
	w.must(w.enterVolumes(t.Context(), job))
	w.must(w.endUnknown(t.Context(), job))
	w.expect("unknown", w.look(job, true), 1, 0, 0, volume.Ref{Volume: 2, Record: 1})
}

// TestPutAgainUnsealed: an entry's volume is sealed only after the first look. Until the message was looked for again the note stays, and so does the entry.
func TestPutAgainUnsealed(t *testing.T) {
	w := newWorld(t)
	w.open()
	w.inVain(1, 3)
	w.note(true)
	w.expect("open", w.look(new(Job), true), 0, 0, 1, volume.Ref{Volume: 1, Record: 3})
	if !w.held() {
		t.Error("the entry is not kept")
	}
	w.seal()
	w.expect("sealed", w.look(new(Job), true), 1, 0, 0, volume.Ref{Volume: 2, Record: 1})
	if len(w.notes()) > 0 {
		t.Errorf("notes of %v", w.notes())
	}
}

// TestHoldIsOver: what was entered in vain may have been removed, so what is in no folder was not certainly expunged. A look ends the hold.
func TestHoldIsOver(t *testing.T) {
	w := newWorld(t)
	w.open()
	w.seal()
	w.inVain(1, 3)
	c := &mailbox.Command{Settle: &mailbox.Settle{Volume: 1, Last: 2}}
	body, err := c.Encode()
	w.must(err)
	w.propose(mailShard, shard.NewRequestID(), body)
	w.note(true)
	w.expect("held", w.look(&Job{Notes: "b does not answer. "}, true), 0, 1, 0)
	if w.held() || len(w.notes()) != 1 {
		t.Errorf("after a look: notes of %v, held %v", w.notes(), w.held())
	}
	w.note(true)
	w.expect("over", w.look(new(Job), true), 0, 0, 1)
}

// TestSettled: what an operator has seen to are messages that an earlier job listed, not those of a shard that this one recovered.
func TestSettled(t *testing.T) {
	w := newWorld(t)
	w.command(&directory.Command{OpenVolume: &directory.OpenVolume{Primary: "a", Copies: []string{"a", "b"}}})
	w.put(1, w.mail(1))
	w.note(true)
	for _, noted := range []bool{true, false} {
		s := w.look(&Job{settled: true}, noted)
		if kept := len(w.notes()) > 0; len(s.Open) != 1 || kept != noted {
			t.Errorf("noted by this job %v: the note is kept: %v; %+v", noted, kept, s)
		}
	}
}
