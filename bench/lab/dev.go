package lab

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"hongyan/bench/disk"
	"hongyan/cluster/command"
	"hongyan/cluster/directory"
)

// Usage is the help of `hongyan dev`.
const Usage = `  hongyan dev [flags]                   run a cluster on this machine, in the foreground
  hongyan dev status [--json]           its nodes, shards and volumes, and what is broken on purpose
  hongyan dev kill|stop|start NODE      end a node at once or gently, start it again; start --program FILE: with another program
  hongyan dev pause|resume NODE         freeze a node, and let it go on
  hongyan dev add REGION [--weight 10] [--roles storage,frontend]
                                        one node more, and its id; the region may be a new one
  hongyan dev remove NODE               clear away a node that ` + "`hongyan admin node remove`" + ` took out of the cluster
  hongyan dev wipe NODE                 a node that is down loses its disk; after its start its data is made anew
  hongyan dev cut A [B] [--one-way] [--reset]
                                        no traffic between A and B, each a node or a region; without B, between A and all others
  hongyan dev heal                      undo every cut
  hongyan dev link A B [--delay 50ms] [--jitter 5ms] [--rate 10MB] [--late 1%:1s] [--clear]
                                        shape both ways between A and B, or make them what --wan says again
  hongyan dev disk NODE slow DURATION|fail-fsync|hang|full [BYTES_LEFT]|ok
                                        break a node's disk, or mend it
  hongyan dev power-cut [NODE…] [--stay-down]
                                        take the power from nodes, or from all: what was not fsynced is lost
  hongyan dev clock NODE +1h|-10m|0     make a node's clock wrong, or right
`

// RunUsage is the help of the flags with which a cluster is run.
const RunUsage = `Flags of dev:
  --dir DIR            folder that the cluster lives in (.hongyan)
  --port-base N        first port of the first node (20000)
  --accounts N         make sure of accounts u0001@example.test to N, password "secret" (3)
  --restart POLICY     on-failure or never (on-failure)
  --regions LIST       nodes in each region (south-china=1,north-china=1,overseas=1)
  --wan DELAYS         round trips between regions: none, china, or a list A:B=40ms,A:C=160ms (none)
  --disk-size SIZE     each node gets a file system of its own, such as 600MB (root only, at the first start)
  --disk-faults        fsyncs of the nodes pass the lab, which can hold or fail them; costs about 0.1 ms each
  --no-relay           nodes dial one another directly: nothing to cut or shape, and nothing that costs
  --program FILE       what the nodes run, such as an earlier hongyan; this program itself if absent
  --settle TIME        volumes take no more mail after that time, and turn cold that much later (10m and 5m)
`

// Call is one call of `hongyan dev`.
type Call struct {
	Args    []string
	Out     io.Writer
	Log     *slog.Logger
	Signals func() <-chan os.Signal // taken only to run a cluster; see Run
	Ready   func(*Cluster)          // see Options
	Help    func() error            // prints the whole help
}

// flags are those of all words together: they may stand before the word.
type flags struct {
	dir, restart, regions, wan     string
	portBase, accounts             int
	asJSON, oneWay, reset, noRelay bool
	delay, jitter, settle          time.Duration
	rate, late                     string
	clear, diskFaults, stayDown    bool
	diskSize, roles, program       string
	weight                         uint
}

func (f *flags) set() *flag.FlagSet {
	fs := flag.NewFlagSet("dev", flag.ContinueOnError)
	fs.StringVar(&f.dir, "dir", ".hongyan", "")
	fs.IntVar(&f.portBase, "port-base", 20000, "")
	fs.IntVar(&f.accounts, "accounts", 3, "")
	fs.StringVar(&f.restart, "restart", string(OnFailure), "")
	fs.StringVar(&f.regions, "regions", formatRegions(DefaultRegions()), "")
	fs.StringVar(&f.wan, "wan", wanNone, "")
	fs.BoolVar(&f.noRelay, "no-relay", false, "")
	fs.DurationVar(&f.settle, "settle", 0, "")
	fs.StringVar(&f.program, "program", "", "")
	fs.BoolVar(&f.asJSON, "json", false, "")
	fs.BoolVar(&f.oneWay, "one-way", false, "")
	fs.BoolVar(&f.reset, "reset", false, "")
	fs.DurationVar(&f.delay, "delay", 0, "")
	fs.DurationVar(&f.jitter, "jitter", 0, "")
	fs.StringVar(&f.rate, "rate", "", "")
	fs.StringVar(&f.late, "late", "", "")
	fs.BoolVar(&f.clear, "clear", false, "")
	fs.StringVar(&f.diskSize, "disk-size", "", "")
	fs.BoolVar(&f.diskFaults, "disk-faults", false, "")
	fs.BoolVar(&f.stayDown, "stay-down", false, "")
	fs.UintVar(&f.weight, "weight", directory.DefaultWeight, "")
	fs.StringVar(&f.roles, "roles", "storage,frontend", "")
	return fs
}

// flagsOf are the flags of each word, besides --dir.
func flagsOf(word string) []string {
	switch word {
	case "":
		return []string{"port-base", "accounts", "restart", "regions", "wan", "no-relay", "disk-size", "disk-faults", "settle", "program"}
	case string(verbStart):
		return []string{"program"}
	case wordStatus:
		return []string{"json"}
	case wordCut:
		return []string{"one-way", "reset"}
	case wordLink:
		return []string{"delay", "jitter", "rate", "late", "clear"}
	case wordPowerCut:
		return []string{"stay-down"}
	case wordAdd:
		return []string{"weight", "roles"}
	}
	return nil
}

// Dev runs a cluster, or acts on the one that runs.
func Dev(c Call) error {
	var f flags
	fs := f.set()
	words, err := command.Parse(fs, c.Args)
	if errors.Is(err, flag.ErrHelp) {
		return c.Help()
	}
	if err != nil {
		return err
	}
	word := ""
	if len(words) > 0 {
		word, words = words[0], words[1:]
	}
	fs.Visit(func(g *flag.Flag) {
		if g.Name != "dir" && !slices.Contains(flagsOf(word), g.Name) {
			err = command.Usagef("%s: --%s does not belong here; see `hongyan help`", strings.TrimSpace("dev "+word), g.Name)
		}
	})
	switch {
	case err != nil:
		return err
	case word == "":
		return f.run(c)
	}
	return f.act(c, word, words)
}

func (f *flags) run(c Call) error {
	if f.restart != string(OnFailure) && f.restart != string(Never) {
		return command.Usagef("--restart %q: expected %s or %s", f.restart, OnFailure, Never)
	}
	if f.accounts < 0 || f.accounts > MaxAccounts {
		return command.Usagef("--accounts %d: expected 0 to %d", f.accounts, MaxAccounts)
	}
	regions, err := ParseRegions(f.regions)
	if err != nil {
		return command.Usagef("--regions: %w", err)
	}
	wan, err := ParseWAN(f.wan, regions)
	if err == nil && f.noRelay && wan != nil {
		err = errors.New("delays need the relays that --no-relay leaves out")
	}
	if err != nil {
		return command.Usagef("--wan: %w", err)
	}
	var size int64
	if f.diskSize != "" {
		if size, err = ParseBytes(f.diskSize); err != nil || size < disk.MinSize || size > disk.MaxSize {
			return command.Usagef("--disk-size %q: expected %dMB to %dGB", f.diskSize, disk.MinSize>>20, disk.MaxSize>>30)
		}
	}
	if f.settle != 0 && (f.settle < minSettle || f.settle > maxSettle || f.settle%time.Second != 0) {
		return command.Usagef("--settle %v: expected whole seconds, from %v to %v", f.settle, minSettle, maxSettle)
	}
	program, err := findProgram(f.program)
	if err != nil {
		return err
	}
	return Run(Options{
		Program: program, DiskSize: size, DiskFaults: f.diskFaults, Settle: f.settle,
		Dir: f.dir, PortBase: f.portBase, Accounts: f.accounts, Restart: Restart(f.restart), Regions: regions, WAN: wan, NoRelay: f.noRelay,
		Log: c.Log, Ready: c.Ready,
	}, c.Signals())
}

// act is one of the words that follow `hongyan dev`.
func (f *flags) act(c Call, word string, words []string) error {
	switch word {
	case string(verbKill), string(verbStop), string(verbStart), string(verbPause), string(verbResume), wordRemove, wordWipe:
		if len(words) != 1 {
			return command.Usagef("dev %s: expected one node", word)
		}
		program, err := findProgram(f.program)
		if err != nil {
			return err
		}
		return f.say(c.Out, order{Verb: word, Node: words[0], Program: program})
	case wordAdd:
		return f.add(c.Out, words)
	case wordStatus:
		if len(words) > 0 {
			return command.Usagef("dev status: expected no further words")
		}
		return f.status(c.Out)
	case wordHeal:
		if len(words) > 0 {
			return command.Usagef("dev heal: expected no further words")
		}
		return f.tell(order{Verb: wordHeal})
	case wordCut:
		return f.cut(words)
	case wordLink:
		return f.link(words)
	case wordDisk:
		return f.disk(words)
	case wordClock:
		if len(words) != 2 {
			return command.Usagef("dev clock: expected a node and how wrong its clock shall be, such as +1h, -10m or 0")
		}
		d, err := time.ParseDuration(words[1])
		if err != nil {
			return command.Usagef("dev clock: %q: expected how wrong, such as +1h, -10m or 0", words[1])
		}
		return f.tell(order{Verb: wordClock, Node: words[0], Offset: d})
	case wordPowerCut:
		return f.tell(order{Verb: wordPowerCut, Nodes: words, StayDown: f.stayDown})
	default:
		return command.Usagef("dev: unknown word %q; see `hongyan help`", word)
	}
}

// findProgram gives the whole path of one that can be run, "" for "".
func findProgram(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	path, err := exec.LookPath(file)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return "", command.Usagef("--program: %w", err)
	}
	return path, nil
}

func (f *flags) tell(o order) error {
	_, err := ask(f.dir, o)
	return err
}

// say tells the supervisor, and prints what it has to say, if anything.
func (f *flags) say(out io.Writer, o order) error {
	a, err := ask(f.dir, o)
	if text := a.Node + a.Note; err == nil && text != "" {
		_, err = fmt.Fprintln(out, text)
	}
	return err
}

func (f *flags) add(out io.Writer, words []string) error {
	if len(words) != 1 {
		return command.Usagef("dev add: expected one region")
	}
	roles, err := ParseRoles(f.roles)
	if err != nil {
		return command.Usagef("dev add: --roles %w", err)
	}
	if f.weight > directory.MaxWeight {
		return command.Usagef("dev add: --weight %d: expected 0 to %d", f.weight, directory.MaxWeight)
	}
	return f.say(out, order{Verb: wordAdd, Add: Addition{words[0], uint32(f.weight), roles}})
}

func (f *flags) status(out io.Writer) error {
	st, err := GetStatus(f.dir)
	if err != nil {
		return err
	}
	if f.asJSON {
		if err := json.NewEncoder(out).Encode(st); err != nil {
			return fmt.Errorf("print status: %w", err)
		}
		return nil
	}
	return st.Print(out)
}

func (f *flags) cut(words []string) error {
	if len(words) < 1 || len(words) > 2 {
		return command.Usagef("dev cut: expected one or two nodes or regions")
	}
	if f.oneWay && f.reset {
		return command.Usagef("dev cut: expected one of --one-way and --reset: a reset ends both directions of a connection")
	}
	return f.tell(order{Verb: wordCut, A: words[0], B: strings.Join(words[1:], ""), Cut: CutOptions{f.oneWay, f.reset}})
}

func (f *flags) link(words []string) error {
	if len(words) != 2 {
		return command.Usagef("dev link: expected two nodes or regions")
	}
	o := order{Verb: wordLink, A: words[0], B: words[1]}
	shape, err := f.shape()
	switch {
	case err != nil:
		return command.Usagef("dev link: %w", err)
	case f.clear && shape != Shape{}:
		return command.Usagef("dev link: expected --clear alone")
	case !f.clear && shape == Shape{}:
		return command.Usagef("dev link: expected --delay, --jitter, --rate, --late or --clear")
	case !f.clear:
		o.Shape = &shape
	}
	return f.tell(o)
}

func (f *flags) disk(words []string) (err error) {
	if len(words) < 2 {
		return command.Usagef("dev disk: expected a node and slow DURATION, fail-fsync, hang, full [BYTES_LEFT] or ok")
	}
	o := order{Verb: wordDisk, Node: words[0], Disk: DiskFault{Kind: DiskKind(words[1])}}
	rest := words[2:]
	switch kind := o.Disk.Kind; {
	case kind == DiskSlow && len(rest) == 1:
		if o.Disk.Delay, err = time.ParseDuration(rest[0]); err != nil || o.Disk.Delay <= 0 || o.Disk.Delay > disk.MaxSlow {
			return command.Usagef("dev disk: %q: expected a time up to %v such as 50ms", rest[0], disk.MaxSlow)
		}
	case kind == DiskFull && len(rest) == 1:
		if o.Disk.Left, err = ParseBytes(rest[0]); err != nil {
			return command.Usagef("dev disk: %w", err)
		}
	case len(rest) == 0 && slices.Contains([]DiskKind{DiskOK, DiskFailSync, DiskHang, DiskFull}, kind):
	default:
		return command.Usagef("dev disk: %q: expected slow DURATION, fail-fsync, hang, full [BYTES_LEFT] or ok", strings.Join(words[1:], " "))
	}
	return f.tell(o)
}

func (f *flags) shape() (s Shape, err error) {
	s.Delay, s.Jitter = f.delay, f.jitter
	if f.rate != "" {
		if s.Rate, err = ParseBytes(f.rate); err != nil || s.Rate == 0 {
			return s, fmt.Errorf("--rate %q: expected bytes a second such as 10MB", f.rate)
		}
	}
	if f.late != "" {
		share, by, _ := strings.Cut(f.late, ":")
		percent, ok := strings.CutSuffix(share, "%")
		p, err := strconv.ParseFloat(percent, 64)
		d, err2 := time.ParseDuration(by)
		if !ok || err != nil || err2 != nil || !(p > 0 && p <= 100) || d <= 0 {
			return s, fmt.Errorf("--late %q: expected a share and a time such as 1%%:1s", f.late)
		}
		s.Late, s.LateBy = p/100, d
	}
	return s, s.Check()
}

// ParseBytes reads a number of bytes such as 600MB, 1.5GB or 4KB: powers of 1024, as with all sizes here.
func ParseBytes(s string) (int64, error) {
	number, unit := strings.TrimSuffix(s, "B"), 1.0
	for i, letter := range []string{"K", "M", "G", "T"} {
		if n, ok := strings.CutSuffix(number, letter); ok {
			number, unit = n, float64(int64(1)<<(10*(i+1)))
			break
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || !(n >= 0 && n*unit < 1<<62) {
		return 0, fmt.Errorf("%q: expected a number of bytes such as 600MB", s)
	}
	return int64(n * unit), nil
}
