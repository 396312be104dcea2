package recovery

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"hongyan/cluster/directory"
	"hongyan/cluster/mailbox"
	"hongyan/cluster/pause"
	"hongyan/cluster/placement"
	"hongyan/cluster/replica"
	"hongyan/cluster/shard"
	"hongyan/cluster/wire"
	"hongyan/engine/volume"
)

// Job is a recovery, under way or done.
type Job struct {
	Started int64         `json:"started"` // unix seconds
	Lost    []string      `json:"lost"`
	Step    string        `json:"step"`
	Done    bool          `json:"done"`
	Error   string        `json:"error,omitempty"` // why it did not come to its end; given again it goes on
	Shards  []ShardResult `json:"shards,omitempty"`
	// Entered counts volumes that were found on disks and that the directory did not know. Bytes names those of which nobody who is left has a copy, or too
	// few fragments: their messages are listed, and cannot be read.
	Entered int         `json:"volumes_entered"`
	Bytes   []volume.ID `json:"volumes_gone,omitempty"`
	Notes   string      `json:"notes,omitempty"` // where no volumes were looked for

	settled bool
	back    []string           // were given up by a recovery that this one ends, and are members again
	open    map[volume.ID]bool // that those who are lost had open
	unsure  bool               // the directory has a note: it may not know all volumes
	nowhere []volume.ID        // that it does not know, and that nobody has
}

// mayForget says whether a note is done with, if something is open. What an operator has seen to was listed by an earlier job.
func (j *Job) mayForget(noted bool) bool { return j.settled && !noted }

// ShardResult is what became of a shard.
type ShardResult struct {
	ShardPlan
	Recovered bool   `json:"recovered"`
	Entered   int    `json:"entered"`         // messages that it lacked and that were found in volumes, put where they were delivered to
	Expunged  int    `json:"expunged"`        // messages that were found, and had been entered and expunged before
	Open      []Mail `json:"open,omitempty"`  // messages of which that is not certain, left to the operator: at most maxOpen of each node
	More      int    `json:"more,omitempty"`  // of which there was no room in Open
	Notes     string `json:"notes,omitempty"` // what was not looked through

	note  directory.RecoveryNote
	noted bool // by this job

	looked bool // for its messages, by all who answer
}

func (j *Job) copy() *Job {
	c := *j
	c.Shards = slices.Clone(j.Shards)
	return &c
}

// update changes the job under its lock.
func (r *Recovery) update(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

func (r *Recovery) step(job *Job, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.cfg.Log.Info("recovery", "step", text)
	r.update(func() { job.Step = text })
}

func (r *Recovery) run(ctx context.Context, job *Job) {
	err := r.all(ctx, job)
	r.update(func() {
		job.Done = true
		if err != nil {
			job.Error = err.Error()
		} else {
			job.Step = "done"
		}
	})
	if err != nil {
		r.cfg.Log.Error("recovery ended before its time, give it again", "err", err)
		return
	}
	r.cfg.Log.Warn("recovery done", "lost", job.Lost, "shards", len(job.Shards), "volumes_entered", job.Entered, "volumes_gone", len(job.Bytes))
}

// all takes steps 2 to 5.
func (r *Recovery) all(ctx context.Context, job *Job) error {
	if err := r.giveUp(ctx, job); err != nil {
		return err
	}
	if err := r.noteOpen(ctx, job); err != nil {
		return err
	}
	accounts, err := r.accounts()
	if err != nil {
		return err
	}
	if err := r.noteMail(ctx, job); err != nil {
		return err
	}
	for i := range job.Shards {
		s := &job.Shards[i]
		if s.Shard == placement.DirectoryShard || s.State != Recover {
			continue
		}
		if err := r.hold(ctx, job); err != nil {
			return err
		}
		r.step(job, "shard %d goes on from %s", s.Shard, s.Survivor)
		commands, err := revalidations(accounts[s.Shard])
		if err != nil {
			return err
		}
		if err := r.rescue(ctx, job, s, commands); err != nil {
			return err
		}
	}
	r.step(job, "volumes that the directory does not know are entered")
	if err := r.enterVolumes(ctx, job); err != nil {
		return err
	}
	if err := r.endUnknown(ctx, job); err != nil {
		return err
	}
	if err := r.awaitSeals(ctx, job); err != nil {
		return err
	}
	for i := range job.Shards {
		s := &job.Shards[i]
		if s.Shard == placement.DirectoryShard {
			continue
		}
		r.step(job, "messages of shard %d are looked for in volumes", s.Shard)
		if err := r.lookForMail(ctx, job, s, accounts[s.Shard]); err != nil {
			return err
		}
	}
	return r.gone(ctx, job)
}

// giveUp is step 2. Those who are lost may have come back since the recovery began, and be a majority that acknowledges: then nobody is given up.
func (r *Recovery) giveUp(ctx context.Context, job *Job) error {
	given := false // up, by the first command of a directory that goes on from its survivor
	for i := range job.Shards {
		s := &job.Shards[i]
		if s.Shard != placement.DirectoryShard || s.State != Recover {
			continue
		}
		r.step(job, "the directory goes on from %s", s.Survivor)
		commands, err := directory.EncodeBehind(job.Lost, job.Started)
		if err != nil {
			return err
		}
		if err := r.rescue(ctx, job, s, commands); err != nil {
			return err
		}
		if given = s.Recovered; !given {
			return wire.Errorf(wire.Invalid, "the directory needs no recovery any more (%s), so nobody is given up: see what `hongyan admin recover` says now", s.Why)
		}
	}
	if !given {
		t, answers, err := r.survey(ctx)
		if err == nil {
			err = stillLost(t, answers, job.Lost)
		}
		if err != nil {
			return err
		}
	}
	r.step(job, "the lost nodes are given up in the directory")
	try, cancel := context.WithTimeout(ctx, leaderTimeout)
	defer cancel()
	if err := r.cfg.Directory.Recover(try, directory.Recover{Lost: job.Lost}); err != nil {
		return err
	}
	if err := r.cfg.Directory.CatchUp(try); err != nil {
		return err
	}
	t, err := r.cfg.Directory.Topology()
	if err != nil {
		return err
	}
	for _, id := range job.Lost {
		if n, _ := t.Node(id); !n.Fenced() {
			return wire.Errorf(wire.Unavailable, "%s is not given up in the directory: somebody took it in again meanwhile", id)
		}
	}
	return r.await(try, "this node knows the new topology", func() bool { return r.cfg.Topology().Version >= t.Version })
}

// noteMail enters in the directory what step 5 is to look for, before a shard goes on: afterwards nobody could tell. Shards of which that was left undone by an
// earlier recovery are added to this one.
func (r *Recovery) noteMail(ctx context.Context, job *Job) error {
	var notes []directory.RecoveryNote
	mailboxes := func(s ShardResult) bool { return s.Shard != placement.DirectoryShard && s.State == Recover }
	for _, s := range job.Shards {
		if mailboxes(s) {
			notes = append(notes, noteOf(&s.ShardPlan, job.Started))
		}
	}
	if len(notes) > 0 {
		if err := r.cfg.Directory.NoteRecoveries(ctx, notes); err != nil {
			return err
		}
	}
	notes, err := r.notes(ctx)
	if err != nil {
		return err
	}
	r.update(func() {
		for i := range job.Shards {
			job.Shards[i].noted = mailboxes(job.Shards[i])
		}
		for _, n := range notes {
			if n.Shard == placement.DirectoryShard {
				job.unsure = true
				continue
			}
			i := slices.IndexFunc(job.Shards, func(s ShardResult) bool { return s.Shard == n.Shard })
			if i < 0 {
				i = len(job.Shards)
				job.Shards = append(job.Shards, ShardResult{ShardPlan: ShardPlan{Shard: n.Shard, State: Lives, Why: "recovered before"}})
			}
			job.Shards[i].note = n
		}
	})
	return nil
}

// await polls until ok.
func (r *Recovery) await(ctx context.Context, what string, ok func() bool) error {
	for !ok() {
		if !pause.For(ctx, retryPause) {
			return wire.Errorf(wire.Unavailable, "not in time: %s", what)
		}
	}
	return nil
}

// plansAgain bounds how often a shard is judged anew in one recovery, planPause is the wait before, if nothing has changed: a follower takes twice an election
// timeout to forget a leader that has lost its majority.
const (
	plansAgain = 5
	planPause  = 2 * time.Second
)

// rescue has a shard go on from its survivor. What it was refused for may have come since the shard was judged, such as entries that those who are lost
// sent before they were switched off, or a leader; or it may pass, such as one whom a follower has not forgotten yet. Then it is judged anew.
func (r *Recovery) rescue(ctx context.Context, job *Job, s *ShardResult, commands [][]byte) error {
	return persist(func() error { return r.rescueOnce(ctx, job, s, commands) }, func(why error) (*ShardPlan, error) {
		now, err := r.judgeAgain(ctx, job, s.Shard)
		if err != nil {
			return nil, err
		}
		if now.sameAs(&s.ShardPlan) {
			pause.For(ctx, planPause)
			return now, ctx.Err()
		}
		r.cfg.Log.Warn("a shard has changed since it was judged", "shard", s.Shard, "err", why, "state", now.State, "survivor", now.Survivor, "entry", now.Last)
		r.update(func() {
			now.Accounts, now.Addresses = s.Accounts, s.Addresses
			s.ShardPlan = *now
		})
		return now, nil
	})
}

// persist does what was refused (wire.ErrInvalid) again, if judge, which hears why, still finds it wanted. A shard that lives by now needs nothing.
func persist(do func() error, judge func(why error) (*ShardPlan, error)) error {
	for n := 0; ; n++ {
		why := do()
		if why == nil || n == plansAgain || !errors.Is(why, wire.ErrInvalid) {
			return why
		}
		now, err := judge(why)
		if err != nil {
			return fmt.Errorf("%w; it was judged anew: %w", why, err)
		}
		if now.State == Lives {
			return nil
		}
	}
}

// judgeAgain says what a shard needs now, if those who were declared lost still are, and it is covered by them.
func (r *Recovery) judgeAgain(ctx context.Context, job *Job, number uint32) (*ShardPlan, error) {
	t, answers, err := r.survey(ctx)
	if err != nil {
		return nil, err
	}
	p := Judge(t, answers)
	i := slices.IndexFunc(p.Shards, func(s ShardPlan) bool { return s.Shard == number })
	if i < 0 {
		return nil, wire.Errorf(wire.Invalid, "there is no shard %d any more", number)
	}
	if err := stillLost(t, answers, job.Lost); err != nil {
		return nil, err
	}
	if p.Shards[i].State == Lives {
		return &p.Shards[i], nil
	}
	return &p.Shards[i], p.checkShards(answers, job.Lost, []uint32{number})
}

// sameAs says whether a shard would be recovered in the same way.
func (s *ShardPlan) sameAs(o *ShardPlan) bool {
	return s.State == o.State && s.Survivor == o.Survivor && s.Last == o.Last && s.LastTerm == o.LastTerm
}

// rescueOnce has a shard go on from its survivor, and waits until that leads.
func (r *Recovery) rescueOnce(ctx context.Context, job *Job, s *ShardResult, commands [][]byte) error {
	req := &RescueRequest{Lost: job.Lost, Rescue: shard.Rescue{
		Shard: s.Shard, LastTerm: s.LastTerm, Last: s.Last, Term: s.term, Learners: s.Learners, Commands: commands,
	}}
	if s.Shard != placement.DirectoryShard {
		req.Topology = r.cfg.Topology().Version
	}
	try, cancel := context.WithTimeout(ctx, rescueTimeout)
	defer cancel()
	if err := r.cfg.Net.Call(try, s.Survivor, MethodRescue, req, &RescueResponse{}); err != nil {
		return fmt.Errorf("have shard %d go on from %s: %w", s.Shard, s.Survivor, err)
	}
	try, cancel = context.WithTimeout(ctx, leaderTimeout)
	defer cancel()
	if _, err := r.cfg.Router.ReadIndex(try, s.Shard); err != nil {
		return fmt.Errorf("shard %d was taken over by %s, which does not lead it yet: %w", s.Shard, s.Survivor, err)
	}
	r.update(func() { s.Recovered = true })
	return nil
}

// accountsAtOnce is how many accounts one command revalidates.
const accountsAtOnce = 1000

func revalidations(accounts []uint64) (bodies [][]byte, err error) {
	for some := range slices.Chunk(accounts, accountsAtOnce) {
		body, err := (&mailbox.Command{Revalidate: &mailbox.Revalidate{Accounts: some}}).Encode()
		if err != nil {
			return nil, err
		}
		bodies = append(bodies, body)
	}
	return bodies, nil
}

// accounts lists the accounts of each shard.
func (r *Recovery) accounts() (map[uint32][]uint64, error) {
	list, err := r.cfg.Directory.Accounts()
	if err != nil {
		return nil, fmt.Errorf("list the accounts: %w", err)
	}
	out := make(map[uint32][]uint64)
	for _, a := range list {
		out[a.Shard] = append(out[a.Shard], a.ID)
	}
	return out, nil
}

// keepers are the nodes with volumes that were not given up: those that answer, and those that do not.
func (r *Recovery) keepers() (answer, silent []string) {
	for _, n := range r.cfg.Topology().Nodes {
		switch {
		case !n.Stores() || n.Fenced():
		case r.cfg.Net.Up(n.ID):
			answer = append(answer, n.ID)
		default:
			silent = append(silent, n.ID)
		}
	}
	return answer, silent
}

// enterAtOnce is how many volumes one command enters.
const enterAtOnce = 200

// enterVolumes is step 4.
func (r *Recovery) enterVolumes(ctx context.Context, job *Job) error {
	known, err := r.cfg.Directory.Volumes(ctx)
	if err != nil {
		return err
	}
	generation := make(map[volume.ID]uint32, len(known))
	for _, e := range known {
		generation[e.ID] = e.Generation + 1
	}
	found := make(map[volume.ID]*directory.Found)
	answer, silent := r.keepers()
	for _, node := range silent {
		r.update(func() { job.Notes += node + " does not answer: no volumes were entered that only it has. " })
	}
	for _, node := range answer {
		var resp foundResponse
		if err := r.cfg.Net.Call(ctx, node, methodFound, &foundRequest{}, &resp); err != nil {
			return fmt.Errorf("ask %s for its volumes: %w", node, err)
		}
		for _, f := range resp.Found {
			f.note(found, node, generation[f.Header.ID])
		}
		r.update(func() { job.Notes += unopened(node, resp.Unopened) })
	}
	var list []directory.Found
	for _, id := range slices.Sorted(maps.Keys(found)) {
		list = append(list, *found[id])
	}
	for some := range slices.Chunk(list, enterAtOnce) {
		if err := r.cfg.Directory.EnterFound(ctx, some); err != nil {
			return err
		}
	}
	r.update(func() { job.Entered = len(list) })
	return nil
}

// noteOpen notes the volumes that those who are lost had open with others. A node that comes back with an empty disk opens new ones.
func (r *Recovery) noteOpen(ctx context.Context, job *Job) error {
	list, err := r.cfg.Directory.Volumes(ctx)
	if err != nil {
		return err
	}
	job.open = make(map[volume.ID]bool)
	lost := func(node string) bool { return slices.Contains(job.Lost, node) }
	left := func(node string) bool { return !lost(node) && !slices.Contains(job.back, node) }
	for _, e := range list {
		if e.State == replica.Open && slices.ContainsFunc(e.Copies, lost) && slices.ContainsFunc(e.Copies, left) {
			job.open[e.ID] = true
		}
	}
	return nil
}

// awaitSeals waits until the volumes that the lost ones had open have ended: before, what they end with is not known.
func (r *Recovery) awaitSeals(ctx context.Context, job *Job) error {
	r.step(job, "volumes that the lost nodes had open are sealed")
	ctx, cancel := context.WithTimeout(ctx, sealTimeout)
	defer cancel()
	var failed error
	open := 0
	err := r.await(ctx, "every volume that the lost nodes had open is sealed", func() bool {
		list, err := r.cfg.Directory.Volumes(ctx)
		failed, open = err, 0
		for _, e := range list {
			if e.State == replica.Open && job.open[e.ID] {
				open++
			}
		}
		return err == nil && open == 0
	})
	if err != nil {
		return fmt.Errorf("%w (%d are open; %v)", err, open, failed)
	}
	return nil
}

// gone names the volumes whose bytes are lost.
func (r *Recovery) gone(ctx context.Context, job *Job) error {
	list, err := r.cfg.Directory.Volumes(ctx)
	if err != nil {
		return err
	}
	fenced := r.cfg.Topology().Fenced()
	lost := func(node string, e replica.Entry) bool {
		switch {
		case slices.Contains(fenced, node):
			return !r.cfg.Net.Up(node)
		case slices.Contains(job.Lost, node) || slices.Contains(job.back, node): // with another disk
			return e.Cold == nil && e.State == replica.Sealed && !r.cfg.Whole(node, e)
		}
		return false
	}
	var ids []volume.ID
	for _, e := range list {
		left := 0
		sources := e.Copies
		need := 1
		if e.Cold != nil {
			sources, need = e.Cold.Nodes, int(e.Cold.Data)
		}
		for _, node := range sources {
			if !lost(node, e) {
				left++
			}
		}
		if left < need {
			ids = append(ids, e.ID)
		}
	}
	r.update(func() { job.Bytes = append(ids, job.nowhere...) })
	return nil
}
