package upgrade

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hongyan/cluster/directory"
	"hongyan/cluster/feature"
	"hongyan/cluster/wire"
	"hongyan/engine/codec/codectest"
)

// world is a cluster of programs.
type world struct {
	mu       sync.Mutex // the keeper asks several at a time
	topology directory.Topology
	programs map[string]Program // of nodes that are up
	outdated map[string]error
	leads    bool
	entered  []feature.Level
}

func newWorld(knows map[string]feature.Level) *world {
	w := &world{topology: directory.Topology{Version: 7}, programs: make(map[string]Program), leads: true}
	for _, id := range []string{"a", "b", "c"} {
		w.topology.Nodes = append(w.topology.Nodes, directory.Node{ID: id})
		if l := knows[id]; l > 0 {
			w.programs[id] = Program{Build: "v" + id, Knows: l}
		}
	}
	return w
}

func (w *world) Up(node string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, up := w.programs[node]
	return up
}

func (w *world) Outdated(node string) error { return w.outdated[node] }

func (w *world) Call(_ context.Context, node, method string, req, resp any) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.programs[node]
	if p.Knows == feature.Base {
		return wire.Errorf(wire.Invalid, "node %s has no call %q", node, method)
	}
	if hold := req.(*ProgramRequest).Hold; hold != nil {
		p.Holds = *hold
		w.programs[node] = p
	}
	*resp.(*Program) = p
	return nil
}

func (w *world) SetLevel(_ context.Context, level feature.Level, topology uint64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if topology != w.topology.Version {
		return errors.New("another topology")
	}
	w.entered = append(w.entered, level)
	w.topology.Level, w.topology.Version = level, topology+1
	return nil
}

// now is the topology, and whether this node leads.
func (w *world) now() (t directory.Topology, leads bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.topology, w.leads
}

func (w *world) keeper(dir string) *Keeper {
	return New(Config{Build: "v1", Data: dir, Net: w, Directory: w, Topology: func() *directory.Topology { t, _ := w.now(); return &t },
		Leads: func() bool { _, leads := w.now(); return leads }, Log: slog.New(slog.DiscardHandler)})
}

// What the level becomes, and what is said of those who hold it back.
func TestWhatHoldsTheLevelBack(t *testing.T) {
	for _, c := range []struct {
		name   string
		knows  map[string]feature.Level
		change func(w *world)
		want   feature.Level
		waits  string // a part of what is said
	}{
		{"all know it", map[string]feature.Level{"a": 2, "b": 2, "c": 2}, nil, 2, ""},
		{"nobody does", map[string]feature.Level{"a": 1, "b": 1, "c": 1}, nil, 1, ""},
		{"one is old", map[string]feature.Level{"a": 2, "b": 2, "c": 1}, nil, 1, "c runs a program from before feature levels, which knows level 1 at most"},
		{"one is down", map[string]feature.Level{"a": 2, "b": 2}, nil, 1, "c does not answer: unavailable: it is down"},
		{"one is lost", map[string]feature.Level{"a": 2, "b": 2}, func(w *world) { w.topology.Nodes[2].Lost = true }, 2, ""},
		{"one is removed", map[string]feature.Level{"a": 2, "b": 2}, func(w *world) { w.topology.Nodes[2].Removed = true }, 2, ""},
		{"one is lost and back with an old one", map[string]feature.Level{"a": 2, "b": 2, "c": 1}, func(w *world) { w.topology.Nodes[2].Lost = true }, 1, "c runs"},
		{"one holds", map[string]feature.Level{"a": 2, "b": 2, "c": 2}, func(w *world) { w.programs["b"] = Program{Build: "v", Knows: 2, Holds: true} }, 1, "b holds it"},
		{"two steps, one node in between", map[string]feature.Level{"a": 4, "b": 3, "c": 4}, nil, 3, "b runs vb, which knows level 3"},
		{"at the level already", map[string]feature.Level{"a": 2, "b": 2, "c": 2}, func(w *world) { w.topology.Level = 2 }, 2, ""},
		{"one came back too old", map[string]feature.Level{"a": 3, "b": 3}, func(w *world) {
			w.topology.Level, w.outdated = 2, map[string]error{"c": &feature.Outdated{Node: "c", Knows: 1, Cluster: 2}}
		}, 2, "update c to a program of level 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(c.knows)
			if c.change != nil {
				c.change(w)
			}
			s := w.keeper(t.TempDir()).Status(t.Context())
			level, waits := s.reach()
			if said := strings.Join(waits, "; "); level != c.want || !strings.Contains(said, c.waits) || (c.waits == "") != (said == "") {
				t.Errorf("level %d, waits for %q", level, said)
			}
		})
	}
}

// TestRisesByItself has nodes be updated one after the other while the leader changes, and the level come with the last of them.
func TestRisesByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(map[string]feature.Level{"a": 2, "b": 1})
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go w.keeper(t.TempDir()).Run(ctx)
		rest := func() {
			time.Sleep(2 * maxPause)
			synctest.Wait()
		}
		for _, step := range []func(){
			func() {},
			func() { w.programs["c"] = Program{Build: "vc", Knows: 2} },
			func() { w.leads, w.programs["b"] = false, Program{Build: "vb", Knows: 2} },
		} {
			w.mu.Lock()
			step()
			w.mu.Unlock()
			rest()
			if now, _ := w.now(); now.Level > 0 {
				t.Fatalf("level %d too early", now.Level)
			}
		}
		w.mu.Lock()
		w.leads = true
		w.mu.Unlock()
		rest()
		rest()
		stop()
		synctest.Wait()
		if !slices.Equal(w.entered, []feature.Level{2}) {
			t.Errorf("entered %v", w.entered)
		}
	})
}

func TestHold(t *testing.T) {
	w := newWorld(map[string]feature.Level{"a": 2, "b": 1})
	k := w.keeper(t.TempDir())
	s, err := k.Hold(t.Context(), true)
	if err != nil || !s.Nodes[0].Holds || s.Nodes[1].Holds || s.Nodes[2].Answers {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err = k.Hold(t.Context(), false); err != nil || s.Nodes[0].Holds {
		t.Errorf("%+v, %v", s, err)
	}
	delete(w.programs, "a")
	if _, err := k.Hold(t.Context(), true); !errors.Is(err, wire.ErrUnavailable) {
		t.Errorf("nobody can hold it: %v", err)
	}
}

// A node's own answer, over a restart.
func TestHoldIsKept(t *testing.T) {
	dir, w := t.TempDir(), newWorld(nil)
	yes, no := true, false
	for _, c := range []struct {
		told *bool
		want bool
	}{{nil, false}, {&no, false}, {&yes, true}, {nil, true}, {&yes, true}, {&no, false}, {nil, false}} {
		p, err := w.keeper(dir).serve(t.Context(), "a", &ProgramRequest{Hold: c.told})
		if err != nil || p.Holds != c.want || p.Knows != feature.Newest() || p.Build != "v1" {
			t.Errorf("%+v, %v", p, err)
		}
	}
}

// TestFormats holds what nodes say to each other against version 1.
func TestFormats(t *testing.T) {
	yes := true
	codectest.Golden(t, "testdata/formats-v1.txt", []codectest.Sample{
		{Name: "program", Value: &ProgramRequest{Hold: &yes}},
		{Name: "program-is", Value: &Program{Build: "v1.2", Knows: feature.Moves, Holds: true}},
	})
}
