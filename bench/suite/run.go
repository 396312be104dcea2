package suite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"hongyan/bench/lab"
	"hongyan/bench/load"
	"hongyan/bench/measure"
	"hongyan/bench/report"
	"hongyan/bench/scenario"
	"hongyan/cluster/command"
)

// measure runs some scenarios and writes the report. Its error says what did not hold.
//
// Steps: 1 read everything that could be wrong with the flags, 2 find or start the system, 3 run, 4 judge, 5 write, 6 stop what was started.
func (s *Suite) measure(ctx context.Context, f *flags, name string, list []scenario.Scenario) (err error) {
	objectives, err := f.judge()
	if err != nil {
		return err
	}
	if name == "all" && len(f.options.Kinds) > 0 {
		return command.Usagef("--kinds is for one scenario: each has kinds of its own")
	}
	if name != "all" {
		if err := list[0].Choose(f.options.Kinds); err != nil {
			return command.UsageError{Err: err}
		}
	}
	var peer *scenario.Env
	if f.peer != "" {
		described, err := readServer(f.peer)
		if err != nil {
			return err
		}
		if peer, err = described.env(); err != nil {
			return err
		}
	}
	if f.options.Seed == 0 {
		f.options.Seed = rand.Uint64N(1 << 32)
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	progress := scenario.NewProgress(s.Err, terminal(s.Err))
	defer progress.Close()
	env, own, err := s.system(ctx, f, list, progress)
	if err != nil {
		return err
	}
	env.Peer = peer
	for _, e := range []*scenario.Env{env, peer} {
		if e != nil {
			e.Options, e.Progress, e.Log, e.Report = f.options, progress, s.Log, f.report
		}
	}
	whole := false
	defer func() { err = errors.Join(err, own.close(whole && !f.keep)) }()
	r := s.begin(name, f, env)
	s.runAll(ctx, r, env, list, name == "all")
	r.Seconds = time.Since(r.Started).Seconds()
	if err := report.Judge(r, objectives, f.require); err != nil {
		return err
	}
	if err := report.Write(f.report, r); err != nil {
		return err
	}
	whole = sound(r)
	fmt.Fprint(s.Out, digest(r))
	fmt.Fprintf(s.Out, "\n%s\n", filepath.Join(f.report, "report.html"))
	return verdict(r)
}

// judge reads the objectives.
func (f *flags) judge() (list []report.Objective, err error) {
	if f.objectives == "" {
		list, err = report.DefaultObjectives()
	} else {
		list, err = report.ReadObjectives(f.objectives)
	}
	if err != nil {
		return nil, err
	}
	if err := report.CheckRequired(list, f.require); err != nil {
		return nil, command.UsageError{Err: fmt.Errorf("--require: %w", err)}
	}
	return list, nil
}

// begin is a report with its heading.
func (s *Suite) begin(name string, f *flags, env *scenario.Env) *report.Report {
	r := &report.Report{Schema: report.Schema, Scenario: name, Started: time.Now(), Version: s.Version, Machine: measure.Machine(dataDir(env))}
	set := func(name, value string) { r.Settings = append(r.Settings, report.Setting{Name: name, Value: value}) }
	set("target", env.Describe())
	if env.Peer != nil {
		set("beside it", env.Peer.Describe())
	}
	set("seed", fmt.Sprint(f.options.Seed))
	set("sizes", f.options.Sizes())
	return r
}

// dataDir is a folder on the disk that the system keeps its mail on, or the one we are in.
func dataDir(env *scenario.Env) string {
	if dirs, err := env.Folders(); err == nil && len(dirs) > 0 {
		return dirs[0]
	}
	return "."
}

// runAll runs the scenarios, each after the other, also when one fails. What a lab is missing for is left out of `all`.
func (s *Suite) runAll(ctx context.Context, r *report.Report, env *scenario.Env, list []scenario.Scenario, all bool) {
	for i, sc := range list {
		if all {
			why := sc.Missing(env)
			if sc.Alone {
				why = "it changes who is in the cluster, and runs alone"
			}
			if why != "" {
				env.Progress.Say("%s is left out: %s", sc.Name, why)
				continue
			}
		}
		if ctx.Err() != nil {
			r.Sections = append(r.Sections, report.Section{Scenario: sc.Name, Title: sc.Name, Started: time.Now(), Failed: "not run: interrupted"})
			continue
		}
		env.Progress.Begin(sc.Name, i+1, len(list), sc.Expected(env.Options))
		r.Sections = append(r.Sections, sc.Section(ctx, env))
	}
}

// sound says that nothing went wrong which somebody would want to look into the cluster's folder for: a floor that was missed is not that.
func sound(r *report.Report) bool {
	return !slices.ContainsFunc(r.Sections, func(s report.Section) bool { return s.Failed != "" || len(s.Violations) > 0 })
}

// verdict is nil when all objectives that were checked hold.
func verdict(r *report.Report) error {
	if r.Passed {
		return nil
	}
	var why []string
	for _, v := range r.Verdicts {
		if v.Result == report.Missed {
			why = append(why, v.Metric)
		}
	}
	for _, s := range r.Sections {
		if s.Failed != "" {
			why = append(why, fmt.Sprintf("%s: %s", s.Scenario, s.Failed))
		}
		if n := len(s.Violations); n > 0 {
			why = append(why, fmt.Sprintf("%s: %d violations", s.Scenario, n))
		}
	}
	return fmt.Errorf("not passed: %s", strings.Join(why, "; "))
}

// diskSize is that of each node's disk with --disks.
const diskSize = 4 << 30

// owned is a cluster that the suite started for itself. The zero value is none.
type owned struct {
	handle *lab.Handle
	dir    string
}

// close stops it, and removes its folder if that is wanted.
func (o *owned) close(remove bool) error {
	if o.handle == nil {
		return nil
	}
	err := o.handle.Close()
	if err != nil || !remove {
		return err
	}
	if err := os.RemoveAll(o.dir); err != nil {
		return fmt.Errorf("remove the cluster of the run: %w", err)
	}
	return nil
}

// system finds or starts what is measured.
func (s *Suite) system(ctx context.Context, f *flags, list []scenario.Scenario, progress *scenario.Progress) (env *scenario.Env, own *owned, err error) {
	own = new(owned)
	switch from := f.options.Planning.From; {
	case from != "" && len(list) == 1:
		return &scenario.Env{Target: load.Target{Name: "costs of " + from}, Note: "nothing was measured now"}, own, nil
	case f.options.Old != "" && (f.dir != "" || f.server.given()):
		return nil, nil, command.Usagef("--old is for a cluster that is started for the run, without --dir and --target")
	case f.dir != "" && f.server.given():
		return nil, nil, command.Usagef("--dir and --target: expected one of them")
	case f.server.given():
		env, err = f.server.env()
	case f.dir != "":
		env, err = attach(f.dir)
	default:
		env, own, err = s.launch(ctx, f, list, progress)
	}
	if err != nil {
		return nil, nil, err
	}
	if len(list) == 1 {
		if why := list[0].Missing(env); why != "" {
			return nil, nil, errors.Join(command.Usagef("%s", why), own.close(true))
		}
	}
	return env, own, nil
}

func attach(dir string) (*scenario.Env, error) {
	h, err := lab.Attach(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no cluster is ready in %s (start one with `hongyan dev --dir %s`): %w", dir, dir, err)
	}
	if err != nil {
		return nil, err
	}
	return labEnv(h)
}

func labEnv(h *lab.Handle) (*scenario.Env, error) {
	c, err := h.Cluster()
	if err != nil {
		return nil, err
	}
	t, err := load.FromCluster(c)
	if err != nil {
		return nil, err
	}
	return &scenario.Env{Target: t, Lab: h}, nil
}

// launch starts a cluster for this run only. It is one whose volumes age quickly only for a scenario that is alone and wants that.
func (s *Suite) launch(ctx context.Context, f *flags, list []scenario.Scenario, progress *scenario.Progress) (*scenario.Env, *owned, error) {
	o := lab.LaunchOptions{Accounts: f.boxes, WAN: f.wan, Restart: lab.Never, Program: f.options.Old}
	if f.regions != "" {
		var err error
		if o.Regions, err = lab.ParseRegions(f.regions); err != nil {
			return nil, nil, command.UsageError{Err: fmt.Errorf("--regions: %w", err)}
		}
	}
	dir, err := os.MkdirTemp("", "hongyan-bench-")
	if err != nil {
		return nil, nil, fmt.Errorf("make folder for the cluster of the run: %w", err)
	}
	o.Dir = dir
	if len(list) == 1 && list[0].Settle != nil {
		o.Settle = list[0].Settle(f.options)
	}
	if f.disks {
		o.DiskSize, o.DiskFaults = diskSize, true
	}
	log, err := os.Create(filepath.Join(dir, "dev.log"))
	if err != nil {
		return nil, nil, fmt.Errorf("open log of the cluster of the run: %w", err)
	}
	o.Log = log
	progress.Say("starting a cluster in %s", dir)
	h, err := lab.Launch(ctx, o)
	unlogged := log.Close() // the child has its own
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("%w (its log: %s)", err, log.Name()), unlogged)
	}
	own := &owned{h, dir}
	if unlogged != nil {
		return nil, nil, errors.Join(unlogged, own.close(false))
	}
	env, err := labEnv(h)
	if err != nil {
		return nil, nil, errors.Join(err, own.close(false))
	}
	return env, own, nil
}
