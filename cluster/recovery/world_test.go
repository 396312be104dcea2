package recovery

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
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
	})
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
	v, err := w.cfg.Volumes.Create(volume.Header{ID: id, Epoch: 1, Primary: "a", Copies: []string{"a", "b"}}, nil, nil)
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
	if _, marked := w.holders(); !slices.Equal(w.notes(), []uint32{placement.DirectoryShard}) || len(marked) != 2 {
		t.Errorf("with a node that does not answer: notes of %v, markers of %v", w.notes(), marked)
	}
	job = new(Job)
	step(job)
	refs, marked := w.holders()
	if _, known := w.cfg.Entry(7); !known || job.Entered != 0 || len(job.Shards) > 0 || !slices.Equal(job.nowhere, []volume.ID{8}) {
		t.Errorf("%+v", job)
	}
	if len(refs) != 2 || !slices.Equal(marked, []volume.ID{7}) || len(w.notes()) > 0 {
		t.Errorf("entries %v, markers of %v, notes of %v", refs, marked, w.notes())
	}
}

// look has step 5 look for the mail of account 5.
func (w *world) look(job *Job, noted bool) *ShardResult {
	w.t.Helper()
	note := directory.RecoveryNote{Shard: mailShard, Until: 2000}
	w.must(w.cfg.Directory.NoteRecoveries(w.t.Context(), []directory.RecoveryNote{note}))
	s := &ShardResult{ShardPlan: ShardPlan{Shard: mailShard}, note: note, noted: noted}
	w.must(w.lookForMail(w.t.Context(), job, s, []uint64{5}))
	return s
}

// TestPutAgain: a message was entered early, its bytes were put again, and the survivor has not heard of that. What it entered in vain gets the bytes' new place, once.
func TestPutAgain(t *testing.T) {
	w := newWorld(t)
	for range 2 {
		w.command(&directory.Command{OpenVolume: &directory.OpenVolume{Primary: "a", Copies: []string{"a", "b"}}})
	}
	at := w.put(2, w.mail(1))
	old := at
	old.Volume, old.Record = 1, 3
	w.deliver(w.mail(1), old)
	w.command(&directory.Command{SealVolume: &directory.SealVolume{ID: 1, Length: 5000, Last: 2}})
	for _, entered := range []int{1, 0} {
		s := w.look(new(Job), true)
		refs, _ := w.holders()
		if s.Entered != entered || s.Expunged > 0 || len(s.Open) > 0 || !slices.Equal(refs, []volume.Ref{{Volume: 2, Record: 1}}) {
			t.Errorf("%+v; entries %v", s, refs)
		}
	}
}

// TestSettled: what an operator has seen to are messages that an earlier job listed, not those of a shard that this one recovered.
func TestSettled(t *testing.T) {
	w := newWorld(t)
	w.command(&directory.Command{OpenVolume: &directory.OpenVolume{Primary: "a", Copies: []string{"a", "b"}}})
	w.put(1, w.mail(1))
	for _, noted := range []bool{true, false} {
		s := w.look(&Job{settled: true}, noted)
		if kept := len(w.notes()) > 0; len(s.Open) != 1 || kept != noted {
			t.Errorf("noted by this job %v: the note is kept: %v; %+v", noted, kept, s)
		}
	}
}
