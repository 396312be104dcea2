// Package upgrade has the cluster's feature level rise once every node runs a program that knows the next one.
//
// Each node answers what program it runs and what that knows. The node that leads the directory asks them all while its own program knows more than the cluster's
// level, and enters the new level (directory.SetLevel) when nothing holds it back. What holds it back:
//
//  1. a node that knows too little; one whose program does not know the question knows level 1;
//  2. a node that is down: nobody knows what it will run. One that counts as lost, or was removed, is not waited for, and is refused when it returns with a program that
//     knows too little;
//  3. a node that was told to hold: it keeps that in a file of its own, since programs that know no levels would not carry it in the directory.
//
// Who was asked is tied to what is entered by the topology's version. Between the answer and the entry a node may have gone back to an older program all the same; that
// one stops at the entry (shard.Command), refuses nothing silently, and goes on once it is updated.
//
// State on the disk is the file "upgrade.hold", empty, there or not. A crash leaves it as it is.
package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"hongyan/cluster/directory"
	"hongyan/cluster/feature"
	"hongyan/cluster/transport"
	"hongyan/cluster/wire"
)

// MethodProgram asks a node what it runs.
const MethodProgram = "upgrade.program"

// ProgramRequest asks, and with Hold tells the node to hold the cluster's level or not to do so any longer.
type ProgramRequest struct {
	Hold *bool `cbor:"1,keyasint,omitempty"`
}

// Program is what a node runs.
type Program struct {
	Build string        `cbor:"1,keyasint,omitempty"` // its version, for people
	Knows feature.Level `cbor:"2,keyasint"`           // at most
	Holds bool          `cbor:"3,keyasint,omitempty"`
}

// Pace of the questions: soon again at first, then less often, until somebody's answer is another.
const (
	firstPause = 250 * time.Millisecond
	maxPause   = 4 * time.Second
	askWait    = 3 * time.Second // for one answer
	askAtOnce  = 16
	holdFile   = "upgrade.hold"
	maxBuild   = 128 // bytes of a version that are shown
)

// Network is the part of transport.Net that is needed.
type Network interface {
	Up(node string) bool
	Outdated(node string) error
	Call(ctx context.Context, node, method string, req, resp any) error
}

// Directory is the part of directory.Service that is needed.
type Directory interface {
	SetLevel(ctx context.Context, level feature.Level, topology uint64) error
}

// Config is what a Keeper needs.
type Config struct {
	Build     string // this program's version
	Data      string // folder of the file that holds the level
	Net       Network
	Directory Directory
	Topology  func() *directory.Topology // as this node knows it
	Leads     func() bool                // this node leads the directory
	Log       *slog.Logger
}

// Keeper is one node's part in the cluster's upgrades.
type Keeper struct{ cfg Config }

// New makes one.
func New(cfg Config) *Keeper { return &Keeper{cfg} }

// Register has the node answer, before the network serves. A program that knows the first level only says nothing, as those did that first had it.
func (k *Keeper) Register(net *transport.Net) {
	if feature.Newest() > feature.Base {
		transport.HandleUnary(net, MethodProgram, k.serve)
	}
}

func (k *Keeper) serve(_ context.Context, from string, req *ProgramRequest) (*Program, error) {
	if req.Hold != nil {
		if err := k.hold(*req.Hold); err != nil {
			return nil, err
		}
		k.cfg.Log.Info("the cluster's feature level is held here, or no longer", "held", *req.Hold, "for", from)
	}
	holds, err := k.holds()
	return &Program{Build: k.cfg.Build, Knows: feature.Newest(), Holds: holds}, err
}

func (k *Keeper) path() string { return filepath.Join(k.cfg.Data, holdFile) }

func (k *Keeper) holds() (bool, error) {
	_, err := os.Stat(k.path())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("whether the feature level is held: %w", err)
	}
	return true, nil
}

func (k *Keeper) hold(on bool) error {
	var err error
	if on {
		err = os.WriteFile(k.path(), nil, 0o600)
	} else if err = os.Remove(k.path()); errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("hold the feature level, or end that: %w", err)
	}
	return nil
}

// Run asks and enters while this node leads the directory, until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	pause, before := firstPause, ""
	for ctx.Err() == nil {
		t := k.cfg.Topology()
		if t.Version == 0 || t.AtLevel() >= feature.Newest() || !k.cfg.Leads() {
			pause = firstPause
		} else {
			waits, err := k.try(ctx, t)
			if err != nil && ctx.Err() == nil {
				waits = []string{err.Error()}
			}
			if now := fmt.Sprint(t.Version, waits); now != before {
				if len(waits) > 0 {
					k.cfg.Log.Info("the cluster's feature level does not rise yet", "level", t.AtLevel().String(), "waits", waits)
				}
				pause, before = firstPause, now
			} else {
				pause = min(2*pause, maxPause)
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// try enters the highest level that all nodes of a topology know, or says what it waits for.
func (k *Keeper) try(ctx context.Context, t *directory.Topology) (waits []string, err error) {
	level, waits := k.status(t, k.ask(ctx, t, nil)).reach()
	if level <= t.AtLevel() {
		return waits, nil
	}
	if err := k.cfg.Directory.SetLevel(ctx, level, t.Version); err != nil {
		return nil, fmt.Errorf("have the feature level rise to %v: %w", level, err)
	}
	k.cfg.Log.Info("the cluster's feature level has risen", "level", level.String())
	return waits, nil
}

// answer is what a node said, or why it said nothing.
type answer struct {
	program Program
	err     error
}

// ask asks all members of a topology, and tells them to hold, or not to, unless hold is nil.
func (k *Keeper) ask(ctx context.Context, t *directory.Topology, hold *bool) map[string]answer {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	var (
		mu   sync.Mutex // guards out
		out  = make(map[string]answer)
		work sync.WaitGroup
		room = make(chan struct{}, askAtOnce)
	)
	for _, n := range t.Nodes {
		if n.Removed {
			continue
		}
		room <- struct{}{}
		work.Go(func() {
			defer func() { <-room }()
			a := k.askOne(ctx, n.ID, &ProgramRequest{Hold: hold})
			mu.Lock()
			defer mu.Unlock()
			out[n.ID] = a
		})
	}
	work.Wait()
	return out
}

func (k *Keeper) askOne(ctx context.Context, node string, req *ProgramRequest) (a answer) {
	if a.err = k.cfg.Net.Outdated(node); a.err != nil {
		return a
	}
	if !k.cfg.Net.Up(node) {
		return answer{err: wire.Errorf(wire.Unavailable, "it is down")}
	}
	a.err = k.cfg.Net.Call(ctx, node, MethodProgram, req, &a.program)
	if wire.NotKnown(a.err) {
		return answer{program: Program{Knows: feature.Base}}
	}
	a.program.Build = a.program.Build[:min(len(a.program.Build), maxBuild)]
	return a
}

// Status asks all nodes.
func (k *Keeper) Status(ctx context.Context) *Status {
	t := k.cfg.Topology()
	return k.status(t, k.ask(ctx, t, nil))
}

// Hold has every node that can be asked hold the cluster's level, or end that, and gives what they say then. It fails if none did so.
func (k *Keeper) Hold(ctx context.Context, on bool) (*Status, error) {
	t := k.cfg.Topology()
	s := k.status(t, k.ask(ctx, t, &on))
	for _, n := range s.Nodes {
		if n.Answers && n.Holds == on && n.Build != "" {
			return s, nil
		}
	}
	return s, wire.Errorf(wire.Unavailable, "no node could be told: at least one has to run a program that knows feature level %d", feature.Moves)
}
