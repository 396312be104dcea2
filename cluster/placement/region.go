package placement

import "slices"

// quarters is one region: its nodes, and the groups that have or get replicas there. Once it is known how many replicas of
// a group a region gets, regions have nothing to do with each other.
type quarters struct {
	nodes   []Node
	open    int   // how many of them weigh something, and so may be given replicas
	load    []int // replicas of mailbox shards on each
	led     []int // of those, such as are led from here
	tenants []*tenant
}

// tenant is a group in one region. Nodes are numbers in the region.
type tenant struct {
	quota      int
	held       []int // where it is now: its voters in their order, then its learners
	copies     []int // the directory's learners, which are everywhere and claim nothing
	on         []int // where it should be, the first to lead if the region leads it
	leads      bool  // a mailbox shard that is led from here
	everywhere bool  // the directory: its replicas weigh nothing, for all nodes have one
}

func (q *quarters) add(n Node) {
	q.nodes = append(q.nodes, n)
	q.load = append(q.load, 0)
	q.led = append(q.led, 0)
	if n.Weight > 0 {
		q.open++
	}
}

// settle gives each tenant as many nodes as its quota says: first all stay, then who is too many goes, who lacks one
// gets it, and what is left of unevenness is evened out.
func (q *quarters) settle() {
	for _, t := range q.tenants {
		for _, n := range t.held {
			q.enter(t, n)
		}
	}
	for _, t := range q.tenants {
		for len(t.on) > t.quota {
			q.leave(t, q.heaviest(t))
		}
	}
	for _, leads := range []bool{true, false} { // those that are led from here first, so that the leaders are spread as well
		for _, t := range q.tenants {
			if t.leads == leads {
				q.complete(t)
			}
		}
	}
	q.evenReplicas()
	q.evenLeaders()
}

// complete gives a tenant what it lacks: nodes, and then zones.
func (q *quarters) complete(t *tenant) {
	for len(t.on) < t.quota {
		q.enter(t, q.lightest(t))
	}
	for q.zones(t.on) < q.within(t) {
		to := q.lightest(t) // in a zone that the group is not in yet
		q.leave(t, q.heaviest(t))
		q.enter(t, to)
	}
}

func (q *quarters) enter(t *tenant, n int) {
	t.on = append(t.on, n)
	q.count(t, n, +1)
}

func (q *quarters) leave(t *tenant, n int) {
	t.on = without(t.on, n)
	q.count(t, n, -1)
}

func (q *quarters) count(t *tenant, n, by int) {
	if !t.everywhere {
		q.load[n] += by
	}
	if t.leads {
		q.led[n] += by
	}
}

func without(on []int, n int) []int {
	return slices.DeleteFunc(slices.Clone(on), func(m int) bool { return m == n })
}

// zones counts the zones of some nodes.
func (q *quarters) zones(on []int) int {
	count := 0
	for i, n := range on {
		if q.alone(on[:i], n, q.nodes[n].Zone) {
			count++
		}
	}
	return count
}

// alone says whether none of some nodes but n is in the zone.
func (q *quarters) alone(on []int, n int, zone string) bool {
	return !slices.ContainsFunc(on, func(m int) bool { return m != n && q.nodes[m].Zone == zone })
}

// within is over how many zones the group can be spread here.
func (q *quarters) within(t *tenant) int {
	if t.quota < 2 {
		return t.quota
	}
	var seen []string
	for i, n := range q.nodes {
		if (n.Weight > 0 || slices.Contains(t.on, i)) && !slices.Contains(seen, n.Zone) {
			seen = append(seen, n.Zone)
			if len(seen) == t.quota {
				break
			}
		}
	}
	return len(seen)
}

// heaviest is the node that the group leaves first: one whose zone has another, if there is such; then the one with most replicas
// for its weight; then the last, which is a learner if there are some.
func (q *quarters) heaviest(t *tenant) int {
	pick, double := -1, false
	for _, n := range t.on {
		twice := !q.alone(t.on, n, q.nodes[n].Zone)
		switch {
		case pick >= 0 && double != twice:
			if double {
				continue
			}
		case pick >= 0 && !t.everywhere && q.heavier(pick, n):
			continue
		}
		pick, double = n, twice
	}
	return pick
}

// lightest is the node that the group gets next: one in a zone that it is not in, if there is such; then, for the directory, one that
// has a copy; then the one with the fewest replicas for its weight; then the first of the table.
func (q *quarters) lightest(t *tenant) int {
	pick, rank := -1, 0
	for i, n := range q.nodes {
		if n.Weight <= 0 || slices.Contains(t.on, i) {
			continue
		}
		r := 0
		if !q.alone(t.on, i, n.Zone) {
			r += 2
		}
		if t.everywhere && !slices.Contains(t.copies, i) {
			r++
		}
		if pick < 0 || r < rank || r == rank && !t.everywhere && q.lighter(i, pick) {
			pick, rank = i, r
		}
	}
	return pick
}

// heavier compares what nodes would be rid of by one replica less.
func (q *quarters) heavier(a, b int) bool {
	return (2*q.load[a]-1)*max(q.nodes[b].Weight, 0) > (2*q.load[b]-1)*max(q.nodes[a].Weight, 0)
}

// lighter compares what nodes would have with one replica more.
func (q *quarters) lighter(a, b int) bool {
	return (2*q.load[a]+1)*q.nodes[b].Weight < (2*q.load[b]+1)*q.nodes[a].Weight
}
