package relocate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"hongyan/cluster/directory"
	"hongyan/cluster/mailbox"
	"hongyan/cluster/pause"
	"hongyan/cluster/shard"
	"hongyan/engine/index"
)

// move takes the steps 2 to 8 of an account's move; the numbers are those of the package's comment. It says whether the account is in the new shard; if not, it
// stays where it was.
func (r *Relocator) move(ctx context.Context, m *move) (moved bool, err error) {
	if m.Moved {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	there, err := r.bring(ctx, m)
	if err != nil || !there {
		return false, err
	}
	if err := r.leaveQuiet(ctx); err != nil {
		return false, err
	}
	err = r.cfg.Directory.EndRelocation(ctx, directory.EndRelocation{Account: m.Account, Fence: m.Fence}, &m.with) // 8
	if err == nil {
		r.committed(m.with.took)
	}
	return err == nil, err
}

// bring is steps 2 to 7. It says whether the account is in the new shard; if not, the move was called off.
func (r *Relocator) bring(ctx context.Context, m *move) (there bool, err error) {
	old, err := r.look(ctx, m.From, m.Account)
	if err != nil {
		return false, err
	}
	switch {
	case old.State == index.Gone && old.To == m.To: // who worked on it before came to 6
		_, _, err := r.step(ctx, m.To, m, mailbox.Move{Step: mailbox.MoveActivate})
		return err == nil, err
	case old.State == index.Gone || old.State == index.Arriving:
		return false, fmt.Errorf("shard %d is to give account %d to shard %d, and says that it has it no more or not yet (state %d, shard %d)",
			m.From, m.Account, m.To, old.State, old.To)
	case m.Cancel:
		return false, r.callOff(ctx, m)
	case old.State == index.Leaving: // frozen by who worked on it before, and it may be long until it is frozen again
		if err := r.thaw(ctx, m); err != nil {
			return false, err
		}
	}
	at, err := r.arrive(ctx, m) // 2
	if err != nil {
		return false, err
	}
	done, err := r.warm(ctx, m, old.Applied, at)
	if err != nil {
		return false, err
	}
	if canceled, err := r.canceled(m); err != nil || canceled {
		return false, errors.Join(err, r.callOff(ctx, m))
	}
	return true, r.handOver(ctx, m, done)
}

// canceled looks whether the operator has changed his mind.
func (r *Relocator) canceled(m *move) (bool, error) {
	now, err := r.cfg.Directory.Relocation(m.Account)
	return now.Cancel, err
}

// look reads where a shard says that the account is, with all that was acknowledged before.
func (r *Relocator) look(ctx context.Context, number uint32, account uint64) (*keysFrame, error) {
	at, err := r.readIndex(ctx, number)
	if err != nil {
		return nil, err
	}
	k, err := r.open(ctx, keysRequest{Shard: number, Account: account, Min: at, Part: none})
	if err != nil {
		return nil, err
	}
	k.close()
	return k.first, nil
}

func (r *Relocator) readIndex(ctx context.Context, number uint32) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	at, err := r.cfg.Router.ReadIndex(ctx, number)
	if err != nil {
		err = fmt.Errorf("shard %d: %w", number, err)
	}
	return at, err
}

// arrive waits until nothing of an earlier stay is left: each command sweeps a part of it. It gives the entry at which the new shard takes keys.
func (r *Relocator) arrive(ctx context.Context, m *move) (uint64, error) {
	for wait := sweepPause; ; wait = min(2*wait, longestSweepPause) {
		_, at, err := r.step(ctx, m.To, m, mailbox.Move{Step: mailbox.MoveArrive, Shard: m.From})
		if !refusedWith(err, mailbox.Swept) {
			return at, err
		}
		if !pause.For(ctx, wait) {
			return 0, err
		}
	}
}

// warm is step 3, from replicas that have applied from and to. An account in which more changes than can be imported in a moment is not frozen.
func (r *Relocator) warm(ctx context.Context, m *move, from, to uint64) (done copied, err error) {
	began := time.Now()
	if done, err = r.compareAll(ctx, m, from, to, shard.Background); err != nil {
		return done, err
	}
	if done.small() && time.Since(began) < warmEnough {
		return done, nil // finish compares all of it
	}
	m.with.leave() // it takes longer than the others
	for range warmRounds {
		began := time.Now()
		if from, err = r.readIndex(ctx, m.From); err != nil {
			return done, err
		}
		if done, err = r.update(ctx, m, from, done, shard.Background); err != nil {
			return done, err
		}
		if done.changes < fewChanges && time.Since(began) < warmEnough {
			return done, nil
		}
	}
	return done, fmt.Errorf("it changes faster than it is copied, or its shards are too slow now: %d keys in the last of %d rounds", done.changes, warmRounds)
}

// handOver is steps 4 to 7. Before 6 the account goes back to the old shard if that does not get on.
func (r *Relocator) handOver(ctx context.Context, m *move, done copied) error {
	began := time.Now()
	frozen, cancel := context.WithTimeout(ctx, frozenTimeout)
	defer cancel()
	done, err := r.finish(frozen, m, done)
	if err != nil {
		back, cancel := context.WithTimeout(context.WithoutCancel(ctx), stepTimeout)
		defer cancel()
		if failed := r.thaw(back, m); failed != nil {
			r.cfg.Log.Warn("account stays frozen until its move is tried again", "account", m.Address, "shard", m.From, "err", failed)
		}
		return err
	}
	if _, _, err := r.step(ctx, m.From, m, mailbox.Move{Step: mailbox.MoveRelease, Shard: m.To, At: done.at}); err != nil { // 6
		return err
	}
	if _, _, err := r.step(ctx, m.To, m, mailbox.Move{Step: mailbox.MoveActivate}); err != nil { // 7
		return err
	}
	r.cfg.Log.Debug("account handed over", "account", m.Address, "frozen", time.Since(began).Round(time.Microsecond), "keys", done.keys)
	return nil
}

// finish is steps 4 and 5. A small account is compared once more, as it was copied; of one that is not large, this makes sure that both shards hold the same.
func (r *Relocator) finish(ctx context.Context, m *move, done copied) (copied, error) {
	_, from, err := r.step(ctx, m.From, m, mailbox.Move{Step: mailbox.MoveFreeze, Shard: m.To}) // 4
	if err != nil {
		return done, err
	}
	m.with.short = true
	updated := !done.small()
	if updated {
		if done, err = r.update(ctx, m, from, done, shard.ForPeople); err != nil {
			return done, err
		}
	}
	if done.keys <= compared {
		differ, err := r.compareAll(ctx, m, from, done.at, shard.ForPeople)
		if err != nil {
			return done, err
		}
		done.at, done.markers = differ.at, differ.markers
		if updated && differ.changes > 0 {
			r.cfg.Log.Warn("a copy of what had changed left differences, which the last comparison found", "account", m.Address, "keys", differ.changes)
		}
	}
	if len(done.markers) > 0 {
		_, done.at, err = r.step(ctx, m.To, m, mailbox.Move{Step: mailbox.MoveArrived, Markers: done.markers})
	}
	return done, err
}

// clear is step 9 of several accounts at once, and nobody waits for it.
func (r *Relocator) clear(ctx context.Context, list []*move) {
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	with := r.newConvoy(ctx)
	for _, m := range list {
		m.with = with.join()
	}
	together(list, func(_ int, at **move) {
		m := *at
		defer m.with.leave()
		err := r.drop(ctx, m.From, m, m.To)
		if err == nil {
			err = r.cfg.Directory.EndRelocation(ctx, directory.EndRelocation{Account: m.Account, Fence: m.Fence, Done: true}, &m.with)
		}
		r.ended(ctx, &m.Relocation, err)
		if err == nil {
			r.cfg.Log.Info("account moved", "account", m.Address, "from", m.From, "to", m.To, "took", m.took.Round(time.Millisecond))
		}
	})
}

// together calls fn for all of a list at once and returns when all have.
func together[T any](list []T, fn func(i int, v *T)) {
	var work sync.WaitGroup
	for i := range list {
		work.Go(func() { fn(i, &list[i]) })
	}
	work.Wait()
}

// drop removes what a shard has of the account, which is in another one.
func (r *Relocator) drop(ctx context.Context, number uint32, m *move, is uint32) error {
	for after := uint32(0); ; {
		result, _, err := r.step(ctx, number, m, mailbox.Move{Step: mailbox.MoveDrop, Shard: is, After: after})
		if err != nil || result.Next == 0 {
			return err
		}
		m.with.leave() // the others have fewer folders
		after = result.Next
	}
}

// callOff has the account stay, and ends its move.
func (r *Relocator) callOff(ctx context.Context, m *move) error {
	if err := r.keep(ctx, m); err != nil {
		return err
	}
	r.cfg.Log.Info("account stays", "account", m.Address, "shard", m.From)
	return r.cfg.Directory.EndRelocation(ctx, directory.EndRelocation{Account: m.Account, Fence: m.Fence, Done: true}, &m.with)
}

// keep has the account stay, as far as its shards are concerned. From the first command on the old shard, which goes on at once, gives it away to nobody who worked on the move
// before, unless it has: then that is an error, and the next try finds the account in the new shard. So nobody can activate it there, and what is there goes when that shard answers.
func (r *Relocator) keep(ctx context.Context, m *move) error {
	if err := r.thaw(ctx, m); err != nil {
		return err
	}
	return r.drop(ctx, m.To, m, m.From)
}

// thaw has the old shard go on, and give the account to nobody who worked on the move before.
func (r *Relocator) thaw(ctx context.Context, m *move) error {
	_, _, err := r.step(ctx, m.From, m, mailbox.Move{Step: mailbox.MoveThaw})
	return err
}
