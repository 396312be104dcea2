// Package scenario holds the drills and measurements of the bench suite. Each one drives a target with load, may hurt the lab's cluster meanwhile,
// and gives a section of the report.
//
// A scenario changes a cluster only through the lab, and leaves it whole: faults are undone also when it fails or is cut short. Mail that it sent stays.
// What it says was measured on the target that it was given; what it needs and does not get is an error, never a guess.
package scenario

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"hongyan/bench/lab"
	"hongyan/bench/load"
	"hongyan/bench/measure"
	"hongyan/bench/report"
)

// Scenario is one of the suite's.
type Scenario struct {
	Name    string
	Summary string        // one line
	Lab     bool          // needs a cluster of the lab, since it hurts it or looks inside
	Alone   bool          // leaves a cluster of other nodes than it found, so that none can follow: `all` leaves it out
	Reads   bool          // needs IMAP
	Takes   time.Duration // about, with the default options
	Kinds   []string      // that Options.Kinds may choose from, some only of a system that can do so; nil: there is nothing to choose
	// Settle is LaunchOptions.Settle of a cluster that is started for this scenario alone; nil: the lab's own times.
	Settle func(Options) time.Duration
	Run    func(context.Context, *Env) (*report.Section, error)
}

// All are the scenarios in the order in which `all` runs them: those that leave mail behind which others would wade through come late.
func All() []Scenario {
	return []Scenario{
		delivery, reading, idle, failover, chaos, recovery, storage, capacityPlan, mailbox, soak, grow,
	}
}

// Options are what a person chose. Zero values mean the scenario's own.
type Options struct {
	Time        time.Duration // that each phase is measured
	Runs        int           // repetitions of a fault
	Seed        uint64        // of everything random; printed, and the same again with the same
	Connections []int         // of closed loops, one phase for each
	Size        int           // bytes of every message; 0: the mix of bench/mail
	Rate        float64       // messages or operations a second of open loops
	Sessions    int           // simulated users
	Messages    int           // in the large mailbox
	Kinds       []string      // of faults, protocols or phases; all when empty
	Planning    Planning      // for capacity
	Old         string        // an older program that the nodes of a cluster of the run's own begin with; grow updates them
	Long        bool          // minutes where it would be seconds
	Short       bool          // as little as still says something
}

// Env is what a scenario works with.
type Env struct {
	Target   load.Target
	Lab      *lab.Handle // nil: a server that is not ours
	PIDs     []int       // of a server that is not ours; its children count too. The lab's are read from cluster.json
	Data     []string    // folders of a server that is not ours
	Note     string      // what a reader must know of a server that is not ours
	Peer     *Env        // another server, measured with the same load in the same run; nil: none
	Options  Options
	Report   string // folder, for what does not fit into the report
	Progress *Progress
	Log      *slog.Logger
}

// Missing says what the scenario needs and does not get from the target; empty when nothing.
func (s Scenario) Missing(e *Env) string {
	switch {
	case s.Lab && e.Lab == nil:
		return "it needs a cluster of the lab (--dir, or one of its own without --target)"
	case s.Reads && !slices.ContainsFunc(e.Target.Nodes, func(n load.Node) bool { return n.IMAP+n.IMAPS != "" }):
		return "it needs --imap"
	case len(spoken(e.Target)) == 0:
		return "it needs --target lmtp://… or smtp://…"
	case !s.Lab && e.Lab == nil && len(e.Target.Accounts) == 0:
		return "it needs --accounts"
	}
	return ""
}

// Section runs the scenario. What fails it is in the section.
func (s Scenario) Section(ctx context.Context, e *Env) report.Section {
	began := time.Now()
	out, err := s.guarded(ctx, e)
	if out == nil {
		out = &report.Section{Title: s.Summary}
	}
	out.Scenario, out.Started, out.Seconds = s.Name, began, time.Since(began).Seconds()
	var why []string
	for _, w := range []string{interrupted(ctx), out.Failed, text(err)} {
		if w != "" {
			why = append(why, w)
		}
	}
	out.Failed = strings.Join(why, "; ")
	return *out
}

func interrupted(ctx context.Context) string {
	if ctx.Err() != nil {
		return "interrupted"
	}
	return ""
}

func text(err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}

// guarded keeps a fault of the scenario's own from taking the report of all others with it, and from leaving a cluster broken.
func (s Scenario) guarded(ctx context.Context, e *Env) (out *report.Section, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("a fault of the scenario: %v\n%s", p, debug.Stack())
			if e.Lab != nil {
				err = errors.Join(err, e.whole())
			}
		}
	}()
	return s.Run(ctx, e)
}

// Expected is about how long the scenario takes with these options.
func (s Scenario) Expected(o Options) time.Duration {
	switch {
	case o.Time > 0 || o.Runs > 0:
		return 0 // nobody knows
	case o.Short:
		return s.Takes / 4
	case o.Long:
		return 6 * s.Takes
	}
	return s.Takes
}

// Sizes are the sizes of messages, for people.
func (o Options) Sizes() string {
	if o.Size > 0 {
		return fmt.Sprintf("every message %d bytes", o.Size)
	}
	return "a mix like real mail, 35 kB in the mean (bench/mail)"
}

// Describe is the target for people.
func (e *Env) Describe() string {
	if e.Lab == nil {
		return strings.TrimSpace(e.Target.Name + ", a server of its own; " + cmp.Or(e.Note, "nothing is known of how many copies it keeps"))
	}
	regions := make(map[string]int)
	var order []string
	for _, n := range e.Target.Nodes {
		if regions[n.Region]++; regions[n.Region] == 1 {
			order = append(order, n.Region)
		}
	}
	parts := make([]string, len(order))
	for i, r := range order {
		parts[i] = fmt.Sprintf("%s=%d", r, regions[r])
	}
	return fmt.Sprintf("hongyan, %d nodes (%s) in processes on one machine, two copies of the bytes, three of the index, all fsynced, encrypted, %s",
		len(e.Target.Nodes), strings.Join(parts, ","), e.delays())
}

// Measured says whether the server's processes can be looked at.
func (e *Env) Measured() bool { return e.Lab != nil || len(e.PIDs) > 0 }

// pids are the server's processes that run now.
func (e *Env) pids() ([]int, error) {
	if e.Lab == nil {
		return e.PIDs, nil
	}
	c, err := e.Lab.Cluster()
	if err != nil {
		return nil, err
	}
	var out []int
	for _, n := range c.Nodes {
		if n.PID != 0 {
			out = append(out, n.PID)
		}
	}
	return out, nil
}

// usage is what the server's processes have used.
func (e *Env) usage() (measure.Usage, error) {
	pids, err := e.pids()
	if err != nil {
		return measure.Usage{}, err
	}
	return measure.Processes(pids...)
}

// Folders are those of the server's data.
func (e *Env) Folders() ([]string, error) {
	if e.Lab == nil {
		return e.Data, nil
	}
	c, err := e.Lab.Cluster()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, n := range c.Nodes {
		out = append(out, n.Data)
	}
	return out, nil
}

// metrics adds up those of all nodes of the lab.
func (e *Env) metrics(ctx context.Context) (measure.Metrics, error) {
	c, err := e.Lab.Cluster()
	if err != nil {
		return nil, err
	}
	var bases []string
	for _, n := range c.Nodes {
		if n.PID != 0 {
			bases = append(bases, n.HTTP)
		}
	}
	return measure.Scrape(ctx, bases...)
}

// time is how long a phase is measured: what a person chose, or a scenario's own, shorter or longer.
func (o Options) time(own time.Duration) time.Duration {
	switch {
	case o.Time > 0:
		return o.Time
	case o.Short:
		return max(own/4, 3*time.Second)
	case o.Long:
		return 6 * own
	}
	return own
}

// kinds are those that a person chose among the ones there are.
// Choose judges Options.Kinds before anything runs.
func (s Scenario) Choose(kinds []string) error {
	for _, k := range kinds {
		if len(s.Kinds) == 0 {
			return fmt.Errorf("--kinds %s: %s has none to choose from", k, s.Name)
		}
		if !slices.Contains(s.Kinds, k) {
			return fmt.Errorf("--kinds %s: expected some of %v", k, s.Kinds)
		}
	}
	return nil
}

func (o Options) kinds(all ...string) ([]string, error) {
	if len(o.Kinds) == 0 {
		return all, nil
	}
	for _, k := range o.Kinds {
		if !slices.Contains(all, k) {
			return nil, fmt.Errorf("--kinds %s: expected some of %v", k, all)
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(o.Kinds))), nil
}
