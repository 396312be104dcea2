package lab

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"hongyan/cluster/config"
)

func TestParseRegions(t *testing.T) {
	tests := []struct {
		in   string
		want []Region
		err  string
	}{
		{"south-china=1,north-china=2", []Region{{"south-china", 1}, {"north-china", 2}}, ""},
		{"a=2", []Region{{"a", 2}}, ""},
		{"a=1,b=1", []Region{{"a", 1}, {"b", 1}}, ""},
		{"a=1", nil, "expected at least 2"},
		{"", nil, "expected NAME=COUNT"},
		{"a", nil, "expected NAME=COUNT"},
		{"a=0", nil, "expected NAME=COUNT"},
		{"a=-1", nil, "expected NAME=COUNT"},
		{"A=1", nil, "expected NAME=COUNT"},
		{"a=1,,b=1", nil, "expected NAME=COUNT"},
		{"../x=1", nil, "expected NAME=COUNT"},
		{"a=1,a=2", nil, "named twice"},
		{"a=40,b=40", nil, "80 nodes"},
	}
	for _, tt := range tests {
		got, err := ParseRegions(tt.in)
		if tt.err == "" && (err != nil || !reflect.DeepEqual(got, tt.want)) || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%q: %v, %v; want %v, %q", tt.in, got, err, tt.want, tt.err)
		}
	}
}

// TestPortScheme follows the table of the command contract.
func TestPortScheme(t *testing.T) {
	p, err := newPlan("/d", []Region{{"south", 2}, {"north", 1}}, 20000)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, n := range p.nodes {
		ids = append(ids, n.ID)
	}
	if !reflect.DeepEqual(ids, []string{"south-1", "south-2", "north-1"}) {
		t.Errorf("nodes %v: want them numbered by region, then within it", ids)
	}
	c := p.config(p.nodes[2], strings.Repeat("0", 64))
	got := map[string]string{
		"smtp": c.Listeners.SMTP.Address, "lmtp": c.Listeners.LMTP.Address, "imap": c.Listeners.IMAP.Address, "imaps": c.Listeners.IMAPS.Address,
		"pop3": c.Listeners.POP3.Address, "pop3s": c.Listeners.POP3S.Address, "http": c.Listeners.HTTP.Address, "rpc": c.RPC.Listen,
	}
	want := map[string]string{
		"smtp": "127.0.0.1:20225", "lmtp": "127.0.0.1:20224", "imap": "127.0.0.1:20243", "imaps": "127.0.0.1:20293",
		"pop3": "127.0.0.1:20210", "pop3s": "127.0.0.1:20295", "http": "127.0.0.1:20280", "rpc": "127.0.0.1:20201",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestNodeFilesAreTakenByTheNodes(t *testing.T) {
	p, err := newPlan(t.TempDir(), []Region{{"south", 1}, {"north", 1}}, 20000)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(p.dir, "node.yaml")
	var c *config.Node
	for _, settle := range []time.Duration{minSettle, maxSettle, 0} {
		p.hurry = int64(settle / time.Second)
		if err := p.config(p.nodes[0], strings.Repeat("0", 64)).Write(path); err != nil {
			t.Fatal(err)
		}
		if c, err = config.Load(path); err != nil {
			t.Fatalf("settle %v: %v", settle, err)
		}
	}
	want := []config.Peer{{ID: "north-1", Region: "north", Roles: []config.Role{config.Storage, config.Frontend}, RPC: "127.0.0.1:20101"}}
	if !reflect.DeepEqual(c.Peers, want) {
		t.Errorf("peers %+v, want %+v", c.Peers, want)
	}
}

func TestPortBaseMustFit(t *testing.T) {
	for _, base := range []int{0, -5, 65400, 70000} {
		if _, err := newPlan("/d", []Region{{"a", 2}}, base); err == nil || !strings.Contains(err.Error(), "expected one from 1 to 65340") {
			t.Errorf("port base %d: %v", base, err)
		}
	}
}

func TestSettleKeepsTheFirstOrder(t *testing.T) {
	dir := t.TempDir()
	first := []Region{{"south", 1}, {"north", 2}}
	if _, err := settle(dir, first, 20000); err != nil {
		t.Fatal(err)
	}
	p, err := settle(dir, []Region{{"north", 2}, {"south", 1}}, 30000)
	if err != nil {
		t.Fatal(err)
	}
	if p.nodes[0].ID != "south-1" || p.nodes[0].base != 30000 {
		t.Errorf("first node is %+v: want the order of the first start and the ports of this one", p.nodes[0])
	}
	if err := os.WriteFile(filepath.Join(dir, "lab.json"), []byte("?"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := settle(dir, first, 20000); err == nil {
		t.Error("an unreadable lab.json was taken")
	}
}

func TestLogIsSetAsideWhenLarge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.log")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, maxLog+1); err != nil {
		t.Fatal(err)
	}
	f, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	old, err := os.Stat(path + ".1")
	if err != nil || old.Size() != maxLog+1 {
		t.Errorf("old log: %v, %v", old, err)
	}
	if fi, err := f.Stat(); err != nil || fi.Size() != 0 {
		t.Errorf("new log: %v, %v", fi, err)
	}
}
