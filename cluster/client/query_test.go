package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/directory"
	"hongyan/cluster/mailbox"
	"hongyan/cluster/placement"
	"hongyan/cluster/shard"
	"hongyan/cluster/transport"
	"hongyan/cluster/transport/transporttest"
	"hongyan/cluster/wire"
	"hongyan/engine/codec"
	"hongyan/engine/index"
)

// replicas stand for the nodes that have a shard's state: each query that reaches one of them gets the next of answers.
type replicas struct {
	mu      sync.Mutex
	queries []mailbox.Query
	answers []func(*mailbox.Query, *transport.Stream) error // the last one stays
	at      uint64                                          // the read index, and the entry of each command
	result  mailbox.Result                                  // of each command
}

func (r *replicas) propose(context.Context, string, *shard.ProposeRequest) (*shard.ProposeResponse, error) {
	b, err := codec.Marshal(&r.result)
	return &shard.ProposeResponse{Index: r.at, Result: b}, err
}

func (r *replicas) readIndex(context.Context, string, *shard.ReadIndexRequest) (*shard.ReadIndexResponse, error) {
	return &shard.ReadIndexResponse{Index: r.at}, nil
}

func (r *replicas) serve(_ context.Context, _ string, s *transport.Stream) error {
	b, err := s.Recv()
	if err != nil {
		return err
	}
	var q mailbox.Query
	if err := codec.Unmarshal(b, &q); err != nil {
		return err
	}
	r.mu.Lock()
	r.queries = append(r.queries, q)
	answer := r.answers[0]
	if len(r.answers) > 1 {
		r.answers = r.answers[1:]
	}
	r.mu.Unlock()
	return answer(&q, s)
}

// frames answers with frames, and then with an error if there is one.
func frames(err error, list ...mailbox.Frame) func(*mailbox.Query, *transport.Stream) error {
	return func(_ *mailbox.Query, s *transport.Stream) error {
		for i := range list {
			if err := s.SendValue(&list[i]); err != nil {
				return err
			}
		}
		return err
	}
}

const testShard = 1

// doorTo is the door of a node without storage, before two voters and a learner.
func doorTo(t *testing.T, answers ...func(*mailbox.Query, *transport.Stream) error) (*Client, *replicas) {
	t.Helper()
	r := &replicas{answers: answers}
	nets := transporttest.Nodes(t, "door", "v1", "v2", "l1")
	for _, n := range nets[1:] {
		n.Handle(methodQuery, r.serve)
		transport.HandleUnary(n, shard.MethodReadIndex, r.readIndex)
		transport.HandleUnary(n, shard.MethodPropose, r.propose)
	}
	groups := []placement.Group{{}, {Shard: testShard, Voters: []string{"v1", "v2"}, Learners: []string{"l1"}}}
	host := shard.NewHost(nets[0])
	router := shard.NewRouter("door", nets[0], host, groups)
	c := New(Config{
		Net: nets[0], Host: host, Router: router, Directory: directory.NewService(router, host, nets[0], nil), Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	for _, n := range nets {
		n.Serve()
	}
	for _, n := range nets[1:] {
		for !nets[0].Up(n.ID()) {
			if t.Context().Err() != nil {
				t.Fatal("no connection")
			}
			time.Sleep(time.Millisecond)
		}
	}
	return c, r
}

var account = Account{ID: 7, Address: "u@example.test", Shard: testShard}

func list(uids ...uint32) (out []index.Message) {
	for _, uid := range uids {
		out = append(out, index.Message{UID: uid})
	}
	return out
}

// A replica fails in the middle of a message list; the next one begins at the first again, and the caller sees each once.
func TestMessagesAcrossAFailure(t *testing.T) {
	failure := wire.Errorf(wire.Unavailable, "the node goes down")
	c, r := doorTo(t,
		frames(failure, mailbox.Frame{Messages: list(1, 2), Applied: 5}, mailbox.Frame{Messages: list(3)}),
		frames(failure),
		frames(nil, mailbox.Frame{Messages: list(1, 2, 3, 4)}, mailbox.Frame{Messages: list(9)}),
	)
	var got []uint32
	err := c.Messages(t.Context(), account, 1, roaring.BitmapOf(1, 2, 3, 4, 9), index.WantFlags, func(m *Message) error {
		got = append(got, m.UID)
		return nil
	})
	if err != nil || !slices.Equal(got, []uint32{1, 2, 3, 4, 9}) {
		t.Errorf("%v, %v", got, err)
	}
	if r.queries[0].Min != 0 || r.queries[1].Min != 5 || r.queries[2].Min != 5 {
		t.Errorf("replicas were asked for entries %d, %d, %d", r.queries[0].Min, r.queries[1].Min, r.queries[2].Min)
	}
}

// An answer in many frames that breaks off is not mixed with the next replica's.
func TestListsAcrossAFailure(t *testing.T) {
	failure := wire.Errorf(wire.Unavailable, "the node goes down")
	change := func(uid uint32) index.FlagChange { return index.FlagChange{UID: uid} }
	gone, err := mailbox.EncodeUIDs(roaring.BitmapOf(3))
	if err != nil {
		t.Fatal(err)
	}
	c, _ := doorTo(t,
		frames(failure, mailbox.Frame{Changed: []index.FlagChange{change(1)}, ModSeq: 8, UIDs: gone}),
		frames(nil, mailbox.Frame{Changed: []index.FlagChange{change(1)}, ModSeq: 9, UIDNext: 4, UIDs: gone}, mailbox.Frame{Changed: []index.FlagChange{change(2)}, ModSeq: 9, UIDNext: 4}),
		frames(nil, mailbox.Frame{}),
	)
	got, err := c.Changes(t.Context(), account, 1, 0)
	if err != nil || len(got.Changed) != 2 || got.HighestModSeq != 9 || got.UIDNext != 4 || !got.Vanished.Equals(roaring.BitmapOf(3)) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := c.Changes(t.Context(), account, 1, 9); err != nil || got.Vanished == nil {
		t.Errorf("nothing happened: %+v, %v", got, err)
	}
}

// What a caller has seen is not taken back by a replica that lags: the door asks for no less, whoever answers.
func TestReadsAreMonotonic(t *testing.T) {
	c, r := doorTo(t, frames(nil, mailbox.Frame{Applied: 100}), frames(nil, mailbox.Frame{Applied: 120}))
	for range 3 {
		if _, err := c.Flagged(t.Context(), account, 1, index.FlagSeen); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range []uint64{0, 100, 120} {
		if r.queries[i].Min != want {
			t.Errorf("query %d asked for entry %d, want %d", i+1, r.queries[i].Min, want)
		}
	}
}

// What a guest reads is no older than his question, since a right may have been taken from him that the nearest replica does not know of yet. The owner need not wait for that, nor what tells of
// changes.
func TestGuestsReadFresh(t *testing.T) {
	guest := account
	guest.Guest = 8
	messages := func(c *Client, a Account) error {
		return c.Messages(t.Context(), a, 1, roaring.BitmapOf(1), index.WantFlags, func(*Message) error { return nil })
	}
	flagged := func(c *Client, a Account) error {
		_, err := c.Flagged(t.Context(), a, 1, index.FlagSeen)
		return err
	}
	changes := func(c *Client, a Account) error {
		_, err := c.Changes(t.Context(), a, 1, 0)
		return err
	}
	for _, step := range []struct {
		name string
		ask  func(*Client, Account) error
		of   Account
		min  uint64
	}{
		{"messages", messages, account, 0}, {"messages", messages, guest, 50}, {"flagged", flagged, account, 0}, {"flagged", flagged, guest, 50}, {"changes", changes, guest, 0},
	} {
		c, r := doorTo(t, frames(nil, mailbox.Frame{}))
		r.at = 50
		if err := step.ask(c, step.of); err != nil || len(r.queries) != 1 || r.queries[0].Min != step.min {
			t.Errorf("%s, on behalf of %d: %+v, %v; want an answer that has entry %d", step.name, step.of.Guest, r.queries, err, step.min)
		}
	}
}

// A result that is too small for the flags of all messages does not say the modseq of its change, and what is read later may be of others' changes: it is the entry's number, or unknown.
func TestStoredAndReadLater(t *testing.T) {
	many, err := mailbox.EncodeUIDs(roaring.BitmapOf(1, 2))
	if err != nil {
		t.Fatal(err)
	}
	c, r := doorTo(t, nil)
	r.at = 50
	for _, step := range []struct {
		name   string
		result mailbox.Result
		read   []uint64
		own    []uint64
	}{
		{"in the result", mailbox.Result{Changed: []index.FlagChange{{UID: 1, ModSeq: 70}}}, nil, []uint64{70}},
		{"untouched", mailbox.Result{UIDs: many}, []uint64{50, 50}, []uint64{50}},
		{"one changed again", mailbox.Result{UIDs: many}, []uint64{60, 50}, []uint64{50}},
		{"all changed again", mailbox.Result{UIDs: many}, []uint64{60, 60}, nil},
		{"removed", mailbox.Result{UIDs: many}, nil, nil},
		{"nothing to do", mailbox.Result{}, nil, nil},
	} {
		var frame mailbox.Frame
		want := len(step.result.Changed)
		for i, m := range step.read {
			frame.Messages = append(frame.Messages, index.Message{UID: uint32(i + 1), ModSeq: m})
			want++
		}
		r.result, r.answers = step.result, []func(*mailbox.Query, *transport.Stream) error{frames(nil, frame)}
		got, err := c.StoreFlags(t.Context(), account, 1, roaring.BitmapOf(1, 2), index.OpAdd, Flags{System: index.FlagSeen}, 0)
		if err != nil || len(got.Changed) != want || !slices.Equal(got.Own, step.own) {
			t.Errorf("%s: %+v, %v; want %v for its own", step.name, got, err, step.own)
		}
	}
}

// A refusal is an answer: nobody else is asked. A caller's own error is given back as it is.
func TestFinalAnswers(t *testing.T) {
	c, r := doorTo(t, frames(nil, mailbox.Frame{Code: mailbox.NoMailbox, Message: "gone", Applied: 3}), frames(nil, mailbox.Frame{Messages: list(1)}))
	if _, err := c.Changes(t.Context(), account, 1, 0); !errors.Is(err, ErrNoMailbox) {
		t.Errorf("got %v", err)
	}
	mine := errors.New("the client went away")
	err := c.Messages(t.Context(), account, 1, roaring.BitmapOf(1), index.WantFlags, func(*Message) error { return mine })
	if !errors.Is(err, mine) || len(r.queries) != 2 {
		t.Errorf("%v after %d queries", err, len(r.queries))
	}
}

// Answers that lack what they should have are failures of the replica, not of this node.
func TestPartialAnswers(t *testing.T) {
	c, _ := doorTo(t, frames(nil))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := c.Flagged(ctx, account, 1, index.FlagSeen); !errors.Is(err, ErrUnavailable) {
		t.Errorf("no frame at all: %v", err)
	}
}

// Every replica serves reads, learners too.
func TestReplicasToAsk(t *testing.T) {
	c, _ := doorTo(t, frames(nil))
	got := c.replicas(testShard)
	slices.Sort(got)
	if fmt.Sprint(got) != "[l1 v1 v2]" {
		t.Errorf("%v", got)
	}
	if got := c.replicas(99); len(got) != 0 {
		t.Errorf("of a shard that is not there: %v", got)
	}
}

// A large set goes in runs, each UID once; an error ends it.
func TestBatches(t *testing.T) {
	set := roaring.New()
	set.AddRange(1, 251)
	set.AddRange(1<<20, 1<<20+50)
	for _, n := range []int{1, 7, 100, 300, 1000} {
		all, runs := roaring.New(), 0
		err := batches(set, n, func(b []byte) error {
			part, err := mailbox.DecodeUIDs(b)
			if err != nil {
				return err
			}
			if int(part.GetCardinality()) > n || part.Intersects(all) {
				t.Errorf("a run of %d, or a UID twice", part.GetCardinality())
			}
			all.Or(part)
			runs++
			return nil
		})
		if err != nil || !all.Equals(set) || runs != (300+n-1)/n {
			t.Errorf("runs of %d: %d, %d UIDs, %v", n, runs, all.GetCardinality(), err)
		}
	}
	calls := 0
	if err := batches(set, 100, func([]byte) error { calls++; return io.ErrUnexpectedEOF }); !errors.Is(err, io.ErrUnexpectedEOF) || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
	if err := batches(roaring.New(), 10, func([]byte) error { return errors.New("called for nothing") }); err != nil {
		t.Error(err)
	}
}
