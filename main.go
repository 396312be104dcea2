// Hongyan is a mail cluster that spans regions. This file holds its commands and their wiring; what they do lies in the
// packages below (see docs/architecture.md).
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"hongyan/bench/disk"
	"hongyan/bench/lab"
	"hongyan/bench/suite"
	"hongyan/cluster"
	"hongyan/cluster/certfile"
	"hongyan/cluster/client"
	"hongyan/cluster/command"
	"hongyan/cluster/config"
	"hongyan/cluster/offline"
	"hongyan/cluster/supervise"
	"hongyan/frontends/admin"
	"hongyan/frontends/auth"
	"hongyan/frontends/imap"
	"hongyan/frontends/pop3"
	"hongyan/frontends/smtp"
	"hongyan/frontends/web"
)

// How long a node takes to stop at most, and of that for clients to finish what they do. The lab kills what takes 8 s.
const (
	stopWait  = 7 * time.Second
	unfitWait = 2 * time.Second // by then a disk that hangs has not come back
	drainWait = 3 * time.Second
)

// readyWait is how long a node that has started keeps mail clients out while it is not ready.
const readyWait = 3 * time.Second

// operators is the name of their door.
const operators = "http"

// version is set by the linker (see Makefile).
var version = "unversioned"

const (
	usageHead = `Hongyan, a mail cluster that spans regions.

`
	usageRest = `  hongyan node --config FILE [--check]  run one member of a cluster, or only check its file
  hongyan admin COMMAND                 look at a running cluster and change it (hongyan admin help)
  hongyan volume COMMAND                look into the volumes of stopped nodes (hongyan volume help)
  hongyan bench SCENARIO                measure a cluster or another server, and drill it (hongyan bench help)
  hongyan version                       print the version
  hongyan help                          print this

`
)

func main() {
	err := run(os.Args[1:])
	if err == nil {
		return
	}
	if told := (toldError{}); !errors.As(err, &told) {
		fmt.Fprintf(os.Stderr, "hongyan: %v\n", err)
	}
	if u := (command.UsageError{}); errors.As(err, &u) {
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
	case lab.ExecWord:
		return disk.Exec(rest)
	case "version":
		_, err := fmt.Printf("hongyan %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return err
	case "help", "-h", "--help":
		return help()
	case "admin":
		return admin.Run(context.Background(), rest, os.Getenv, os.Stdout)
	case "volume":
		return offline.Run(context.Background(), rest, os.Stdout)
	case "bench":
		return (&suite.Suite{Version: version, Out: os.Stdout, Err: os.Stderr, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))}).Run(context.Background(), rest)
	default:
		return command.Usagef("unknown command %q; see `hongyan help`", cmd)
	}
}

// dev runs a cluster, or acts on the one that runs.
func dev(args []string) error {
	signals := func() <-chan os.Signal {
		c := make(chan os.Signal, 2)
		signal.Notify(c, os.Interrupt, syscall.SIGTERM)
		return c
	}
	return lab.Dev(lab.Call{Args: args, Out: os.Stdout, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Signals: signals, Ready: welcome, Help: help})
}

func help() error {
	_, err := fmt.Print(usageHead, lab.Usage, usageRest, lab.RunUsage)
	return err
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
		file       = fs.String("config", "", "")
		check      = fs.Bool("check", false, "")
		supervised = fs.Bool("supervised", false, "") // stop when standard input ends
	)
	words, err := command.Parse(fs, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return help()
	case err != nil:
		return err
	case len(words) > 0:
		return command.Usagef("node: unexpected word %q", words[0])
	case *file == "":
		return command.Usagef("node: expected --config FILE")
	}
	load := config.Load
	if *check {
		load = config.Check
	}
	cfg, err := load(*file)
	if err != nil {
		return err
	}
	if cfg.File, err = filepath.Abs(*file); err != nil {
		return fmt.Errorf("find configuration %s: %w", *file, err)
	}
	cfg.Build = version
	if *check {
		_, err = fmt.Printf("%s: node %s in %s is well described\n", *file, cfg.ID, cfg.Region)
		return err
	}
	return serve(cfg, *supervised)
}

// serve runs the node until a signal comes, the supervisor is gone, a listener fails or the node cannot work safely. The last line of its log is why.
func serve(cfg *config.Node, supervised bool) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("node", cfg.ID)
	limitMemory()
	cluster.LoosenTimers()
	life, last, err := supervise.Begin(cfg.Data, version, log)
	if err != nil {
		return err
	}
	if last != "" {
		log.Info("node starts again", "before", last)
	}
	reason, err := live(cfg, supervised, log)
	if err != nil {
		reason = supervise.OneLine(err.Error())
	}
	if err := life.End(reason); err != nil {
		log.Warn("the next start will not know why this process ended", "err", err)
	}
	if err != nil {
		log.Error("node ended", "reason", reason)
		return toldError{err}
	}
	log.Info("node ended", "reason", reason)
	return nil
}

// toldError is one that is in the log.
type toldError struct{ error }

// live runs the node, and says why it ended when that is no failure.
func live(cfg *config.Node, supervised bool, log *slog.Logger) (reason string, err error) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan string, 1)
	go func() {
		s := <-signals
		signal.Stop(signals) // a second one ends the process at once
		ended <- fmt.Sprintf("told to stop (%v)", s)
		stop()
	}()
	n, err := start(cfg, log, ended)
	if n == nil || err != nil {
		return "told to stop while it opened its data", err
	}
	failed := make(chan error, 16)
	if supervised {
		go func() {
			err := n.Clock().Follow(os.Stdin)
			failed <- errors.Join(errors.New("the supervisor is gone"), err)
		}()
	}
	g := &gate{Node: n}
	open, err := openDoors(ctx, cfg, g, log, failed)
	beating, beaten := context.WithCancel(context.Background())
	var heart sync.WaitGroup
	wait := stopWait
	if err == nil {
		if ctx.Err() == nil {
			heart.Go(func() { (&supervise.Heart{Ready: g.Ready, Log: log}).Beat(beating) })
			log.Info("node serves", "version", version, "region", cfg.Region)
		}
		select {
		case reason = <-ended:
			log.Info("node stops")
		case err = <-failed:
		case err = <-n.Unfit():
			wait = unfitWait
		case err = <-n.Outdated():
		}
	}
	beaten()
	heart.Wait()
	ending, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	closeDoors(ending, open, log)
	return reason, errors.Join(err, n.Stop(ending))
}

// start opens the node's data, which may take minutes. It gives nil when something ended meanwhile: what is open then is left to the end of the
// process, for which its files are made.
func start(cfg *config.Node, log *slog.Logger, ended <-chan string) (*cluster.Node, error) {
	type result struct {
		node *cluster.Node
		err  error
	}
	started := make(chan result, 1)
	go func() {
		n, err := cluster.Start(cfg, log)
		started <- result{n, err}
	}()
	select {
	case r := <-started:
		return r.node, r.err
	case <-ended:
		return nil, nil
	}
}

// limitMemory sets a soft limit for the heap, and lets garbage grow more than the default in between: the index's
// cache is heap too. The environment overrides both.
func limitMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(2 << 30)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200)
	}
}

// door is a listener and the server behind it.
type door struct {
	name     string
	at       *config.Listener
	serve    func(net.Listener) error
	shutdown func(context.Context) error
}

// openDoors listens where cfg says and serves. A server that ends by itself tells failed. The doors
// that are open are returned also with an error. Operators are let in at once, mail clients when the node is ready or has been given
// readyWait: those that are refused go to another node, those that are let in early would wait.
func openDoors(ctx context.Context, cfg *config.Node, n *gate, log *slog.Logger, failed chan<- error) ([]door, error) {
	all, err := doors(cfg, n, log, metrics(n.Node))
	if err != nil {
		return nil, err
	}
	var open []door
	wait := sync.OnceFunc(func() { awaitReady(ctx, n) })
	for _, d := range all {
		if d.name != operators {
			wait()
		}
		if ctx.Err() != nil {
			return open, nil
		}
		l, err := net.Listen("tcp", d.at.Address)
		if err != nil {
			return open, fmt.Errorf("open the door for %s: %w", d.name, err)
		}
		open = append(open, d)
		go func() {
			if err := d.serve(l); err != nil {
				failed <- fmt.Errorf("serve %s: %w", d.name, err)
			}
		}()
	}
	n.open.Store(true)
	return open, nil
}

// gate is a node that is not ready before its doors are open.
type gate struct {
	*cluster.Node
	open atomic.Bool
}

// Ready lists the reasons why mail clients should go elsewhere.
func (g *gate) Ready() []string { return g.and(g.Node.Ready()) }

func (g *gate) and(why []string) []string {
	if !g.open.Load() {
		why = append(why, "mail clients are not let in yet")
	}
	return why
}

// Status has the same reasons.
func (g *gate) Status(ctx context.Context) (any, error) {
	v, err := g.Node.Status(ctx)
	if s, ok := v.(*cluster.Status); ok {
		s.Ready = g.and(s.Ready)
	}
	return v, err
}

// awaitReady returns when mail clients can be let in.
func awaitReady(ctx context.Context, g *gate) {
	ctx, cancel := context.WithTimeout(ctx, readyWait)
	defer cancel()
	tick := time.NewTicker(readyWait / 200)
	defer tick.Stop()
	for len(g.Node.Ready()) > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// doors makes a server of its own for each listener that cfg has, and enters its metrics under the listener's name. That for
// operators comes first.
func doors(cfg *config.Node, n *gate, log *slog.Logger, metrics *prometheus.Registry) (all []door, err error) {
	var secure *tls.Config
	if cfg.ServerTLS.Cert != "" {
		shown, err := certfile.Server(cfg.ServerTLS.Cert, cfg.ServerTLS.Key, certfile.Every, log)
		if err != nil {
			return nil, fmt.Errorf("certificate for mail clients: %w", err)
		}
		secure = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return shown.Now(), nil }, MinVersion: tls.VersionTLS12, Time: n.Clock().Now}
		metrics.MustRegister(certfile.Expiry("clients", func() time.Duration { return shown.Now().Leaf.NotAfter.Sub(n.Clock().Now()) }))
	}
	c, logins := n.Client(), auth.New(n.Client(), log)
	logins.Share(n)
	metrics.MustRegister(logins.Metrics())
	measure := func(name string, c prometheus.Collector) {
		prometheus.WrapRegistererWith(prometheus.Labels{"listener": name}, metrics).MustRegister(c)
	}
	mx := func(name string, at *config.Listener, lmtp bool) {
		if at != nil {
			s := smtp.New(smtp.Config{Client: c, Clock: n.Clock(), TLS: secure, Hostname: cfg.Hostname, Log: log, Allow: at.Prefixes(), AllowLMTP: at.Prefixes()})
			measure(name, s.Metrics())
			all = append(all, door{name, at, func(l net.Listener) error { return s.Serve(l, lmtp) }, s.Shutdown})
		}
	}
	memory := imap.NewMemory()
	metrics.MustRegister(memory.Metrics())
	mailboxes := func(name string, at *config.Listener, implicitTLS bool) {
		if at != nil {
			login := func(ctx context.Context, remote netip.Addr, user, password string) (client.Account, error) {
				return logins.Login(ctx, "imap", remote, user, password)
			}
			s := imap.New(imap.Config{Client: c, Clock: n.Clock(), Auth: login, TLS: secure, Hostname: cfg.Hostname, Log: log, Allow: at.Prefixes(), Memory: memory})
			measure(name, s.Metrics())
			all = append(all, door{name, at, func(l net.Listener) error { return s.Serve(l, implicitTLS) }, s.Shutdown})
		}
	}
	maildrop := func(name string, at *config.Listener, implicitTLS bool) {
		if at != nil {
			s := pop3.New(pop3.Config{Client: c, Auth: logins, TLS: secure, Hostname: cfg.Hostname, Log: log, Allow: at.Prefixes()})
			measure(name, s.Metrics())
			all = append(all, door{name, at, func(l net.Listener) error { return s.Serve(l, implicitTLS) }, s.Shutdown})
		}
	}
	at := &cfg.Listeners
	if at.HTTP != nil {
		s, err := web.New(web.Config{Admin: n, Metrics: metrics, TokenSHA256: cfg.AdminTokenSHA256, Allow: at.HTTP.Prefixes(), Log: log})
		if err != nil {
			return nil, err
		}
		all = append(all, door{operators, at.HTTP, s.Serve, s.Shutdown})
	}
	mx("smtp", at.SMTP, false)
	mx("lmtp", at.LMTP, true)
	mailboxes("imap", at.IMAP, false)
	mailboxes("imaps", at.IMAPS, true)
	maildrop("pop3", at.POP3, false)
	maildrop("pop3s", at.POP3S, true)
	return all, nil
}

// metrics are those of the process and the node. The doors add theirs.
func metrics(n *cluster.Node) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), n.Metrics(),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hongyan_build_info", Help: "Always 1; the label says which version runs.",
			ConstLabels: prometheus.Labels{"version": version}}, func() float64 { return 1 }))
	return r
}

// closeDoors lets clients finish what is under way. Those that take too long are cut off, which is no failure.
func closeDoors(ctx context.Context, open []door, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, drainWait)
	defer cancel()
	var wg sync.WaitGroup
	for _, d := range open {
		wg.Go(func() {
			if err := d.shutdown(ctx); err != nil {
				log.Info("clients were cut off", "protocol", d.name, "error", err)
			}
		})
	}
	wg.Wait()
}
