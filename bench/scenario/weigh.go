package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"hongyan/cluster/pause"
)

// weight is what a server holds and does at rest.
type weight struct {
	memory uint64  // bytes, as memoryHow says
	cores  float64 // busy
}

const (
	agreeing   = 5 // readings that must agree before memory counts as settled
	readEvery  = 400 * time.Millisecond
	agreement  = 0.01
	settleTime = 10 * time.Second
	settleSoon = 3 * time.Second // in a short run
	restTime   = 4 * time.Second
)

// weigh measures a side at rest: memory once it has settled, and then for a few seconds the processor.
func (c *crowd) weigh(ctx context.Context, w *weight) error {
	memory, err := c.env.settledMemory(ctx)
	if err != nil {
		return err
	}
	w.memory = memory
	took := restTime
	if c.env.Options.Short || c.env.Options.Time > 0 {
		took = time.Second
	}
	cost, _, err := c.env.costs(func() error {
		pause.For(ctx, took)
		return ctx.Err()
	})
	w.cores = cost.CPU.Seconds() / cost.took.Seconds()
	return err
}

// settledMemory waits until the memory of the server's processes stands still, and gives it: bytes, the median of the readings that agreed. After the
// wait it takes what it sees.
func (e *Env) settledMemory(ctx context.Context) (uint64, error) {
	var last []uint64
	wait := settleTime
	if e.Options.Short {
		wait = settleSoon
	}
	for limit := time.Now().Add(wait); ; {
		now, err := e.memory(ctx)
		if err != nil {
			return 0, err
		}
		last = append(last, now)
		if len(last) > agreeing {
			last = last[1:]
		}
		least, most := slices.Min(last), slices.Max(last)
		if len(last) == agreeing && float64(most-least) <= agreement*float64(most) || time.Now().After(limit) {
			return slices.Sorted(slices.Values(last))[len(last)/2], nil
		}
		if !pause.For(ctx, readEvery) {
			return 0, ctx.Err()
		}
	}
}

// memoryHow says what settledMemory reads, for people.
func (e *Env) memoryHow() string {
	how := "proportional set size of all server processes, once five readings within two seconds lay within 1 %"
	if e.Lab != nil {
		how += "; of our nodes after a garbage collection, without the pages that the runtime holds free: it gives them back over minutes, which would drown the growth"
	}
	return how
}

// memory is that of the server's processes: bytes, for the lab's nodes as memoryHow says.
func (e *Env) memory(ctx context.Context) (uint64, error) {
	free, err := e.collect(ctx)
	if err != nil {
		return 0, err
	}
	u, err := e.usage()
	if err != nil {
		return 0, err
	}
	return u.Memory - min(free, u.Memory), nil
}

// collect lets each node of the lab collect its garbage, and gives the bytes that their runtimes then hold without a use for them.
func (e *Env) collect(ctx context.Context) (free uint64, err error) {
	if e.Lab == nil {
		return 0, nil
	}
	c, err := e.Lab.Cluster()
	if err != nil {
		return 0, err
	}
	for _, n := range c.Nodes {
		if n.PID == 0 {
			continue
		}
		bytes, err := collect(ctx, n.HTTP, c.AdminToken)
		if err != nil {
			return 0, fmt.Errorf("collect the garbage of node %s: %w", n.ID, err)
		}
		free += bytes
	}
	return free, nil
}

func collect(ctx context.Context, base, token string) (free uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	profile, err := adminGet(ctx, base+"/api/v1/debug/pprof/heap?gc=1&debug=1", token)
	if err != nil {
		return 0, err
	}
	idle, errIdle := heapFigure(string(profile), "HeapIdle")
	released, errReleased := heapFigure(string(profile), "HeapReleased")
	return idle - min(idle, released), errors.Join(errIdle, errReleased)
}

// heapFigure finds a figure in the text form of a heap profile, such as "# HeapIdle = 4096".
func heapFigure(profile, name string) (uint64, error) {
	_, rest, ok := strings.Cut(profile, "\n# "+name+" = ")
	line, _, _ := strings.Cut(rest, "\n")
	v, err := strconv.ParseUint(line, 10, 64)
	if !ok || err != nil {
		return 0, fmt.Errorf("the heap profile does not tell %s", name)
	}
	return v, nil
}
