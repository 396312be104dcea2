package scenario

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"hongyan/bench/load"
)

// weight is what a server holds and does at rest.
type weight struct {
	memory uint64  // bytes, proportional set size of all processes
	cores  float64 // busy
}

const (
	agreeing   = 5 // readings that must agree before memory counts as settled
	readEvery  = 400 * time.Millisecond
	agreement  = 0.01
	settleTime = 20 * time.Second
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
		load.Sleep(ctx, took)
		return ctx.Err()
	})
	w.cores = cost.CPU.Seconds() / cost.took.Seconds()
	return err
}

// settledMemory waits until the memory of the server's processes stands still, and gives it: bytes, the median of the readings that agreed. After the
// wait it takes what it sees.
func (e *Env) settledMemory(ctx context.Context) (uint64, error) {
	if err := e.collect(ctx); err != nil {
		return 0, err
	}
	var last []uint64
	for limit := time.Now().Add(settleTime); ; {
		u, err := e.usage()
		if err != nil {
			return 0, err
		}
		last = append(last, u.Memory)
		if len(last) > agreeing {
			last = last[1:]
		}
		least, most := slices.Min(last), slices.Max(last)
		if len(last) == agreeing && float64(most-least) <= agreement*float64(most) || time.Now().After(limit) {
			return slices.Sorted(slices.Values(last))[len(last)/2], nil
		}
		if !load.Sleep(ctx, readEvery) {
			return 0, ctx.Err()
		}
	}
}

// settledHow says what else is done before memory is read.
func settledHow(e *Env) string {
	if e.Lab == nil {
		return ""
	}
	return ", after a garbage collection in each node"
}

// collect lets each node of the lab collect its garbage, so that memory is not what happens to wait for the next collection.
func (e *Env) collect(ctx context.Context) error {
	if e.Lab == nil {
		return nil
	}
	c, err := e.Lab.Cluster()
	if err != nil {
		return err
	}
	for _, n := range c.Nodes {
		if n.PID == 0 {
			continue
		}
		if err := collect(ctx, n.HTTP, c.AdminToken); err != nil {
			return fmt.Errorf("collect the garbage of node %s: %w", n.ID, err)
		}
	}
	return nil
}

func collect(ctx context.Context, base, token string) error {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/api/v1/debug/pprof/heap?gc=1", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the server answers %s", res.Status)
	}
	return nil
}
