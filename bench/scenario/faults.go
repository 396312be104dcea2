package scenario

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"hongyan/bench/lab"
)

// fault is something that is done to a cluster for a time.
type fault struct {
	After time.Duration // since the end of the one before
	For   time.Duration
	Kind  string
	Node  string // or region
	Other string // the other end of a link
	Shape lab.Shape
	Jump  time.Duration // of a clock
}

// Kinds of faults in chaos.
const (
	faultKill    = "kill"     // a process; it is started again at the end
	faultPause   = "pause"    // a process is frozen
	faultIsolate = "isolate"  // a node loses all others
	faultCut     = "cut"      // two nodes lose each other
	faultOneWay  = "one-way"  // what a node sends to another does not arrive
	faultReset   = "reset"    // connections between two nodes break, and new ones are refused
	faultSlow    = "slow"     // a link becomes slow, uneven and loses packets now and then
	faultClock   = "clock"    // a node's clock jumps, and stays wrong until the end
	faultAll     = "kill all" // every process at the same time
	faultDisk    = "disk slow"
	faultFsync   = "disk fails fsync"
	faultHang    = "disk hangs"
	faultPower   = "power cut" // of one node: it loses what it did not fsync
)

// abilities are what a lab can do beyond processes and links.
type abilities struct{ disks, power bool }

// weighted are the kinds with how often they come.
func weighted(can abilities) (kinds []string) {
	add := func(n int, kind string) {
		for range n {
			kinds = append(kinds, kind)
		}
	}
	add(4, faultKill)
	add(3, faultPause)
	add(3, faultIsolate)
	add(2, faultCut)
	add(2, faultOneWay)
	add(2, faultReset)
	add(2, faultSlow)
	add(1, faultClock)
	add(1, faultAll)
	if can.disks {
		add(2, faultDisk)
		add(1, faultFsync)
		add(1, faultHang)
	}
	if can.power {
		add(2, faultPower)
	}
	return kinds
}

// faults makes a plan that fills about the time, the same for the same seed, nodes and abilities.
func faults(seed uint64, nodes []string, took time.Duration, only []string, can abilities) ([]fault, error) {
	if len(nodes) < 2 {
		return nil, errors.New("faults between nodes need two of them")
	}
	kinds := weighted(can)
	if len(only) > 0 {
		for _, k := range only {
			if !slices.Contains(kinds, k) {
				return nil, fmt.Errorf("--kinds %s: expected some of %v", k, slices.Compact(kinds))
			}
		}
		kinds = only
	}
	rng := rand.New(rand.NewPCG(seed, 2))
	between := func(low, high time.Duration) time.Duration { return low + time.Duration(rng.Int64N(int64(high-low))) }
	var plan []fault
	for at := time.Duration(0); ; {
		two := rng.Perm(len(nodes))
		f := fault{After: between(500*time.Millisecond, 3*time.Second), For: between(200*time.Millisecond, 5*time.Second),
			Kind: kinds[rng.IntN(len(kinds))], Node: nodes[two[0]], Other: nodes[two[1]]}
		switch f.Kind {
		case faultSlow:
			f.Shape = lab.Shape{Delay: between(10*time.Millisecond, 200*time.Millisecond), Jitter: 10 * time.Millisecond, Rate: 1 << 20, Late: 0.01, LateBy: time.Second}
		case faultClock:
			f.Jump = between(-25*time.Hour, 25*time.Hour)
		}
		if at += f.After + f.For; at > took {
			return plan, nil
		}
		plan = append(plan, f)
	}
}

// String is what a person reads at the mark.
func (f fault) String() string {
	switch f.Kind {
	case faultAll:
		return f.Kind
	case faultCut, faultOneWay, faultReset, faultSlow:
		return fmt.Sprintf("%s %s–%s", f.Kind, f.Node, f.Other)
	case faultClock:
		return fmt.Sprintf("%s %s %v", f.Kind, f.Node, f.Jump.Round(time.Minute))
	}
	return f.Kind + " " + f.Node
}

// begin does it.
func (f fault) begin(e *Env) error {
	h := e.Lab
	switch f.Kind {
	case faultKill:
		return h.Kill(f.Node)
	case faultAll:
		var err error
		for _, n := range e.Target.Nodes {
			err = errors.Join(err, h.Kill(n.ID))
		}
		return err
	case faultPause:
		return h.Pause(f.Node)
	case faultIsolate:
		return h.Isolate(f.Node)
	case faultCut:
		return h.Cut(f.Node, f.Other, lab.CutOptions{})
	case faultOneWay:
		return h.Cut(f.Node, f.Other, lab.CutOptions{OneWay: true})
	case faultReset:
		return h.Cut(f.Node, f.Other, lab.CutOptions{Reset: true})
	case faultSlow:
		return h.Link(f.Node, f.Other, &f.Shape)
	case faultClock:
		return h.Clock(f.Node, f.Jump)
	case faultDisk:
		return h.Disk(f.Node, lab.DiskFault{Kind: lab.DiskSlow, Delay: 100 * time.Millisecond})
	case faultFsync:
		return h.Disk(f.Node, lab.DiskFault{Kind: lab.DiskFailSync})
	case faultHang:
		return h.Disk(f.Node, lab.DiskFault{Kind: lab.DiskHang})
	case faultPower:
		return h.PowerCut(f.Node)
	}
	return fmt.Errorf("unknown kind of fault %q", f.Kind)
}

// end undoes it.
func (f fault) end(e *Env) error {
	h := e.Lab
	switch f.Kind {
	case faultPause:
		return h.Resume(f.Node)
	case faultIsolate, faultCut, faultOneWay, faultReset:
		return h.Heal()
	case faultSlow:
		return h.Link(f.Node, f.Other, nil)
	case faultClock:
		return h.Clock(f.Node, 0)
	case faultDisk, faultHang:
		return h.Disk(f.Node, lab.DiskFault{Kind: lab.DiskOK})
	case faultFsync: // a volume or log whose fsync failed is not trusted until the process starts again
		return errors.Join(h.Disk(f.Node, lab.DiskFault{Kind: lab.DiskOK}), restart(h, f.Node))
	}
	return e.startAll()
}

// restart starts a node anew, whether it runs or has ended by itself.
func restart(h *lab.Handle, node string) error {
	_ = h.Kill(node) // the only error is that it does not run
	return h.Start(node)
}
