package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/mailbox"
	"hongyan/cluster/transport"
	"hongyan/cluster/wire"
	"hongyan/engine/codec"
	"hongyan/engine/index"
)

// methodQuery asks a node with a replica a mailbox.Query; the answer is a stream of mailbox.Frames.
const methodQuery = "mailbox.query"

// How long a replica may take to catch up before another one is asked, and how long to wait after all were.
const (
	replicaWait     = 300 * time.Millisecond
	askPause        = 10 * time.Millisecond
	longestAskPause = 200 * time.Millisecond
)

// ask answers q from the nearest replica that has applied all it must: what this door has written or seen, and with strong, all
// that anybody was told. on is called for each frame; after a failure in the middle it is called again, from the
// first frame of another answer.
func (c *Client) ask(ctx context.Context, q *mailbox.Query, strong bool, on func(f *mailbox.Frame, first bool) error) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	given := q.Shard
	for try := 0; ; try++ {
		q.Shard = c.places.of(q.Account, given)
		err := c.askShard(ctx, q, strong, on)
		var moved *index.MovedError
		if !errors.As(err, &moved) {
			return err
		}
		if err := c.follow(ctx, q.Account, given, moved, try); err != nil {
			return err
		}
	}
}

// askShard is ask at one shard. A *index.MovedError comes before the first frame.
func (c *Client) askShard(ctx context.Context, q *mailbox.Query, strong bool, on func(f *mailbox.Frame, first bool) error) error {
	if strong {
		at, err := c.readIndex(ctx, q.Shard)
		if err != nil {
			return unavailable(err)
		}
		c.reached(q.Shard, at)
	}
	last := errors.New("no replica is up")
	for pause := askPause; ; pause = min(2*pause, longestAskPause) {
		for _, node := range c.replicas(q.Shard) {
			var fatal *callerError
			q.Min = c.token(q.Shard)
			err := c.askNode(ctx, node, q, on)
			if err == nil {
				return nil
			}
			if errors.As(err, &fatal) {
				return fatal.err
			}
			last = fmt.Errorf("%s: %w", node, err)
		}
		select {
		case <-ctx.Done():
			return unavailable(fmt.Errorf("query shard %d: %w", q.Shard, last))
		case <-time.After(pause):
		}
	}
}

// readIndex is the entry that a strong read must wait for.
func (c *Client) readIndex(ctx context.Context, shard uint32) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	return c.cfg.Router.ReadIndex(ctx, shard)
}

// callerError is an answer: it is passed on, and no other replica is asked.
type callerError struct{ err error }

func (e *callerError) Error() string { return e.err.Error() }

// replicas lists the nodes to ask: this one if it has a replica, then the others by distance, then those in doubt. A replica here that
// lags while its own disk hangs, or behind a leader which this node has lost, will not catch up soon and is asked last.
func (c *Client) replicas(shard uint32) []string {
	group, _ := c.cfg.Router.Group(shard)
	nodes := slices.DeleteFunc(group.Replicas(), func(n string) bool { return n != c.self() && !c.cfg.Net.Up(n) })
	g, here := c.cfg.Host.Group(shard)
	lags := here && g.Applied() < c.token(shard) && (c.cfg.Net.InDoubt(c.self()) || c.lost(g.Leader()))
	distance := func(n string) time.Duration {
		rtt, _ := c.cfg.Net.RTT(n)
		switch {
		case n == c.self() && !lags:
			return -1
		case n == c.self() || c.cfg.Net.InDoubt(n):
			return time.Hour
		}
		return rtt
	}
	slices.SortStableFunc(nodes, func(a, b string) int { return int(distance(a) - distance(b)) })
	return nodes
}

func (c *Client) lost(leader string) bool { return leader != "" && c.cfg.Net.InDoubt(leader) }

func (c *Client) self() string { return c.cfg.Net.ID() }

func (c *Client) askNode(ctx context.Context, node string, q *mailbox.Query, on func(f *mailbox.Frame, first bool) error) error {
	first := true
	deliver := func(f *mailbox.Frame) error {
		c.reached(q.Shard, f.Applied)
		if err := refusalOf(f.Code, f.Message, f.Shard, f.At); err != nil {
			return &callerError{err}
		}
		if err := on(f, first); err != nil {
			return &callerError{err}
		}
		first = false
		return nil
	}
	if node == c.self() {
		return c.answer(ctx, q, deliver)
	}
	ctx, cancel := c.cfg.Net.Sound(ctx, node)
	defer cancel()
	s, err := c.cfg.Net.Open(ctx, node, methodQuery)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.SendValue(q); err != nil {
		return err
	}
	for {
		f := new(mailbox.Frame)
		if err := s.RecvValue(f); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := deliver(f); err != nil {
			return err
		}
	}
}

// answer runs q on this node's replica.
func (c *Client) answer(ctx context.Context, q *mailbox.Query, emit func(*mailbox.Frame) error) (err error) {
	g, ok := c.cfg.Host.Group(q.Shard)
	if !ok {
		return wire.Errorf(wire.NotFound, "this node runs no replica of shard %d", q.Shard)
	}
	wait, cancel := context.WithTimeout(ctx, replicaWait)
	defer cancel()
	if err := g.WaitApplied(wait, q.Min); err != nil {
		return err
	}
	v, err := c.readers.view(ctx, g.View, q)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	return mailbox.Answer(v, q, emit)
}

func (c *Client) serveQuery(ctx context.Context, _ string, s *transport.Stream) error {
	b, err := s.Recv()
	if err != nil {
		return err
	}
	q := new(mailbox.Query)
	if err := codec.Unmarshal(b, q); err != nil {
		return wire.Errorf(wire.Invalid, "query: %v", err)
	}
	return c.answer(ctx, q, func(f *mailbox.Frame) error { return s.SendValue(f) })
}

// one asks a query that has a single frame for an answer.
func (c *Client) one(ctx context.Context, q *mailbox.Query, strong bool) (*mailbox.Frame, error) {
	var got *mailbox.Frame
	err := c.ask(ctx, q, strong, func(f *mailbox.Frame, _ bool) error { got = f; return nil })
	if err == nil && got == nil {
		err = unavailable(errors.New("a replica gave an empty answer"))
	}
	return got, err
}

// gather asks a query whose answer is a list in any number of frames.
func gather[T any](ctx context.Context, c *Client, q *mailbox.Query, strong bool, part func(f *mailbox.Frame) []T) (all []T, err error) {
	err = c.ask(ctx, q, strong, func(f *mailbox.Frame, first bool) error {
		if first {
			all = nil
		}
		all = append(all, part(f)...)
		return nil
	})
	return all, err
}

// Mailboxes lists all folders. Strong.
func (c *Client) Mailboxes(ctx context.Context, a Account) ([]Mailbox, error) {
	q := &mailbox.Query{Shard: a.Shard, Account: a.ID, User: a.Guest, Kind: mailbox.QueryMailboxes}
	folders := func(f *mailbox.Frame) []Mailbox { return f.Mailboxes }
	list, err := gather(ctx, c, q, true, folders)
	if errors.Is(err, ErrNoMailbox) || err == nil && len(list) == 0 {
		if err := c.ensure(ctx, a); err != nil {
			return nil, err
		}
		list, err = gather(ctx, c, q, false, folders)
	}
	c.ripe(list)
	return list, err
}

// ensure gives an account that nobody has used yet its first folders.
func (c *Client) ensure(ctx context.Context, a Account) error {
	_, err := c.changeAccount(ctx, a, &mailbox.Command{Ensure: &mailbox.Ensure{Account: a.ID}})
	return err
}

// Subscriptions lists the subscribed names, also of folders that are gone (RFC 3501 section 6.3.9). Strong.
func (c *Client) Subscriptions(ctx context.Context, a Account) ([]string, error) {
	q := &mailbox.Query{Shard: a.Shard, Account: a.ID, User: a.Guest, Kind: mailbox.QuerySubscriptions}
	names := func(f *mailbox.Frame) []string { return f.Names }
	list, err := gather(ctx, c, q, true, names)
	if errors.Is(err, ErrNoMailbox) {
		if err := c.ensure(ctx, a); err != nil {
			return nil, err
		}
		list, err = gather(ctx, c, q, false, names)
	}
	return list, err
}

// named asks about a folder by name. An account that nobody has used yet gets its first folders.
func (c *Client) named(ctx context.Context, a Account, kind mailbox.QueryKind, name string) (*mailbox.Frame, error) {
	q := &mailbox.Query{Shard: a.Shard, Account: a.ID, User: a.Guest, Kind: kind, Name: name}
	f, err := c.one(ctx, q, true)
	if errors.Is(err, ErrNoMailbox) && a.Guest == 0 {
		if _, err := c.Mailboxes(ctx, a); err != nil {
			return nil, err
		}
		f, err = c.one(ctx, q, false)
	}
	if err == nil && len(f.Mailboxes) != 1 {
		err = unavailable(fmt.Errorf("a replica answered with %d folders", len(f.Mailboxes)))
	}
	if err == nil {
		c.ripe(f.Mailboxes)
	}
	return f, err
}

// Status is one folder by name. Strong.
func (c *Client) Status(ctx context.Context, a Account, name string) (Mailbox, error) {
	f, err := c.named(ctx, a, mailbox.QueryStatus, name)
	if err != nil {
		return Mailbox{}, err
	}
	return f.Mailboxes[0], nil
}

// Selected is what opening a mailbox shows.
type Selected struct {
	Mailbox Mailbox
	UIDs    *roaring.Bitmap // all messages; rank is the sequence number
	Unseen  *roaring.Bitmap // those without \Seen
	Counts  bool            // the cluster notes of which messages sessions were told: see Told
	Rights  Rights          // of who opens it
}

// Select opens a folder by name: strong, one consistent snapshot. If the folder's counts contradict its messages they are mended first, where that can be done now.
func (c *Client) Select(ctx context.Context, a Account, name string) (Selected, error) {
	f, err := c.named(ctx, a, mailbox.QuerySelect, name)
	if err != nil {
		return Selected{}, err
	}
	if m := c.mender(); f.Odd && m != nil {
		_, failed := m.Recount(ctx, a.owned(), f.Mailboxes[0].ID)
		if f, err = c.named(ctx, a, mailbox.QuerySelect, name); err != nil {
			return Selected{}, err
		}
		if f.Odd {
			c.cfg.Log.Error("folder's counts contradict its messages still", "account", a.ID, "folder", f.Mailboxes[0].ID, "err", failed)
		}
	}
	all, err := mailbox.DecodeUIDs(f.UIDs)
	if err != nil {
		return Selected{}, err
	}
	unseen, err := mailbox.DecodeUIDs(f.Unseen)
	if err != nil {
		return Selected{}, err
	}
	return Selected{Mailbox: f.Mailboxes[0], UIDs: all, Unseen: unseen, Counts: c.counts(), Rights: rightsIn(a, f)}, nil
}

// Messages calls fn for each message of uids that exists, ascending by UID. fn must not keep m. To a guest it is strong: of what was taken from him he reads nothing more, whichever
// replica is asked.
func (c *Client) Messages(ctx context.Context, a Account, folder uint32, uids *roaring.Bitmap, want Want, fn func(m *Message) error) error {
	set, err := mailbox.EncodeUIDs(uids.Clone())
	if err != nil {
		return err
	}
	q := &mailbox.Query{Shard: a.Shard, Account: a.ID, User: a.Guest, Mailbox: folder, Kind: mailbox.QueryMessages, UIDs: set, Want: uint8(want)}
	var passed uint64 // UIDs below this have been: a second replica's answer begins at the first again
	return c.ask(ctx, q, a.Guest != 0, func(f *mailbox.Frame, _ bool) error {
		for i := range f.Messages {
			m := &f.Messages[i]
			if uint64(m.UID) < passed {
				continue
			}
			if err := fn(m); err != nil {
				return err
			}
			passed = uint64(m.UID) + 1
		}
		return nil
	})
}

// Flagged is the set of messages with a system flag (an index.Flag… bit), from summaries alone. To a guest it is strong.
func (c *Client) Flagged(ctx context.Context, a Account, folder uint32, flag uint8) (*roaring.Bitmap, error) {
	f, err := c.one(ctx, &mailbox.Query{Shard: a.Shard, Account: a.ID, User: a.Guest, Mailbox: folder, Kind: mailbox.QueryFlagged, Flag: flag}, a.Guest != 0)
	if err != nil {
		return nil, err
	}
	return mailbox.DecodeUIDs(f.UIDs)
}

// Changes is what happened since a modseq: new and changed messages, vanished UIDs. Changes of flags with a modseq of but may be left out.
// ErrNoMailbox when the folder is gone. It is not strong to a guest either, who asks at each wake-up: a replica that lags tells him what had happened before his right was taken.
func (c *Client) Changes(ctx context.Context, a Account, folder uint32, since uint64, but ...uint64) (Changes, error) {
	var out Changes
	q := &mailbox.Query{Shard: a.Shard, Account: a.ID, User: a.Guest, Mailbox: folder, Kind: mailbox.QueryChanges, Since: since, But: but}
	err := c.ask(ctx, q, false, func(f *mailbox.Frame, first bool) error {
		if first {
			out = Changes{HighestModSeq: f.ModSeq, UIDNext: f.UIDNext, Vanished: roaring.New(), More: f.More}
		}
		out.Changed = append(out.Changed, f.Changed...)
		vanished, err := mailbox.DecodeUIDs(f.UIDs)
		if err == nil {
			out.Vanished.Or(vanished)
		}
		return err
	})
	return out, err
}
