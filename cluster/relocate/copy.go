package relocate

import (
	"bytes"
	"context"
	"time"

	"hongyan/cluster/mailbox"
	"hongyan/cluster/shard"
	"hongyan/engine/index"
)

// What one command imports at most. A log entry may have 256 KiB, and a key's value 64 KiB.
const (
	importKeys  = 1024
	importBytes = 128 << 10
)

// justSaved is how long after it was saved a message's row may still change without a modseq: far longer than a delivery may take, and clocks differ.
const justSaved = 5 * time.Minute

// copied is what the new shard has of an account.
type copied struct {
	keys    int           // of the account
	changes int           // that the last round imported
	applied uint64        // entry of the old shard's log that it stands at
	at      uint64        // entry of the new shard's log with the last import
	bases   []index.Base  // mailboxes as of applied
	markers []index.Early // of the old shard
}

func (c *copied) small() bool { return c.keys <= smallKeys }

// compareAll reads everything in both shards and imports what differs. The old shard's replica has applied minFrom.
func (r *Relocator) compareAll(ctx context.Context, m *move, minFrom, minTo uint64, class shard.Class) (copied, error) {
	return r.compare(ctx, m, keysRequest{Part: all}, minFrom, copied{at: minTo}, class)
}

// update imports what has changed since done. Rows that may have changed without a trace are compared last.
func (r *Relocator) update(ctx context.Context, m *move, minFrom uint64, done copied, class shard.Class) (copied, error) {
	next, err := r.compare(ctx, m, keysRequest{Part: small}, max(minFrom, done.applied), done, class)
	if err != nil {
		return next, err
	}
	rows, err := r.open(ctx, keysRequest{Shard: m.From, Account: m.Account, Min: next.applied, Part: since, Bases: done.bases}) // not of an earlier state than next.bases
	if err != nil {
		return next, err
	}
	defer rows.close()
	b := r.batch(ctx, m, &next, class)
	for more := true; more; {
		for _, p := range rows.frame.Pairs {
			if err := b.put(p); err != nil {
				return next, err
			}
		}
		for _, key := range rows.frame.Removes {
			if err := b.remove(key); err != nil {
				return next, err
			}
		}
		if more, err = rows.advance(); err != nil {
			return next, err
		}
	}
	if err := b.flush(); err != nil {
		return next, err
	}
	rest, err := r.compare(ctx, m, keysRequest{Part: fresh, Saved: r.cfg.Clock.Now().Add(-justSaved).Unix()}, next.applied, next, class)
	next.at, next.changes = rest.at, next.changes+b.all+rest.changes
	return next, err
}

// compare reads a part in both shards, the new one with what was imported last, and imports what differs.
func (r *Relocator) compare(ctx context.Context, m *move, which keysRequest, minFrom uint64, done copied, class shard.Class) (copied, error) {
	next := copied{at: done.at, keys: done.keys}
	which.Account, which.Shard, which.Min = m.Account, m.From, minFrom
	from, err := r.open(ctx, which)
	if err != nil {
		return next, err
	}
	defer from.close()
	which.Shard, which.Min = m.To, done.at
	to, err := r.open(ctx, which)
	if err != nil {
		return next, err
	}
	defer to.close()
	next.applied, next.markers = from.first.Applied, from.first.Markers
	b := r.batch(ctx, m, &next, class)
	b.keeps = which.Part == fresh // from which row on these are fresh may differ; of one that is gone there is a trace
	read, err := merge(from, to, b, func(p index.Pair) error {
		base, ok, err := index.BaseOf(p)
		if ok && err == nil {
			next.bases = append(next.bases, base)
		}
		return err
	})
	if err != nil {
		return next, err
	}
	if which.Part == all {
		next.keys = read
	}
	err = b.flush()
	next.changes = b.all
	return next, err
}

// batch makes one whose imports are noted in done.
func (r *Relocator) batch(ctx context.Context, m *move, done *copied, class shard.Class) *batch {
	b := &batch{Import: mailbox.Import{Account: m.Account, Fence: m.Fence}}
	sent := false
	b.send = func(c *mailbox.Import, size int) error {
		if class == shard.Background {
			if err := r.rate.WaitN(ctx, size); err != nil {
				return err
			}
		}
		if sent {
			m.with.leave() // the others have less to copy
		}
		sent = true
		_, at, err := r.propose(ctx, m.To, m, &mailbox.Command{Import: c}, class)
		done.at = max(done.at, at)
		return err
	}
	return b
}

// merge gives b what has to change in to, and seen all that from has; it counts these.
func merge(from, to *keys, b *batch, seen func(index.Pair) error) (read int, err error) {
	want, more, err := from.pair()
	if err != nil {
		return 0, err
	}
	have, there, err := to.pair()
	if err != nil {
		return 0, err
	}
	for more || there {
		order := 0
		switch {
		case !there:
			order = -1
		case !more:
			order = 1
		default:
			order = bytes.Compare(want.Key, have.Key)
		}
		switch {
		case order > 0 && b.keeps:
		case order > 0:
			err = b.remove(have.Key)
		case order < 0 || !bytes.Equal(want.Value, have.Value):
			err = b.put(want)
		}
		if err == nil && order <= 0 {
			read++
			if err = seen(want); err == nil {
				want, more, err = from.pair()
			}
		}
		if err == nil && order >= 0 {
			have, there, err = to.pair()
		}
		if err != nil {
			return read, err
		}
	}
	return read, nil
}

// batch gathers changes for one command after the other.
type batch struct {
	mailbox.Import
	keeps bool // nothing is removed
	bytes int
	all   int // changes
	send  func(c *mailbox.Import, size int) error
}

func (b *batch) put(p index.Pair) error {
	b.Puts = append(b.Puts, p)
	return b.added(len(p.Key) + len(p.Value))
}

func (b *batch) remove(key []byte) error {
	b.Removes = append(b.Removes, key)
	return b.added(len(key))
}

func (b *batch) added(n int) error {
	b.all++
	if b.bytes += n; b.bytes < importBytes && len(b.Puts)+len(b.Removes) < importKeys {
		return nil
	}
	return b.flush()
}

func (b *batch) flush() error {
	if len(b.Puts)+len(b.Removes) == 0 {
		return nil
	}
	err := b.send(&b.Import, b.bytes)
	b.Puts, b.Removes, b.bytes = nil, nil, 0
	return err
}
