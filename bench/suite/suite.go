// Package suite is `hongyan bench`: it finds or starts the system under test, runs scenarios one after the other, judges what came out and
// writes the report.
//
// The report is written also when a scenario failed or the run was interrupted; it then says so and has not passed. A cluster that the suite started
// itself is stopped at its end, and its folder removed unless something failed or was violated, or --keep says otherwise.
package suite

import (
	"flag"
	"io"
	"log/slog"

	"hongyan/bench/scenario"
)

// Suite is what main gives.
type Suite struct {
	Version string
	Out     io.Writer // results
	Err     io.Writer // progress
	Log     *slog.Logger
}

// flags are those of every scenario.
type flags struct {
	dir, regions, wan, report, objectives, peer, out string
	boxes                                            int
	disks, keep                                      bool
	require                                          []string
	server                                           server
	options                                          scenario.Options
}

const scenarioFlags = `  --dir DIR            the development cluster that runs there
` + serverFlags + `                       Without --dir and --target, a cluster of its own is started for the run:
  --regions LIST       its nodes (south-china=1,north-china=1,overseas=1)
  --wan WAN            its delays, as for hongyan dev (none)
  --boxes N            its accounts (200)
  --disks              gives its nodes disks of their own, for full disks and power cuts (needs root)
  --old PROGRAM        its nodes run an earlier hongyan; grow updates them in its last step
  --keep               leaves its folder behind
  --peer FILE          YAML that describes another server, which gets the same load in turns (docs/bench.md)
  --report OUT         folder of report.json, report.md and report.html (hongyan-bench)
  --objectives FILE    YAML in place of the built-in objectives (docs/bench.md)
  --require ID,…       objectives that count as missed when they were not measured
  --time D             how long each phase is measured, such as 30s
  --short, --long      a few seconds each, or several minutes, where --time says nothing
  --runs N             repetitions of each fault
  --seed N             of everything random; without it a new one, which the report names
  --connections N,…    of closed loops, a phase for each
  --size BYTES         of every message, in place of the mix of sizes
  --rate R             a second, of open loops
  --sessions N         simulated users
  --messages N         in the large mailbox
  --kinds KIND,…       only these faults, protocols or steps; a wrong one is answered with the list
`

func (f *flags) define(fs *flag.FlagSet) {
	fs.StringVar(&f.dir, "dir", "", "")
	f.server.define(fs)
	fs.StringVar(&f.regions, "regions", "", "")
	fs.StringVar(&f.wan, "wan", "", "")
	fs.IntVar(&f.boxes, "boxes", 200, "")
	fs.BoolVar(&f.disks, "disks", false, "")
	fs.BoolVar(&f.keep, "keep", false, "")
	fs.StringVar(&f.peer, "peer", "", "")
	fs.StringVar(&f.report, "report", "hongyan-bench", "")
	fs.StringVar(&f.objectives, "objectives", "", "")
	fs.Var((*words)(&f.require), "require", "")
	o := &f.options
	fs.DurationVar(&o.Time, "time", 0, "")
	fs.BoolVar(&o.Short, "short", false, "")
	fs.BoolVar(&o.Long, "long", false, "")
	fs.IntVar(&o.Runs, "runs", 0, "")
	fs.Uint64Var(&o.Seed, "seed", 0, "")
	fs.Var((*numbers)(&o.Connections), "connections", "")
	fs.IntVar(&o.Size, "size", 0, "")
	fs.Float64Var(&o.Rate, "rate", 0, "")
	fs.IntVar(&o.Sessions, "sessions", 0, "")
	fs.IntVar(&o.Messages, "messages", 0, "")
	fs.Var((*words)(&o.Kinds), "kinds", "")
	fs.StringVar(&o.Old, "old", "", "")
	o.Planning.Define(fs)
}
