package placement

import (
	"slices"
	"sort"
)

// evenReplicas moves replicas between the nodes of the region until each has its share.
func (q *quarters) evenReplicas() {
	var movable []*tenant
	for _, t := range q.tenants {
		if !t.everywhere && t.quota > 0 {
			movable = append(movable, t)
		}
	}
	e := newEvener(q.nodes, q.load, len(movable), func(i int) []int { return movable[i].on })
	e.can = func(i, from, to int) bool {
		t := movable[i]
		return !slices.Contains(t.on, to) && (!q.alone(t.on, from, q.nodes[from].Zone) || q.alone(t.on, from, q.nodes[to].Zone))
	}
	// Of equals the one moves that is not there yet, and back to where it is still rather than to where it has never been;
	// then one that brings the number of leaders nearer.
	e.cost = func(i, from, to int) (cost int) {
		t := movable[i]
		if slices.Contains(t.held, from) {
			cost += 2
		}
		if slices.Contains(t.held, to) {
			cost -= 2
		}
		if t.leads == (q.led[from]*q.nodes[to].Weight < q.led[to]*q.nodes[from].Weight) {
			cost++
		}
		return cost
	}
	e.move = func(i, from, to int) {
		q.leave(movable[i], from)
		q.enter(movable[i], to)
	}
	e.run()
}

// evenLeaders chooses which voter comes first in the groups that are led from here. That moves no replica.
func (q *quarters) evenLeaders() {
	var led []*tenant
	load := make([]int, len(q.nodes))
	for _, t := range q.tenants {
		if t.leads && len(t.on) > 0 {
			led = append(led, t)
			load[t.on[0]]++
		}
	}
	e := newEvener(q.nodes, load, len(led), func(i int) []int { return led[i].on[:1] })
	e.can = func(i, _, to int) bool { return slices.Contains(led[i].on, to) }
	e.cost = func(int, int, int) int { return 0 }
	e.move = func(i, from, to int) {
		led[i].on = append([]int{to}, without(led[i].on, to)...)
		load[from]--
		load[to]++
	}
	e.run()
}

// evener spreads things over nodes by weight: replicas over the nodes of a region, leaders over replicas.
//
// A thing moves from a node to another if one of them is due, which means a whole thing or more off its share, and if the
// move makes the load more even. That is Webster's way of giving out seats: the sum over nodes of load²/weight falls with
// each move, so the moves come to an end, and what they end in is left alone the next time. Nodes less than one thing off
// stay as they are: a share that changes by a fraction moves nothing.
//
// Nodes that weigh nothing neither give nor take.
type evener struct {
	nodes []Node
	load  []int
	on    [][]int // the things on each node, in their order
	share []int   // of each node, in parts of a thing
	parts int     // of one thing

	can  func(thing, from, to int) bool // whether the rules that come before weights allow it
	cost func(thing, from, to int) int  // the cheapest goes
	move func(thing, from, to int)      // keeps load
}

// newEvener takes over how many things each node has. of says on which nodes a thing is.
func newEvener(nodes []Node, load []int, things int, of func(thing int) []int) *evener {
	e := &evener{nodes: nodes, load: load, on: make([][]int, len(nodes))}
	for i := range things {
		for _, n := range of(i) {
			e.on[n] = append(e.on[n], i)
		}
	}
	e.divide(things)
	return e
}

// divide computes the shares. No node can have more than one of each thing: what is too much for one is for the others.
func (e *evener) divide(most int) {
	e.share, e.parts = make([]int, len(e.nodes)), 1
	full := make([]bool, len(e.nodes))
	for again := true; again; {
		left, weight := 0, 0
		for i, n := range e.nodes {
			switch {
			case n.Weight <= 0:
			case full[i]:
				left += e.load[i] - most
			default:
				left += e.load[i]
				weight += n.Weight
			}
		}
		e.parts, again = max(weight, 1), false
		for i, n := range e.nodes {
			if e.share[i] = left * n.Weight; full[i] {
				e.share[i] = most * e.parts
			} else if n.Weight > 0 && e.share[i] > most*e.parts {
				full[i], again = true, true
			}
		}
	}
}

func (e *evener) run() {
	for e.step() {
	}
}

// step makes one move, or says that there is none. Where no thing can go from one node to another straight away, one goes to a
// third, which gives another.
func (e *evener) step() bool {
	from, to := e.sorted()
	return e.pair(from, to, e.shift) || e.pair(from, to, e.around())
}

// pair tries pairs of nodes between which something should move, the most uneven first.
func (e *evener) pair(from, to []int, try func(a, b int) bool) bool {
	for _, a := range from {
		for _, b := range to {
			if !e.better(a, b) {
				break
			}
			if e.due(a, b) && try(a, b) {
				return true
			}
		}
	}
	return false
}

// sorted lists the nodes that weigh something, the fullest first and the emptiest first.
func (e *evener) sorted() (from, to []int) {
	for i, n := range e.nodes {
		if n.Weight > 0 {
			from = append(from, i)
		}
	}
	to = slices.Clone(from)
	sort.SliceStable(from, func(i, j int) bool {
		a, b := from[i], from[j]
		return (2*e.load[a]-1)*e.nodes[b].Weight > (2*e.load[b]-1)*e.nodes[a].Weight
	})
	sort.SliceStable(to, func(i, j int) bool {
		a, b := to[i], to[j]
		return (2*e.load[a]+1)*e.nodes[b].Weight < (2*e.load[b]+1)*e.nodes[a].Weight
	})
	return from, to
}

// better says whether a thing less at a and one more at b lowers the sum.
func (e *evener) better(a, b int) bool {
	return (2*e.load[a]-1)*e.nodes[b].Weight > (2*e.load[b]+1)*e.nodes[a].Weight
}

func (e *evener) due(a, b int) bool {
	return (e.load[a]-1)*e.parts >= e.share[a] || (e.load[b]+1)*e.parts <= e.share[b]
}

// find is the thing that goes from a to b at the lowest cost, of equals the last; -1 if none can.
func (e *evener) find(a, b int) int {
	found, least := -1, 0
	for _, i := range e.on[a] {
		if !e.can(i, a, b) {
			continue
		}
		if cost := e.cost(i, a, b); found < 0 || cost <= least {
			found, least = i, cost
		}
	}
	return found
}

func (e *evener) shift(a, b int) bool {
	i := e.find(a, b)
	if i >= 0 {
		e.carry(i, a, b)
	}
	return i >= 0
}

// around tries detours. Which way is open from a is found out once: a node that is full because of its zone has none, and many things.
func (e *evener) around() func(a, b int) bool {
	open := make(map[int][]int)
	return func(a, b int) bool {
		if _, ok := open[a]; !ok {
			open[a] = nil
			for c, n := range e.nodes {
				if n.Weight > 0 && c != a && e.find(a, c) >= 0 {
					open[a] = append(open[a], c)
				}
			}
		}
		for _, c := range open[a] {
			if c == b {
				continue
			}
			if j := e.find(c, b); j >= 0 { // another thing than goes from a to c, for that is not on c
				i := e.find(a, c)
				e.carry(j, c, b)
				e.carry(i, a, c)
				return true
			}
		}
		return false
	}
}

func (e *evener) carry(i, from, to int) {
	e.move(i, from, to)
	e.on[from] = without(e.on[from], i)
	at, _ := slices.BinarySearch(e.on[to], i)
	e.on[to] = slices.Insert(e.on[to], at, i)
}
