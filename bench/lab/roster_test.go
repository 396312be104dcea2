package lab

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"hongyan/cluster/config"
)

func TestRosterOfBothForms(t *testing.T) {
	const regions = `{"regions": [{"name": "south", "nodes": 1}, {"name": "north", "nodes": 1}], `
	tests := []struct {
		name, file string
		nodes      []string // id:first port, with + where it joined
		next       string   // of the south
		err        string
	}{
		{"of the time when nodes could not come", `[{"name": "south", "nodes": 1}, {"name": "north", "nodes": 1}]`,
			[]string{"south-1:20000", "north-1:20100"}, "south-2", ""},
		{"as founded", regions + `"nodes": [{"id": "south-1", "region": "south", "number": 0, "joined": false}, {"id": "north-1", "region": "north", "number": 1, "joined": false}]}`,
			[]string{"south-1:20000", "north-1:20100"}, "south-2", ""},
		{"one came and one went", regions + `"nodes": [{"id": "north-1", "region": "north", "number": 1, "joined": false}, {"id": "south-2", "region": "south", "number": 2, "joined": true}], "gone": ["south-1"]}`,
			[]string{"north-1:20100", "south-2:20200+"}, "south-3", ""},
		{"one there by half", regions + `"nodes": [{"id": "north-1", "region": "north", "number": 1, "joined": false}, {"id": "south-1", "region": "south", "number": 0, "joined": true, "half": "added"}]}`,
			[]string{"north-1:20100"}, "south-2", ""},
		{"two with one id", regions + `"nodes": [{"id": "a", "region": "south", "number": 0}, {"id": "a", "region": "south", "number": 1}]}`, nil, "", "another's too"},
		{"two at one place", regions + `"nodes": [{"id": "a", "region": "south", "number": 0}, {"id": "b", "region": "south", "number": 0}]}`, nil, "", "another's too"},
		{"a folder elsewhere", regions + `"nodes": [{"id": "../a", "region": "south", "number": 0}]}`, nil, "", "out of range"},
		{"ports that do not fit", regions + `"nodes": [{"id": "a", "region": "south", "number": 500}]}`, nil, "", "expected one from 1 to"},
		{"other regions", `{"regions": [{"name": "south", "nodes": 2}], "nodes": []}`, nil, "", "was made with --regions south=2"},
		{"nonsense", `{"regions": 3}`, nil, "", "lab.json"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, rosterFile), []byte(tt.file), 0o600); err != nil {
				t.Fatal(err)
			}
			p, err := settle(dir, []Region{{"south", 1}, {"north", 1}}, 20000)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("%v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, n := range p.nodes {
				s := n.ID + ":" + strings.TrimPrefix(n.addr(0), "127.0.0.1:")
				if p.config(n, strings.Repeat("0", 64)).Join {
					s += "+"
				}
				got = append(got, s)
			}
			if !reflect.DeepEqual(got, tt.nodes) || p.roster.nextID("south") != tt.next {
				t.Errorf("nodes %v, next %s; want %v and %s", got, p.roster.nextID("south"), tt.nodes, tt.next)
			}
		})
	}
}

func TestRosterIsReadAsWritten(t *testing.T) {
	dir, r := t.TempDir(), found([]Region{{"south", 2}, {"north", 1}})
	r.Nodes = append(r.Nodes, seat{ID: "north-2", Region: "north", Number: 3, Joined: true, Roles: []config.Role{config.Storage}, Half: halfAdded})
	r.seat("south-2").Wiped = true
	r.leave("south-1")
	r.Founded = true
	if err := r.write(dir); err != nil {
		t.Fatal(err)
	}
	again, err := readRoster(dir)
	if err != nil || !reflect.DeepEqual(again, r) || !again.equal(&r) {
		t.Errorf("wrote %+v, read %+v, %v", r, again, err)
	}
	copied := r.clone()
	copied.seat("south-2").Wiped = false
	if copied.equal(&r) || !r.seat("south-2").Wiped {
		t.Error("a copy is not one")
	}
	if id := r.nextID("south"); id != "south-3" {
		t.Errorf("next in the south %s: want none that was used", id)
	}
	if h := r.halfway("north"); h == nil || h.ID != "north-2" || r.halfway("south") != nil {
		t.Errorf("half way in the north: %+v", h)
	}
}

// TestNodesByRole: a node's file and those of the others say what it does, and it listens for nothing else.
func TestNodesByRole(t *testing.T) {
	r := found([]Region{{"south", 2}})
	r.Nodes[0].Roles = []config.Role{config.Storage}
	r.Nodes[1].Roles = []config.Role{config.Frontend}
	p, err := planOf(t.TempDir(), r, 20000)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(p.dir, "node.yaml")
	for i, n := range p.nodes {
		if err := p.config(n, strings.Repeat("0", 64)).Write(path); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load(path)
		if err != nil {
			t.Fatalf("%s: %v", n.ID, err)
		}
		if (c.Listeners.SMTP != nil) != (i == 1) || c.Listeners.HTTP == nil || !reflect.DeepEqual(c.Peers[0].Roles, p.nodes[1-i].roles) {
			t.Errorf("%s: listeners %+v, peers %+v", n.ID, c.Listeners, c.Peers)
		}
	}
}

func TestParseRoles(t *testing.T) {
	for in, want := range map[string][]config.Role{
		"storage": {config.Storage}, "frontend,storage": {config.Frontend, config.Storage}, "": nil, "storage,": nil, "mail": nil, "storage,storage": nil,
	} {
		if got, err := ParseRoles(in); (err == nil) != (want != nil) || want != nil && !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
}
