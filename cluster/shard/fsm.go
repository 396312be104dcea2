package shard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"hongyan/engine/index"
)

// Machine is the logic of one kind of shard. Its methods are called by one goroutine.
type Machine interface {
	// Apply executes a command's body inside t. It must be deterministic: no clock but now, no
	// randomness, no map order. A command that is refused gives a result that says so; an
	// error means that the store failed. A result of more than index.MaxResultBytes is lost.
	Apply(t *index.Txn, now int64, body []byte) (result []byte, err error)
	// Committed is called after a batch has become visible, Reloaded after a snapshot replaced everything.
	Committed()
	Reloaded()
}

// Replacer is a Machine that keeps something in memory beside its state. A snapshot that arrives replaces the state between the two calls;
// what is read meanwhile may be of before or after.
type Replacer interface {
	Replacing()
	Replaced() error
}

// outcome is what a proposal's future carries.
type outcome struct {
	index  uint64
	result []byte
	err    error
}

// errPassedOver answers a proposal whose entry the store holds already: who asks again gets the remembered result.
var errPassedOver = errors.New("the entry was applied before")

// fsm feeds committed entries to the Machine, one index batch for each Raft batch, or a few. The state is on
// disk (in the index, without a log of its own): entries that it already holds are passed over, and a
// restart replays those that a crash took from it.
type fsm struct {
	store   *index.Shard
	machine Machine
	snaps   *snapshotStore
	log     *slog.Logger
	spread  func(index uint64) // told of each batch's last entry

	applied atomic.Uint64 // last entry in the store
	stopped chan struct{} // closed when broken is set

	mu     sync.Mutex    // guards the rest
	moved  chan struct{} // closed and replaced when applied moves
	broken error         // the store failed: nothing is applied any more
	late   error         // why the last snapshot that arrived was not installed
}

var _ raft.BatchingFSM = (*fsm)(nil)

func newFSM(store *index.Shard, m Machine, snaps *snapshotStore, log *slog.Logger) (*fsm, error) {
	f := &fsm{
		store: store, machine: m, snaps: snaps, log: log, spread: func(uint64) {},
		stopped: make(chan struct{}), moved: make(chan struct{}),
	}
	a, err := store.Applied()
	if err != nil {
		return nil, fmt.Errorf("read the applied index: %w", err)
	}
	// The log begins behind the snapshot. To apply it to a state that ends before would make this replica differ for good.
	if least := snaps.listed().Applied; a < least {
		return nil, fmt.Errorf("the index holds entries up to %d, but entry %d was flushed: this is not the index that belongs to the log", a, least)
	}
	f.applied.Store(a)
	return f, nil
}

// Apply is required by raft.FSM; with ApplyBatch present raft uses it for nothing else.
func (f *fsm) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// ErrStore is why a state machine stopped whose part of the index took no entry any more. Others stop at an entry that this program does not know.
var ErrStore = errors.New("the index takes no entries any more")

// maxBatch is the size of a batch at which it is committed, also in the middle of what raft gives at once. A single COPY may
// write 64 MiB, and raft gives 128 entries at once to a replica that catches up.
const maxBatch = 32 << 20

// ApplyBatch applies a run of committed entries, in one atomic batch unless that would get large.
func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	out := make([]any, 0, len(logs))
	for len(out) < len(logs) {
		out = f.applySome(logs[len(out):], out)
	}
	return out
}

// applySome applies the first of logs in one batch and appends their outcomes to out.
func (f *fsm) applySome(logs []*raft.Log, out []any) []any {
	if err := f.failure(); err != nil {
		return fill(out, len(logs), err)
	}
	txn := f.store.Begin()
	before, begun := f.applied.Load(), len(out)
	last := before
	for _, l := range logs {
		if l.Index <= last {
			out = append(out, outcome{index: l.Index, err: errPassedOver})
			continue
		}
		o := outcome{index: l.Index}
		if l.Type == raft.LogCommand {
			o.result, o.err = f.one(txn, l)
		}
		if o.err != nil {
			txn.Discard()
			return fill(out[:begun], len(logs), f.fail(o.err))
		}
		out = append(out, o)
		if last = l.Index; txn.Size() >= maxBatch {
			break
		}
	}
	if last == before {
		txn.Discard()
		return out
	}
	if err := txn.Commit(last); err != nil {
		txn.Discard() // else who waits for the store's next transaction waits for ever
		return fill(out[:begun], len(logs), f.fail(fmt.Errorf("%w: %w", ErrStore, err)))
	}
	f.advance(last)
	f.machine.Committed()
	f.spread(last)
	return out
}

// fill appends n failures.
func fill(out []any, n int, err error) []any {
	for range n {
		out = append(out, outcome{err: err})
	}
	return out
}

// one applies an entry, or recalls the result when its request was applied before.
func (f *fsm) one(txn *index.Txn, l *raft.Log) ([]byte, error) {
	txn.SetIndex(l.Index)
	c, err := DecodeCommand(l.Data)
	if err != nil {
		return nil, err // a version that this node cannot execute: it must stop, or replicas would differ
	}
	if result, ok, err := txn.Recall(c.ID); err != nil || ok {
		return result, err
	}
	result, err := f.execute(txn, &c)
	if err != nil {
		return nil, err
	}
	remembered := result
	if len(result) > index.MaxResultBytes {
		remembered = nil // a retry then learns only that the command was applied; halting every replica would be worse
	}
	return result, txn.Remember(c.ID, remembered)
}

// execute gives the machine what a command holds.
func (f *fsm) execute(txn *index.Txn, c *Command) ([]byte, error) {
	if c.Bodies == nil {
		return f.machine.Apply(txn, c.Now, c.Body)
	}
	results := make([][]byte, len(c.Bodies))
	for i, body := range c.Bodies {
		var err error
		if results[i], err = f.machine.Apply(txn, c.Now, body); err != nil {
			return nil, err
		}
	}
	return encodeList(results), nil
}

func (f *fsm) advance(to uint64) {
	f.applied.Store(to)
	f.mu.Lock()
	close(f.moved)
	f.moved = make(chan struct{})
	f.mu.Unlock()
}

// fail stops the machine for good and wakes all waiters.
func (f *fsm) fail(err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken == nil {
		f.broken = err
		close(f.stopped)
		f.log.Error("stops applying entries: look at this node's disk, then restart it", "err", err)
		close(f.moved)
		f.moved = make(chan struct{})
	}
	return f.broken
}

func (f *fsm) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.broken
}

// wait returns once index is applied.
func (f *fsm) wait(ctx context.Context, index uint64) error {
	for {
		f.mu.Lock()
		moved, broken := f.moved, f.broken
		f.mu.Unlock()
		switch {
		case broken != nil:
			return broken
		case f.applied.Load() >= index:
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Snapshot notes how far the state is; the state itself stays where it is.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	if err := f.failure(); err != nil {
		return nil, err
	}
	return &flushedSnapshot{store: f.store, index: f.applied.Load(), log: f.log}, nil
}

// Restore replaces the state by a snapshot that another replica sent. When that fails, raft's leader sends another.
func (f *fsm) Restore(r io.ReadCloser) error {
	err := f.install(r)
	if err := errors.Join(err, r.Close()); err != nil {
		err = fmt.Errorf("install a snapshot: %w", err)
		f.log.Warn("behind the others and not able to catch up", "err", err)
		f.setLate(err)
		return err
	}
	f.setLate(nil)
	return nil
}

// install is step 2 of a snapshot's way, and has the snapshot store do the others. A state that is newer than what
// arrived stays: a leader that has applied less than this replica may have sent it.
func (f *fsm) install(r io.Reader) error {
	if err := f.failure(); err != nil {
		return err
	}
	before := f.applied.Load()
	at, whole, err := index.SavedAt(r)
	if err != nil {
		return err
	}
	if at <= before {
		if err := f.store.FlushTo(before); err != nil {
			return err
		}
		return f.snaps.installed(before)
	}
	if err := f.replace(whole); err != nil {
		if now, errNow := f.store.Applied(); errNow != nil || now != before {
			return f.fail(fmt.Errorf("%w: %w", ErrStore, errors.Join(err, errNow)))
		}
		return err
	}
	f.advance(at)
	f.machine.Reloaded()
	if err := f.snaps.installed(at); err != nil {
		return err
	}
	f.log.Info("caught up by a snapshot", "from", before, "to", at)
	return nil
}

func (f *fsm) replace(whole io.Reader) error {
	r, ok := f.machine.(Replacer)
	if !ok {
		return f.store.Load(whole)
	}
	r.Replacing()
	err := f.store.Load(whole)
	if errAfter := r.Replaced(); errAfter != nil {
		return f.fail(errors.Join(err, errAfter))
	}
	return err
}

func (f *fsm) setLate(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.late = err
}

// hitch is why this replica is behind the others and cannot catch up for now, or nil.
func (f *fsm) hitch() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.late
}

// flushedSnapshot is a promise that the state up to index is durable: all that Raft needs
// before it drops the log up to there.
type flushedSnapshot struct {
	store *index.Shard
	index uint64
	log   *slog.Logger
}

func (s *flushedSnapshot) Persist(sink raft.SnapshotSink) error {
	if err := s.store.FlushTo(s.index); err != nil {
		return errors.Join(fmt.Errorf("flush the index up to %d: %w", s.index, err), sink.Cancel())
	}
	local, ok := sink.(*snapshotSink)
	if !ok {
		return errors.Join(fmt.Errorf("snapshot sink is a %T", sink), sink.Cancel())
	}
	local.local, local.record.Applied = true, s.index
	if err := sink.Close(); err != nil {
		return err
	}
	s.log.Info("snapshot written", "index", s.index)
	return nil
}

func (s *flushedSnapshot) Release() {}
