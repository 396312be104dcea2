// Hongyan is a mail cluster that spans regions. This file holds its commands and their wiring; what they do lies in the
// packages below (see docs/architecture.md).
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"hongyan/bench/lab"
	"hongyan/cluster/config"
)

// version is set by the linker (see Makefile).
var version = "unversioned"

const usage = `Hongyan, a mail cluster that spans regions.

  hongyan dev [flags]                   run a cluster on this machine, in the foreground
  hongyan dev status [--json]           its nodes, shards and volumes
  hongyan dev kill|stop|start NODE      end a node at once or gently, start it again
  hongyan dev pause|resume NODE         freeze a node, and let it go on
  hongyan node --config FILE [--check]  run one member of a cluster, or only check its file
  hongyan version                       print the version
  hongyan help                          print this

Flags of dev:
  --dir DIR            folder that the cluster lives in (.hongyan)
  --port-base N        first port of the first node (20000)
  --accounts N         make sure of accounts u0001@example.test to N, password "secret" (3)
  --restart POLICY     on-failure or never (on-failure)
  --regions LIST       nodes in each region (south-china=1,north-china=1,overseas=1)
  --wan none           delay between regions: comes with the lab, and is not built yet
`

// usageError is a mistake in how a command was called: exit status 2.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

func main() {
	err := run(os.Args[1:])
	if err == nil {
		return
	}
	fmt.Fprintf(os.Stderr, "hongyan: %v\n", err)
	if u := (usageError{}); errors.As(err, &u) {
		os.Exit(2)
	}
	os.Exit(1)
}

func run(args []string) error {
	if len(args) == 0 {
		args = []string{"help"}
	}
	switch cmd, rest := args[0], args[1:]; cmd {
	case "dev":
		return dev(rest)
	case "node":
		return node(rest)
	case "version":
		_, err := fmt.Printf("hongyan %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return err
	case "help", "-h", "--help":
		_, err := fmt.Print(usage)
		return err
	case "admin", "bench", "volume":
		return usageError{fmt.Errorf("`%s` is not built yet", cmd)}
	default:
		return usageError{fmt.Errorf("unknown command %q; see `hongyan help`", cmd)}
	}
}

// parse takes flags before, between and after the words of a command.
func parse(fs *flag.FlagSet, args []string) (words []string, err error) {
	fs.SetOutput(io.Discard)
	for len(args) > 0 {
		if err := fs.Parse(args); err != nil {
			return nil, usageError{fmt.Errorf("%s: %w; see `hongyan help`", fs.Name(), err)}
		}
		if args = fs.Args(); len(args) > 0 {
			words, args = append(words, args[0]), args[1:]
		}
	}
	return words, nil
}

// dev runs a cluster, or acts on the one that runs.
func dev(args []string) error {
	fs := flag.NewFlagSet("dev", flag.ContinueOnError)
	var (
		dir      = fs.String("dir", ".hongyan", "")
		portBase = fs.Int("port-base", 20000, "")
		accounts = fs.Int("accounts", 3, "")
		restart  = fs.String("restart", string(lab.OnFailure), "")
		regions  = fs.String("regions", "south-china=1,north-china=1,overseas=1", "")
		wan      = fs.String("wan", "none", "")
		asJSON   = fs.Bool("json", false, "")
	)
	words, err := parse(fs, args)
	if errors.Is(err, flag.ErrHelp) {
		_, err = fmt.Print(usage)
		return err
	}
	if err != nil {
		return err
	}
	if *wan != "none" {
		return errors.New("--wan comes with the lab and is not built yet")
	}
	if len(words) > 0 {
		return act(words, *dir, *asJSON)
	}
	if *restart != string(lab.OnFailure) && *restart != string(lab.Never) {
		return usageError{fmt.Errorf("--restart %q: expected %s or %s", *restart, lab.OnFailure, lab.Never)}
	}
	if *accounts < 0 || *accounts > lab.MaxAccounts {
		return usageError{fmt.Errorf("--accounts %d: expected 0 to %d", *accounts, lab.MaxAccounts)}
	}
	list, err := lab.ParseRegions(*regions)
	if err != nil {
		return usageError{fmt.Errorf("--regions: %w", err)}
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	return lab.Run(lab.Options{
		Dir: *dir, PortBase: *portBase, Accounts: *accounts, Restart: lab.Restart(*restart), Regions: list,
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Ready: welcome,
	}, signals)
}

// act is one of the words that follow `hongyan dev`.
func act(words []string, dir string, asJSON bool) error {
	switch verb, rest := words[0], words[1:]; verb {
	case "kill", "stop", "start", "pause", "resume":
		if len(rest) != 1 {
			return usageError{fmt.Errorf("dev %s: expected one node", verb)}
		}
		return lab.Act(dir, verb, rest[0])
	case "status":
		if len(rest) > 0 {
			return usageError{errors.New("dev status: expected no further words")}
		}
		st, err := lab.GetStatus(dir)
		if err != nil {
			return err
		}
		if asJSON {
			return json.NewEncoder(os.Stdout).Encode(st)
		}
		return st.Print(os.Stdout)
	case "cut", "heal":
		return fmt.Errorf("dev %s comes with the lab and is not built yet", verb)
	default:
		return usageError{fmt.Errorf("dev: unknown word %q; see `hongyan help`", verb)}
	}
}

// welcome tells a person how to use the cluster that has just become ready.
func welcome(c *lab.Cluster) {
	var b strings.Builder
	fmt.Fprintf(&b, "\nHongyan is ready: %d nodes, %d accounts.\n", len(c.Nodes), len(c.Accounts))
	for _, n := range c.Nodes {
		fmt.Fprintf(&b, "  %-16s smtp %s  lmtp %s  imap %s  imaps %s  pop3 %s  %s\n", n.ID, n.SMTP, n.LMTP, n.IMAP, n.IMAPS, n.POP3, n.HTTP)
	}
	if len(c.Accounts) > 0 {
		a := c.Accounts[0]
		fmt.Fprintf(&b, "Log in as %s with the password %q. Ctrl-C stops.\n\n", a.Address, a.Password)
	}
	fmt.Print(b.String())
}

// node runs one member of a cluster until it is told to stop.
func node(args []string) error {
	fs := flag.NewFlagSet("node", flag.ContinueOnError)
	var (
		file  = fs.String("config", "", "")
		check = fs.Bool("check", false, "")
		_     = fs.Bool("supervised", false, "")
	)
	words, err := parse(fs, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		_, err = fmt.Print(usage)
		return err
	case err != nil:
		return err
	case len(words) > 0:
		return usageError{fmt.Errorf("node: unexpected word %q", words[0])}
	case *file == "":
		return usageError{errors.New("node: expected --config FILE")}
	}
	cfg, err := config.Load(*file)
	if err != nil {
		return err
	}
	if *check {
		_, err = fmt.Printf("%s: node %s in %s is well described\n", *file, cfg.ID, cfg.Region)
		return err
	}
	return errors.New("`node` without --check is not wired yet")
}
