package directory

import (
	"errors"
	"strings"
	"testing"

	"hongyan/cluster/feature"
	"hongyan/cluster/placement"
	"hongyan/cluster/wire"
	"hongyan/engine/codec"
)

func (d *tables) topology() *Topology {
	d.t.Helper()
	v := d.store.View()
	t, err := readTopology(v)
	if err := errors.Join(err, v.Close()); err != nil {
		d.t.Fatal(err)
	}
	return t
}

// The level rises for the topology whose nodes were asked, and never falls.
func TestSetLevel(t *testing.T) {
	d := newTables(t)
	node := Node{ID: "a", Region: "south", Address: "10.0.0.1:1", Roles: []string{"storage"}}
	d.do(Command{FoundTopology: &FoundTopology{Nodes: []Node{node}, Groups: []placement.Group{{Shard: 0, Voters: []string{"a"}}}}})
	asked := d.topology()
	if asked.AtLevel() != feature.Base || asked.Version == 0 {
		t.Fatalf("founded at %v: %+v", asked.AtLevel(), asked)
	}
	node.ID = "b"
	d.do(Command{AddNode: &AddNode{Node: node}})
	if r := d.do(Command{SetLevel: &SetLevel{Level: 2, Topology: asked.Version}}); !strings.Contains(r.Refused, "the topology is no longer") {
		t.Errorf("with a node that was not asked: %+v", r)
	}
	asked = d.topology()
	if r := d.do(Command{SetLevel: &SetLevel{Level: 2, Topology: asked.Version}}); r.Refused != "" || !r.Created {
		t.Errorf("refused: %+v", r)
	}
	now := d.topology()
	if now.AtLevel() != 2 || now.Version <= asked.Version {
		t.Errorf("at %v in topology %d after %d", now.AtLevel(), now.Version, asked.Version)
	}
	for _, l := range []feature.Level{0, 1, 2} {
		if r := d.do(Command{SetLevel: &SetLevel{Level: l, Topology: 1}}); r.Refused != "" || r.Created {
			t.Errorf("level %d again: %+v", l, r)
		}
	}
	if again := d.topology(); again.AtLevel() != 2 || again.Version != now.Version {
		t.Errorf("the level or the topology moved: %+v", again)
	}
}

// A command is of the level that its number says, and is not proposed before.
func TestCommandLevels(t *testing.T) {
	later := struct {
		X *struct{} `cbor:"76,keyasint"`
	}{&struct{}{}}
	latest := struct {
		X *struct{} `cbor:"80,keyasint"`
	}{&struct{}{}}
	for _, c := range []struct {
		command *Command
		body    any // in place of the command's own; nil
		want    feature.Level
	}{
		{&Command{AddDomain: &Domain{Name: "a.test"}}, nil, feature.Base},
		{&Command{SetPlacement: &SetPlacement{Paused: true}}, nil, feature.Base},
		{&Command{SetLevel: &SetLevel{Level: 9}}, nil, 9},
		{&Command{}, &later, feature.Moves},
		{&Command{}, &latest, feature.Sharing},
	} {
		if c.body == nil {
			c.body = c.command
		}
		b, err := codec.Marshal(c.body)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.command.needs(b); err != nil || got != c.want {
			t.Errorf("%+v is of level %d, %v; want %d", c.command, got, err, c.want)
		}
	}
	s := &Service{Known: func() *Topology { return &Topology{} }}
	if err := s.mayPropose(&Command{}, feature.Moves); !errors.Is(err, wire.ErrUnavailable) {
		t.Errorf("at level %v: %v", s.Level(), err)
	}
	if err := s.mayPropose(&Command{SetLevel: &SetLevel{Level: 9}}, 9); err != nil {
		t.Error(err)
	}
	s.Known = func() *Topology { return &Topology{Level: feature.Moves} }
	if err := s.mayPropose(&Command{}, feature.Moves); err != nil {
		t.Error(err)
	}
}
