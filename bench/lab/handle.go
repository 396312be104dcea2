package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"hongyan/cluster/config"
	"hongyan/cluster/directory"
)

// Handle is a cluster in another process, for programs that break it. Its methods return once the thing is done, or after a bounded
// wait; they may be used at the same time.
type Handle struct {
	dir    string
	dev    *exec.Cmd // nil: somebody else's
	spawn  *spawner
	ended  chan struct{}
	failed error // how dev ended; for reading once ended is closed
	once   sync.Once
}

// LaunchOptions say what to run. Zero values are those of `hongyan dev`.
type LaunchOptions struct {
	Exe        string // the program; this process's own when empty
	Dir        string
	PortBase   int // 0: a free one
	Accounts   int
	Regions    []Region
	WAN        string // none, china, or a list for --wan
	Restart    Restart
	DiskSize   int64 // bytes; 0: no file systems of the nodes' own
	DiskFaults bool
	NoRelay    bool
	Program    string        // of the nodes, in place of Exe
	Settle     time.Duration // when volumes close, and how much later they turn cold; see Options
	Log        io.Writer     // what the supervisor prints; nil: nowhere
}

const (
	launchWait = 90 * time.Second // beyond what a supervisor gives its nodes
	closeWait  = stopAll + 10*time.Second
)

// Launch runs a cluster as a child process and waits until it is ready. When ctx ends first, the child is killed.
func Launch(ctx context.Context, o LaunchOptions) (*Handle, error) {
	if o.PortBase == 0 {
		base, held, err := reservePorts(o.regions())
		if err != nil {
			return nil, err
		}
		defer held.close() // the cluster listens by then
		o.PortBase = base
	}
	args := o.arguments()
	if o.Exe == "" {
		exe, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find own program: %w", err)
		}
		o.Exe = exe
	}
	h := &Handle{dir: o.Dir, dev: exec.Command(o.Exe, args...), ended: make(chan struct{})}
	h.dev.Stdout, h.dev.Stderr = o.Log, o.Log
	h.spawn = newSpawner()
	if err := h.spawn.start(h.dev, syscall.SIGTERM); err != nil { // Ctrl-C is for the caller, who then closes; and with it the cluster stops
		h.spawn.close()
		return nil, fmt.Errorf("start the cluster's supervisor: %w", err)
	}
	go func() {
		defer close(h.ended)
		h.failed = h.dev.Wait()
		h.spawn.close()
	}()
	ctx, cancel := context.WithTimeout(ctx, launchWait)
	defer cancel()
	if err := h.await(ctx); err != nil {
		return nil, errors.Join(err, h.kill())
	}
	return h, nil
}

func (o *LaunchOptions) arguments() []string {
	args := []string{"dev", "--dir", o.Dir}
	add := func(flag, value string) { args = append(args, flag, value) }
	add("--regions", formatRegions(o.regions()))
	add("--port-base", strconv.Itoa(o.PortBase))
	if o.Accounts != 0 {
		add("--accounts", strconv.Itoa(o.Accounts))
	}
	if o.WAN != "" {
		add("--wan", o.WAN)
	}
	if o.Program != "" {
		add("--program", o.Program)
	}
	if o.Restart != "" {
		add("--restart", string(o.Restart))
	}
	if o.Settle != 0 {
		add("--settle", o.Settle.String())
	}
	if o.DiskSize != 0 {
		add("--disk-size", strconv.FormatInt(o.DiskSize, 10))
	}
	if o.DiskFaults {
		args = append(args, "--disk-faults")
	}
	if o.NoRelay {
		args = append(args, "--no-relay")
	}
	return args
}

func (o *LaunchOptions) regions() []Region {
	if len(o.Regions) == 0 {
		return DefaultRegions()
	}
	return o.Regions
}

// await returns when cluster.json is there. The one of an earlier cluster is gone once this supervisor's control socket answers.
func (h *Handle) await(ctx context.Context) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the cluster in %s: %w", h.dir, ctx.Err())
		case <-h.ended:
			return fmt.Errorf("the cluster in %s ended before it was ready: %w", h.dir, h.failed)
		case <-tick.C:
		}
		if c, err := Read(h.dir); err == nil && c.Supervisor == h.dev.Process.Pid {
			return nil
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
}

// Attach finds the cluster that runs in dir.
func Attach(dir string) (*Handle, error) {
	h := &Handle{dir: dir}
	if _, err := h.Cluster(); err != nil {
		return nil, err
	}
	if _, err := h.Status(); err != nil {
		return nil, err
	}
	return h, nil
}

// Dir is the cluster's folder.
func (h *Handle) Dir() string { return h.dir }

// Cluster reads cluster.json anew: pids change.
func (h *Handle) Cluster() (*Cluster, error) { return Read(h.dir) }

// Status is what the supervisor knows.
func (h *Handle) Status() (*Status, error) { return GetStatus(h.dir) }

// Kill ends a node's process at once, and it stays down.
func (h *Handle) Kill(node string) error { return Act(h.dir, string(verbKill), node) }

// Stop ends a node's process gently, and it stays down.
func (h *Handle) Stop(node string) error { return Act(h.dir, string(verbStop), node) }

// Start returns once the node serves, or when it answers, if it was wiped.
func (h *Handle) Start(node string) error { return Act(h.dir, string(verbStart), node) }

// StartWith is Start of a node that is stopped, with another program from now on.
func (h *Handle) StartWith(node, program string) error {
	return h.tell(order{Verb: string(verbStart), Node: node, Program: program})
}

// Pause freezes a node.
func (h *Handle) Pause(node string) error { return Act(h.dir, string(verbPause), node) }

// Resume undoes Pause.
func (h *Handle) Resume(node string) error { return Act(h.dir, string(verbResume), node) }

// Cut stops what moves between a and b, each a node or a region.
func (h *Handle) Cut(a, b string, o CutOptions) error {
	return h.tell(order{Verb: wordCut, A: a, B: b, Cut: o})
}

// Isolate cuts a node or region from all others.
func (h *Handle) Isolate(a string) error { return h.Cut(a, "", CutOptions{}) }

// Heal undoes every cut.
func (h *Handle) Heal() error { return h.tell(order{Verb: wordHeal}) }

// Link shapes both ways between a and b, each a node or a region, or with nil makes them what --wan says.
func (h *Handle) Link(a, b string, s *Shape) error {
	return h.tell(order{Verb: wordLink, A: a, B: b, Shape: s})
}

// Disk breaks a node's disk, or with DiskOK mends it.
func (h *Handle) Disk(node string, f DiskFault) error {
	return h.tell(order{Verb: wordDisk, Node: node, Disk: f})
}

// PowerCut takes the power from nodes, from all when none is named, and gives it back. It returns when those that ran serve again.
func (h *Handle) PowerCut(nodes ...string) error {
	return h.tell(order{Verb: wordPowerCut, Nodes: nodes})
}

// Clock makes a node's wall clock wrong by offset, or with 0 right.
func (h *Handle) Clock(node string, offset time.Duration) error {
	return h.tell(order{Verb: wordClock, Node: node, Offset: offset})
}

// Add has a node come to a region, which may be a new one, with the default weight and both roles, and returns its id when it serves. After an
// error, Add of the same region goes on.
func (h *Handle) Add(region string) (id string, err error) {
	a, err := ask(h.dir, order{Verb: wordAdd, Add: Addition{region, directory.DefaultWeight, []config.Role{config.Storage, config.Frontend}}})
	return a.Node, err
}

// Remove clears away a node that the cluster has removed.
func (h *Handle) Remove(node string) error {
	return h.tell(order{Verb: wordRemove, Node: node})
}

// Wipe has a node that is down lose its disk. It serves again when it was started and the cluster was told to replace it.
func (h *Handle) Wipe(node string) error {
	return h.tell(order{Verb: wordWipe, Node: node})
}

func (h *Handle) tell(o order) error {
	_, err := ask(h.dir, o)
	return err
}

// Close stops the cluster if Launch started it. It is an error when that did not end well.
func (h *Handle) Close() (err error) {
	if h.dev == nil {
		return nil
	}
	h.once.Do(func() {
		if err = h.dev.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			err = fmt.Errorf("stop the cluster in %s: %w", h.dir, err)
			return
		}
		select {
		case <-h.ended:
			if err = h.failed; err != nil {
				err = fmt.Errorf("the cluster in %s: %w", h.dir, err)
			}
		case <-time.After(closeWait):
			err = errors.Join(fmt.Errorf("the cluster in %s did not stop within %v and was killed", h.dir, closeWait), h.kill())
		}
	})
	return err
}

// kill ends the supervisor, and with it the nodes.
func (h *Handle) kill() error {
	if err := h.dev.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill the cluster's supervisor: %w", err)
	}
	<-h.ended
	return nil
}
