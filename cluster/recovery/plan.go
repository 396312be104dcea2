package recovery

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"hongyan/cluster/directory"
	"hongyan/cluster/placement"
	"hongyan/cluster/shard"
	"hongyan/cluster/wire"
)

// State is how a shard is.
type State string

// The states.
const (
	Lives   State = "lives"   // it has a leader, or a majority that elects one
	Recover State = "recover" // it can go on from a survivor
	Gone    State = "gone"    // no replica is left
)

// Answer is what a node says in the survey.
type Answer struct {
	Replicas []shard.Report `cbor:"1,keyasint,omitempty"` // of those that do not run only where their logs end, if that can be read
	Idle     []uint32       `cbor:"2,keyasint,omitempty"` // replicas on its disk that do not run, such as those whose index is lost
	Reaches  []string       `cbor:"3,keyasint,omitempty"` // nodes that are up, seen from there
}

// bare says that a node answers, and has nothing of any shard: its disk was lost.
func (a *Answer) bare() bool { return a != nil && len(a.Replicas)+len(a.Idle) == 0 }

// absent says that a node does not speak for what it had.
func absent(answers map[string]*Answer, node string) bool {
	return answers[node] == nil || answers[node].bare()
}

// ShardPlan says what a recovery would do to a shard, and what may be missing after it.
type ShardPlan struct {
	Shard    uint32   `json:"shard"`
	State    State    `json:"state"`
	Why      string   `json:"why"`
	Voters   []string `json:"voters"`           // as the best log has them
	Silent   []string `json:"silent,omitempty"` // of these and of those in the directory, those that do not answer, or only with an empty disk
	Survivor string   `json:"survivor,omitempty"`
	Learners []string `json:"others,omitempty"` // that have a replica, too
	Stuck    []string `json:"stuck,omitempty"`  // that answer, and whose replica does not work though its log may have more than the survivor's

	// The survivor's last entry. Whatever came later is unknown here: it was acknowledged if a majority of the others had it.
	Last     uint64 `json:"last_entry,omitempty"`
	LastTerm uint64 `json:"last_term,omitempty"`
	Time     int64  `json:"last_time,omitempty"` // unix seconds, 0 if no command is in its log
	Short    bool   `json:"short,omitempty"`     // it is known to lack entries that were at its own node

	Accounts  int      `json:"accounts"`
	Addresses []string `json:"addresses,omitempty"` // of these the first maxAddresses

	report shard.Report // the survivor's
	term   uint64       // the latest that anybody has seen
}

// Plan is what a recovery would do.
type Plan struct {
	Shards []ShardPlan `json:"shards"`
	Silent []string    `json:"silent,omitempty"` // members that do not answer
	Lost   []string    `json:"lost,omitempty"`   // that have to be declared lost for all shards to be recovered
	Fenced []string    `json:"fenced,omitempty"` // that were given up before
}

// maxAddresses bounds how many addresses of a shard are listed.
const maxAddresses = 1000

// held is a report with its node.
type held struct {
	node string
	shard.Report
}

// Judge says what each shard needs. Nodes that were given up before have no say, whatever they answer.
func Judge(t *directory.Topology, answers map[string]*Answer) *Plan {
	p := &Plan{Fenced: t.Fenced()}
	for _, n := range t.Nodes {
		if n.Stores() && !n.Fenced() && answers[n.ID] == nil {
			p.Silent = append(p.Silent, n.ID)
		}
	}
	replicas := make(map[uint32][]held)
	idle := make(map[uint32][]string)
	for _, node := range slices.Sorted(maps.Keys(answers)) {
		if slices.Contains(p.Fenced, node) {
			continue
		}
		for _, r := range answers[node].Replicas {
			replicas[r.Shard] = append(replicas[r.Shard], held{node, r})
		}
		for _, number := range answers[node].Idle {
			idle[number] = append(idle[number], node)
		}
	}
	for _, g := range t.Groups {
		s := judge(g, replicas[g.Shard], idle[g.Shard], answers)
		if s.State == Gone && len(idle[g.Shard]) > 0 {
			s.Why += fmt.Sprintf("; those of %s do not run, see their /readyz", strings.Join(idle[g.Shard], ", "))
		}
		if s.State == Recover {
			for _, node := range s.Silent {
				if !slices.Contains(p.Lost, node) && !slices.Contains(p.Fenced, node) {
					p.Lost = append(p.Lost, node)
				}
			}
		}
		p.Shards = append(p.Shards, s)
	}
	slices.Sort(p.Lost)
	return p
}

func judge(recorded placement.Group, have []held, idle []string, answers map[string]*Answer) ShardPlan {
	s := ShardPlan{Shard: recorded.Shard, State: Gone, Voters: recorded.Voters}
	real := slices.DeleteFunc(slices.Clone(have), func(r held) bool { return !r.Filled || r.Broken != "" })
	slices.SortStableFunc(real, func(a, b held) int {
		short := func(r held) int { return map[bool]int{true: 1}[r.Short] }
		return cmp.Or(cmp.Compare(short(a), short(b)), cmp.Compare(b.LastTerm, a.LastTerm), cmp.Compare(b.Last, a.Last))
	})
	if len(real) > 0 {
		s.Voters = real[0].Voters
	}
	for _, v := range append(slices.Clone(s.Voters), recorded.Voters...) {
		if absent(answers, v) && !slices.Contains(s.Silent, v) {
			s.Silent = append(s.Silent, v)
		}
	}
	slices.Sort(s.Silent)
	for _, r := range have {
		s.term = max(s.term, r.Term)
		if r.Leads {
			s.State, s.Why = Lives, "led by "+r.node
			return s
		}
	}
	standing := 0 // of the membership in the best log: the latest that is left
	for _, r := range real {
		if slices.Contains(s.Voters, r.node) && r.Votes() {
			standing++
		}
	}
	if standing > len(s.Voters)/2 {
		s.State, s.Why = Lives, fmt.Sprintf("%d of %d voters answer: they elect a leader by themselves", standing, len(s.Voters))
		return s
	}
	if len(real) == 0 {
		s.Why = "no node that answers has a real replica"
		return s
	}
	best := real[0]
	s.State, s.Survivor, s.report = Recover, best.node, best.Report
	s.Last, s.LastTerm, s.Time, s.Short = best.Last, best.LastTerm, best.Time, best.Short
	s.Why = "no majority: " + whyNot(s.Silent, answers)
	for _, r := range real[1:] {
		s.Learners = append(s.Learners, r.node)
	}
	s.stuck(recorded, have, idle)
	return s
}

// stuck notes the replicas that answer, do not work, and may have what the survivor lacks. Of one whose log's end is not known only a voter may.
func (s *ShardPlan) stuck(recorded placement.Group, have []held, idle []string) {
	for _, r := range have {
		if r.Broken == "" || !r.Filled {
			continue
		}
		unread := r.LastTerm == 0 && r.Last > 0
		if unread || cmp.Or(cmp.Compare(r.LastTerm, s.LastTerm), cmp.Compare(r.Last, s.Last)) > 0 {
			s.Stuck = append(s.Stuck, r.node)
			s.Why += fmt.Sprintf("; the log of %s, which may have more, is not used: %s", r.node, r.Broken)
		}
	}
	for _, node := range idle {
		voter := slices.Contains(s.Voters, node) || slices.Contains(recorded.Voters, node)
		if voter && !slices.ContainsFunc(have, func(r held) bool { return r.node == node }) {
			s.Stuck = append(s.Stuck, node)
			s.Why += fmt.Sprintf("; the log of %s, which may have more, is not used: it does not run", node)
		}
	}
}

// whyNot says of voters that are absent what is the matter.
func whyNot(silent []string, answers map[string]*Answer) string {
	var gone, bare []string
	for _, node := range silent {
		if answers[node].bare() {
			bare = append(bare, node)
		} else {
			gone = append(gone, node)
		}
	}
	var why []string
	if len(gone) > 0 {
		why = append(why, strings.Join(gone, ", ")+" do not answer")
	}
	if len(bare) > 0 {
		why = append(why, strings.Join(bare, ", ")+" have lost their disks")
	}
	if len(why) == 0 {
		return "of those that answer too few have what they acknowledged"
	}
	return strings.Join(why, "; ")
}

// Check says why a recovery with these nodes declared lost must not be, in words that tell the operator what to do; only, if it is not empty, names the shards
// that it is wanted for.
func (p *Plan) Check(t *directory.Topology, answers map[string]*Answer, lost []string, only []uint32) error {
	if len(p.wanted(nil)) == 0 && len(only) == 0 && !slices.ContainsFunc(lost, func(id string) bool { return slices.Contains(p.Fenced, id) }) {
		return wire.Errorf(wire.Invalid, "every shard has a majority: nothing is to be recovered. What nodes that are gone for good had is made again elsewhere by itself, or at once after `hongyan admin node drain`")
	}
	if err := stillLost(t, answers, lost); err != nil {
		return err
	}
	for _, number := range only {
		i := slices.IndexFunc(p.Shards, func(s ShardPlan) bool { return s.Shard == number })
		if i < 0 {
			return wire.Errorf(wire.Invalid, "there is no shard %d", number)
		}
		if s := p.Shards[i]; s.State == Lives {
			return wire.Errorf(wire.Invalid, "shard %d needs no recovery and gets none: %s", number, s.Why)
		}
	}
	return p.checkShards(answers, lost, only)
}

// stillLost says why nodes must not be given up: one that was not before answers, to whomever.
func stillLost(t *directory.Topology, answers map[string]*Answer, lost []string) error {
	for _, id := range lost {
		n, known := t.Node(id)
		if !known {
			return wire.Errorf(wire.Invalid, "%s is no member of the cluster: `hongyan admin node list` has their ids", id)
		}
		if n.Fenced() {
			continue
		}
		if answers[id].bare() {
			return wire.Errorf(wire.Invalid, "%s runs with an empty disk: stop it, and start it again when the recovery is done; then its data is made anew", id)
		}
		if answers[id] != nil {
			return wire.Errorf(wire.Invalid, "%s answers, so it is not lost: leave it out of --lost, or switch it off for good first", id)
		}
		for by, a := range answers {
			if slices.Contains(a.Reaches, id) {
				return wire.Errorf(wire.Invalid, "%s answers to %s: it is not lost; look after the network between it and this node", id, by)
			}
		}
	}
	return nil
}

func (p *Plan) checkShards(answers map[string]*Answer, lost []string, only []uint32) error {
	wanted := p.wanted(only)
	for _, s := range p.Shards {
		directoryFirst := s.Shard == placement.DirectoryShard && s.State != Lives
		switch {
		case !directoryFirst && !slices.Contains(wanted, s.Shard):
		case s.State == Gone:
			return wire.Errorf(wire.Invalid, "of shard %d nothing is left (%s): bring a node back that has a replica, or stop all nodes and make everything anew from volumes and checkpoints: "+
				"`hongyan volume rebuild --config FILE …` with the files of all storage nodes. Other shards can be recovered alone by --shard", s.Shard, s.Why)
		case s.State == Recover:
			for _, node := range s.Silent {
				if !slices.Contains(lost, node) && !slices.Contains(p.Fenced, node) {
					what := "does not answer"
					if answers[node].bare() {
						what = "has lost its disk"
					}
					return wire.Errorf(wire.Invalid, "shard %d: %s %s and is not declared lost. Bring it back with what it had if that is at all possible; if that is lost for ever, add it to --lost (all: --lost %s)",
						s.Shard, node, what, strings.Join(p.Lost, ","))
				}
			}
			if len(s.Stuck) > 0 {
				return wire.Errorf(wire.Invalid, "shard %d: the replica of %s does not work, and may have more than that of %s: see its /readyz and log, and have it work again. If that cannot be, switch it off for good and add it to --lost, "+
					"with what else it has; other shards can be recovered before by --shard", s.Shard, strings.Join(s.Stuck, ", "), s.Survivor)
			}
		}
	}
	return nil
}

// mayDrive says why a node cannot drive the recovery: it needs a replica of the directory that speaks for itself, which own says, or that goes on alone. One
// that has applied nothing since its start, for want of a leader, comes to it then.
func (p *Plan) mayDrive(self string, own bool) error {
	other := "another node"
	for _, s := range p.Shards {
		if s.Shard == placement.DirectoryShard && s.State == Recover {
			own = own || s.Survivor == self
			other = s.Survivor
		}
	}
	if own {
		return nil
	}
	return wire.Errorf(wire.Invalid, "%s has no replica of the directory that is whole: ask %s", self, other)
}

// wanted lists the shards that are to be recovered. With some named, the others that need it are left alone.
func (p *Plan) wanted(only []uint32) (numbers []uint32) {
	for _, s := range p.Shards {
		if s.State != Lives && (len(only) == 0 || slices.Contains(only, s.Shard)) {
			numbers = append(numbers, s.Shard)
		}
	}
	return numbers
}
