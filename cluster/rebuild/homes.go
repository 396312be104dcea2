package rebuild

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"hongyan/cluster/placement"
	"hongyan/engine/index"
)

// Accounts move between shards, and shards are added: the checkpoints of two shards are of different times, so an account may be in both, or in one that
// is not its own any more, or in one that the cluster which is rebuilt does not have. Here each comes to the shard where it is to be.

// adoptBatch is how many keys are written at once.
const adoptBatch = 4096

// stay is an account in the checkpoint of a shard.
type stay struct {
	shard uint32
	index.Resident
}

// past is where an account was, as the checkpoints tell.
type past struct {
	since  int64    // as shardRun.since, of the checkpoint that its state is from
	from   memory   // of that checkpoint; none if no checkpoint has all of the account
	former []memory // of shards that gave the account away before that, with all they had of it
	known  []uint32 // the shards whose checkpoints know of it
}

// worth orders where an account is taken from: whoever has it, then whoever was giving it away, then whoever gave it away and has not dropped
// it, then whoever was getting it.
func (s *stay) worth(home uint32) int {
	rank := map[index.PlaceState]int{index.Here: 6, index.Leaving: 4, index.Gone: 2}[s.Place.State]
	if s.shard == home {
		rank++
	}
	return rank
}

// settleHomes brings all accounts where they are to be. stores are those of all shards with a checkpoint.
func (r *run) settleHomes(stores map[uint32]*index.Shard) error {
	stays := make(map[uint64][]stay)
	for number, store := range stores {
		v := store.View()
		err := v.Residents(func(in index.Resident) error {
			stays[in.Account] = append(stays[in.Account], stay{number, in})
			return nil
		})
		if err := errors.Join(err, v.Close()); err != nil {
			return fmt.Errorf("shard %d: %w", number, err)
		}
	}
	if err := r.recall(stores, stays); err != nil {
		return err
	}
	nowhere := new(past) // what came to such an account is all it ever had
	for account := range r.shardOf {
		if len(stays[account]) == 0 {
			r.pasts[account] = nowhere
		}
	}
	for account, list := range stays {
		if err := r.settleHome(stores, account, list); err != nil {
			return fmt.Errorf("account %d: %w", account, err)
		}
	}
	return nil
}

// recall takes accounts that a shard gave away before its last checkpoint, and that no checkpoint has whole, from earlier checkpoints of that shard: the
// one that got the account has none since.
func (r *run) recall(stores map[uint32]*index.Shard, stays map[uint64][]stay) error {
	missing := make(map[uint32]map[uint64]bool)
	for account, list := range stays {
		if _, known := r.shardOf[account]; !known || slices.ContainsFunc(list, func(s stay) bool { return s.Exists && s.Place.State != index.Arriving }) {
			continue
		}
		for _, s := range list {
			if s.Place.State == index.Gone {
				if missing[s.shard] == nil {
					missing[s.shard] = make(map[uint64]bool)
				}
				missing[s.shard][account] = true
			}
		}
	}
	for number, accounts := range missing {
		for _, c := range r.survey.Checkpoints[number] {
			if c.Whole && c.Taken < r.taken[number] && len(accounts) > 0 {
				if err := r.recallFrom(stores, stays, c, accounts); err != nil {
					return fmt.Errorf("an earlier checkpoint of shard %d: %w", number, err)
				}
			}
		}
	}
	return nil
}

// recallFrom does it for one checkpoint, which it loads beside the shards.
func (r *run) recallFrom(stores map[uint32]*index.Shard, stays map[uint64][]stay, c *Checkpoint, accounts map[uint64]bool) error {
	beside := slices.Max(slices.Collect(maps.Keys(stores))) + 1
	store := r.db.Shard(beside)
	if err := c.load(r.vs, store); err != nil {
		r.o.Say("shard %d: the checkpoint of entry %d cannot be used: %v", c.Shard, c.Applied, err)
		return nil
	}
	r.former = append(r.former, store)
	stores[beside], r.taken[beside] = store, c.Taken
	r.requests[beside] = c.Shard
	v := store.View()
	err := v.Residents(func(in index.Resident) error {
		if accounts[in.Account] && in.Exists && (in.Place.State == index.Here || in.Place.State == index.Leaving) {
			stays[in.Account] = append(stays[in.Account], stay{beside, in})
			delete(accounts, in.Account)
		}
		return nil
	})
	return errors.Join(err, v.Close())
}

func (r *run) settleHome(stores map[uint32]*index.Shard, account uint64, list []stay) error {
	home, known := r.shardOf[account]
	if len(list) == 1 && list[0].shard == home && list[0].Place == (index.Place{}) {
		return nil
	}
	exist := slices.DeleteFunc(slices.Clone(list), func(s stay) bool { return !s.Exists })
	p := &past{}
	r.pasts[account] = p
	for _, s := range list {
		p.known = append(p.known, r.memory(stores, s.shard).number)
	}
	if known && len(exist) > 0 {
		best := slices.MaxFunc(exist, func(a, b stay) int { return cmp.Compare(a.worth(home), b.worth(home)) })
		if best.Place.State != index.Arriving {
			p.since, p.from = r.taken[best.shard]-slack, r.memory(stores, best.shard)
			for _, s := range list {
				if s.shard != best.shard && s.Place.Fence <= best.Place.Fence {
					p.former = append(p.former, r.memory(stores, s.shard))
				}
			}
		}
		if best.shard != home {
			if err := r.adopt(stores, account, best.shard, home); err != nil {
				return err
			}
		}
	}
	for _, s := range list {
		do := (*index.Txn).Settled
		if s.shard != home || !known {
			do = (*index.Txn).Expel
		}
		if err := behind(stores[s.shard], func(t *index.Txn) error { return do(t, account) }); err != nil {
			return fmt.Errorf("shard %d: %w", s.shard, err)
		}
	}
	return nil
}

// adopt brings an account from one shard's checkpoint into another's.
func (r *run) adopt(stores map[uint32]*index.Shard, account uint64, from, to uint32) error {
	r.o.Say("account %d is in the checkpoint of shard %d, and is taken to shard %d", account, from, to)
	if err := behind(stores[to], func(t *index.Txn) error { return t.Expel(account) }); err != nil {
		return err
	}
	v := stores[from].View()
	var batch []index.Pair
	flush := func() error {
		err := behind(stores[to], func(t *index.Txn) error { return t.Adopt(account, batch) })
		batch = nil
		return err
	}
	err := v.Account(account, func(key, value []byte) error {
		batch = append(batch, index.Pair{Key: slices.Clone(key), Value: slices.Clone(value)})
		if len(batch) < adoptBatch {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	return errors.Join(err, v.Close())
}

// behind commits a change of a shard's state as of the entry that it stands at.
func behind(store *index.Shard, do func(*index.Txn) error) error {
	at, err := store.Applied()
	if err != nil {
		return err
	}
	t := store.Begin()
	defer t.Discard()
	t.SetIndex(at)
	if err := do(t); err != nil {
		return err
	}
	return t.Commit(at)
}

// rehome gives accounts whose shard is not among those that the cluster is rebuilt for one that is: at home in their region if there is such a one.
func (r *run) rehome() {
	var all []placement.Group
	for _, g := range r.o.Groups {
		if g.Shard != placement.DirectoryShard {
			all = append(all, g)
		}
	}
	if len(all) == 0 {
		return
	}
	for account, number := range r.shardOf {
		if slices.ContainsFunc(all, func(g placement.Group) bool { return g.Shard == number }) {
			continue
		}
		near := slices.DeleteFunc(slices.Clone(all), func(g placement.Group) bool { return g.Home != r.homes[account] })
		if len(near) == 0 {
			near = all
		}
		to := near[account%uint64(len(near))].Shard
		r.shardOf[account], r.moved[account] = to, to
	}
}
