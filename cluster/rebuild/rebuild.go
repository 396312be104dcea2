package rebuild

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"hongyan/cluster/directory"
	"hongyan/cluster/mailbox"
	"hongyan/cluster/placement"
	"hongyan/cluster/replica"
	"hongyan/engine/index"
	"hongyan/engine/keys"
	"hongyan/engine/volume"
)

// Options say how a rebuild goes.
type Options struct {
	Groups []placement.Group
	// Closed lists volumes of which a copy cannot be opened, or too few fragments are at hand: records that no other copy is long enough for count as there, and are not
	// looked through.
	Closed []volume.ID
	// DropMissing removes messages whose bytes are in no volume. Only when every volume of the cluster is at hand.
	DropMissing bool
	Now         int64                            // unix seconds
	Say         func(format string, args ...any) // one line about something that an operator should know
}

// ShardReport is how a mailbox shard came back.
type ShardReport struct {
	Shard      uint32 `json:"shard"`
	Checkpoint uint64 `json:"checkpoint"`       // log entry of the checkpoint; 0: there was none
	Taken      int64  `json:"checkpoint_taken"` // unix seconds
	Entered    uint64 `json:"entered"`          // messages of after it, for each folder
	Refused    uint64 `json:"refused,omitempty"`
	Unreadable uint64 `json:"unreadable,omitempty"` // of after it, that no copy gives
	Missing    uint64 `json:"missing,omitempty"`    // entries whose bytes are in no volume
	Dropped    uint64 `json:"dropped,omitempty"`    // of these
	Rehoused   uint64 `json:"rehoused,omitempty"`   // entries whose bytes were put again elsewhere after the checkpoint
	Applied    uint64 `json:"applied"`              // the last log entry
}

// Report says what was rebuilt.
type Report struct {
	Directory uint64        `json:"directory_checkpoint"`
	Taken     int64         `json:"directory_taken"`
	Applied   uint64        `json:"directory_applied"`
	Accounts  int           `json:"accounts"`
	Volumes   int           `json:"volumes"`
	Entered   int           `json:"volumes_entered"` // that the directory did not know
	Strangers uint64        `json:"strangers"`       // messages of accounts that the directory does not know
	Shards    []ShardReport `json:"shards"`
}

// run is one rebuild.
type run struct {
	o        Options
	vs       *Volumes
	closed   map[volume.ID]bool
	survey   *Survey
	shardOf  map[uint64]uint32 // of each account
	homes    map[uint64]string // regions
	moved    map[uint64]uint32 // accounts that get another shard than the directory says
	pasts    map[uint64]*past  // of accounts that have been in other shards, or that no checkpoint has
	former   []*index.Shard    // those of shards that the cluster is not to have
	taken    map[uint32]int64  // when each shard's checkpoint was
	requests map[uint32]uint32 // of an earlier checkpoint that is loaded beside the shards, its shard
	db       *index.DB
	accounts map[uint32][]uint64 // of each shard
	shards   map[uint32]*shardRun
	heirs    map[record]place // records whose bytes were put again, and where (package rehouse)
	last     uint64           // the highest number of an account that any record names
	opened   volume.ID        // the last volume that the directory's checkpoint may have known
	unsure   bool             // it may not know all up to there
	table    map[volume.ID]replica.Entry
	report   Report
}

// Run takes all steps in db, which must be empty. What it leaves there is flushed.
func Run(vs *Volumes, survey *Survey, db *index.DB, o Options) (*Report, error) {
	r := &run{o: o, vs: vs, survey: survey, closed: make(map[volume.ID]bool),
		homes: make(map[uint64]string), moved: make(map[uint64]uint32), pasts: make(map[uint64]*past), taken: make(map[uint32]int64), requests: make(map[uint32]uint32), db: db,
		shardOf: make(map[uint64]uint32), heirs: make(map[record]place), accounts: make(map[uint32][]uint64), shards: make(map[uint32]*shardRun),
		table: make(map[volume.ID]replica.Entry)}
	for _, id := range o.Closed {
		r.closed[id] = true
	}
	if err := r.all(db); err != nil {
		return nil, fmt.Errorf("rebuild: %w", err)
	}
	return &r.report, nil
}

func (r *run) all(db *index.DB) error {
	root := db.Shard(placement.DirectoryShard)
	if err := r.loadDirectory(root); err != nil {
		return err
	}
	if err := r.loadShards(db); err != nil {
		return err
	}
	if err := errors.Join(r.sortMail(), r.closeViews()); err != nil {
		return err
	}
	if err := r.settleMail(); err != nil {
		return err
	}
	for _, g := range r.o.Groups {
		s := r.shards[g.Shard]
		if s == nil {
			continue
		}
		if err := errors.Join(s.enter(), s.missing(r.o.DropMissing), s.unmark()); err != nil {
			return fmt.Errorf("shard %d: %w", g.Shard, err)
		}
		r.report.Shards = append(r.report.Shards, s.report)
	}
	for _, store := range r.former {
		if err := store.Clear(); err != nil {
			return err
		}
	}
	if err := r.mendDirectory(root); err != nil {
		return err
	}
	return db.Flush()
}

// loadDirectory is step 2 for the directory.
func (r *run) loadDirectory(root *index.Shard) error {
	c, err := r.survey.load(r.vs, placement.DirectoryShard, root, r.o.Say)
	if err != nil {
		return err
	}
	if c == nil {
		return errors.New("no whole checkpoint of the directory is in these volumes, and without it nobody knows whose mail is whose: give the data directories of more nodes")
	}
	if r.report.Directory, err = root.Applied(); err != nil {
		return err
	}
	r.report.Taken = c.Taken
	v := root.View()
	err = directory.EachAccount(v, func(a *directory.Account) error {
		r.shardOf[a.ID], r.homes[a.ID] = a.Shard, a.Home
		r.report.Accounts++
		return nil
	})
	if err == nil {
		r.opened, err = directory.Opened(v)
	}
	if err == nil {
		r.unsure, err = directory.Unsure(v)
	}
	if err == nil {
		err = directory.EachVolume(v, func(e *replica.Entry) error { r.table[e.ID] = *e; return nil })
	}
	r.rehome()
	for account, number := range r.shardOf {
		r.accounts[number] = append(r.accounts[number], account)
	}
	for _, list := range r.accounts {
		slices.Sort(list)
	}
	return errors.Join(err, v.Close())
}

// loadShards is step 2 for the mailbox shards, also for those that the cluster is not to have any more: their accounts go to others.
func (r *run) loadShards(db *index.DB) error {
	stores := make(map[uint32]*index.Shard)
	for _, g := range r.o.Groups {
		if g.Shard != placement.DirectoryShard {
			stores[g.Shard] = db.Shard(g.Shard)
		}
	}
	for number := range r.survey.Checkpoints {
		if stores[number] == nil && number != placement.DirectoryShard {
			stores[number] = db.Shard(number)
			r.former = append(r.former, stores[number])
		}
	}
	for _, number := range slices.Sorted(maps.Keys(stores)) {
		if err := r.loadShard(number, stores[number]); err != nil {
			return err
		}
	}
	if err := r.settleHomes(stores); err != nil {
		return err
	}
	maps.DeleteFunc(r.shards, func(number uint32, _ *shardRun) bool {
		return !slices.ContainsFunc(r.o.Groups, func(g placement.Group) bool { return g.Shard == number })
	})
	return nil
}

// loadShard is step 2 for a mailbox shard, which may be empty.
func (r *run) loadShard(number uint32, store *index.Shard) error {
	c, err := r.survey.load(r.vs, number, store, r.o.Say)
	if err != nil {
		return fmt.Errorf("shard %d: %w", number, err)
	}
	s := &shardRun{r: r, number: number, store: store, machine: mailbox.NewMachine(func([]mailbox.Event) {}),
		entered: make(map[receipt]bool), report: ShardReport{Shard: number}}
	r.shards[number] = s
	if c == nil {
		if len(r.accounts[number]) > 0 {
			r.o.Say("shard %d: no whole checkpoint: its folders are made from where messages were delivered to", number)
		}
		return nil
	}
	s.since, s.report.Taken, r.taken[number] = c.Taken-slack, c.Taken, c.Taken
	s.report.Checkpoint, err = store.Applied()
	return err
}

// closeViews ends the reading of what the checkpoints refer to.
func (r *run) closeViews() error {
	var errs []error
	for _, s := range r.shards {
		errs = append(errs, s.view.Close())
	}
	return errors.Join(errs...)
}

// settleMail asks what the checkpoints' shards remember, of all before anything is entered in any: an account may come from another one's checkpoint.
func (r *run) settleMail() error {
	m := make(memories)
	defer m.close()
	for _, s := range r.shards {
		if err := s.settle(m); err != nil {
			return fmt.Errorf("shard %d: %w", s.number, err)
		}
	}
	return nil
}

// sortMail looks through all messages once and gives each to the shards that it was for.
func (r *run) sortMail() error {
	for _, s := range r.shards {
		s.view = s.store.View()
	}
	for _, id := range r.vs.ids() {
		for n := uint64(1); n <= r.vs.records(id); n++ {
			info, err := r.vs.stat(id, n)
			if err != nil || info.Kind != volume.KindMessage {
				continue // what cannot be read was counted by the survey
			}
			at := place{id, n, info.Length}
			o, err := origin(r.vs, at)
			switch {
			case errors.Is(err, keys.ErrDestroyed):
				continue
			case errors.Is(err, volume.ErrNoKeys):
				return err
			case err != nil:
				r.o.Say("record %d of volume %s: %v", n, id, err)
				continue
			}
			for _, b := range o.Before {
				r.heirs[record{b.Volume, b.Record}] = at
			}
			known := make(map[uint32]bool)
			for _, t := range o.Targets {
				r.last = max(r.last, t.Account)
				number, ok := r.shardOf[t.Account]
				if !ok {
					r.report.Strangers++
				} else if s := r.shards[number]; s != nil && !known[number] {
					known[number] = true
					if err := s.consider(at, o); err != nil {
						return err
					}
				}
			}
		}
	}
	if r.report.Strangers > 0 {
		r.o.Say("%d messages are for accounts that the directory's checkpoint does not know; they stay in their volumes", r.report.Strangers)
	}
	return nil
}

// mendDirectory is step 6.
func (r *run) mendDirectory(root *index.Shard) error {
	applied, err := root.Applied()
	if err != nil {
		return err
	}
	var found []directory.Found
	for _, id := range r.vs.ids() {
		found = append(found, r.vs.found(id))
	}
	r.report.Volumes = len(found)
	at := applied + ahead
	txn := root.Begin()
	txn.SetIndex(at)
	if r.report.Entered, err = directory.Mend(txn, found, r.last, r.o.Groups, r.moved); err == nil {
		err = txn.Commit(at)
	}
	if err != nil {
		txn.Discard()
		return fmt.Errorf("bring the table of volumes up to date: %w", err)
	}
	r.report.Applied = at
	return nil
}
