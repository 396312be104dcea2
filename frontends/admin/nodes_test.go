package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hongyan/cluster/mover"
	"hongyan/cluster/relocate"
)

// TestDrain says what a drain does, and ends where it cannot come to its end.
func TestDrain(t *testing.T) {
	node := func(id, state string, empty bool) mover.NodeStatus {
		return mover.NodeStatus{ID: id, Roles: []string{"storage"}, State: state, Empty: empty}
	}
	leaving := func(id, state string, empty bool) mover.NodeStatus {
		n := node(id, state, empty)
		n.Drain = true
		return n
	}
	for _, c := range []struct {
		words   string
		later   []mover.NodeStatus // when asked again
		nodes   []mover.NodeStatus
		printed string
		failed  string // "": it does not
	}{
		{"node drain a", nil, []mover.NodeStatus{node("a", "draining", false), node("b", "active", false), node("c", "active", false)}, "a empties itself", ""},
		{"node drain a", nil, []mover.NodeStatus{node("a", "draining", false), node("b", "active", false)}, "a is to leave, and keeps what it has for now: of the nodes that keep mail only b would stay", ""},
		{"node drain a --wait", nil, []mover.NodeStatus{node("a", "draining", true), node("b", "active", false)}, "a keeps nothing: it is safe to switch off", ""},
		{"node drain a --wait", nil, []mover.NodeStatus{node("a", "draining", false), node("b", "lost", false)}, "", "two have to stay"},
		{"node drain a --wait", []mover.NodeStatus{leaving("a", "draining", true), node("b", "active", false), node("c", "active", false)},
			[]mover.NodeStatus{leaving("a", "replaced", false), node("b", "active", false), node("c", "active", false)}, "a keeps nothing: it is safe to switch off", ""},
		{"node drain a --wait", nil, []mover.NodeStatus{leaving("a", "replaced", false), node("b", "active", false), leaving("c", "lost", false)}, "", "only b would stay"},
		{"node drain a --wait", nil, []mover.NodeStatus{node("a", "active", false), node("b", "active", false), node("c", "active", false)}, "", "somebody else ended the drain"},
		{"node drain a --wait", nil, []mover.NodeStatus{node("b", "active", false), node("c", "active", false)}, "", "somebody else removed it"},
	} {
		asked := 0
		api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "PATCH" {
				fmt.Fprint(w, "{}")
				return
			}
			if asked++; asked > 1 && c.later != nil {
				c.nodes = c.later
			}
			if err := json.NewEncoder(w).Encode(nodeList{c.nodes}); err != nil {
				t.Error(err)
			}
		}))
		var out bytes.Buffer
		err := Run(t.Context(), append(strings.Fields(c.words), "--server", api.URL, "--token", "x"), func(string) string { return "" }, &out)
		api.Close()
		if (err == nil) != (c.failed == "") || err != nil && !strings.Contains(err.Error(), c.failed) || !strings.Contains(out.String(), c.printed) {
			t.Errorf("%s of %+v: %v, printed %q", c.words, c.nodes, err, out.String())
		}
	}
}

// TestWeightZero says whether a node that weighs nothing gets mail all the same.
func TestWeightZero(t *testing.T) {
	node := func(id, state string, weight uint32) mover.NodeStatus {
		return mover.NodeStatus{ID: id, Roles: []string{"storage"}, State: state, Weight: weight}
	}
	for _, c := range []struct {
		words   string
		nodes   []mover.NodeStatus
		printed string
	}{
		{"node weight a 20", nil, "a has its new weight\n"},
		{"node weight a 0", []mover.NodeStatus{node("a", "active", 0), node("b", "active", 10), node("c", "active", 10)}, "a gets nothing new\n"},
		{"node weight a 0", []mover.NodeStatus{node("a", "active", 0), node("b", "active", 10), node("c", "draining", 10)}, "a gets nothing new but what it has to: only b weighs anything"},
		{"node weight a 0", []mover.NodeStatus{node("a", "active", 0), node("b", "lost", 10)}, "a gets nothing new but what it has to: no node that stays"},
	} {
		api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "PATCH" {
				fmt.Fprint(w, "{}")
			} else if err := json.NewEncoder(w).Encode(nodeList{c.nodes}); err != nil {
				t.Error(err)
			}
		}))
		var out bytes.Buffer
		err := Run(t.Context(), append(strings.Fields(c.words), "--server", api.URL, "--token", "x"), func(string) string { return "" }, &out)
		api.Close()
		if err != nil || !strings.Contains(out.String(), c.printed) {
			t.Errorf("%s of %+v: %v, printed %q", c.words, c.nodes, err, out.String())
		}
	}
}

// TestMoveNumbers takes numbers of shards as they are given: none is cut to what there is room for.
func TestMoveNumbers(t *testing.T) {
	var got relocate.Order
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
		fmt.Fprint(w, `{"planned": 1}`)
	}))
	defer api.Close()
	run := func(words string) error {
		return Run(t.Context(), append(strings.Fields(words), "--server", api.URL, "--token", "x"), func(string) string { return "" }, new(bytes.Buffer))
	}
	if err := run("account move --from 3 --shard 7"); err != nil || got.From != 3 || got.Shard != 7 {
		t.Errorf("%v, asked %+v", err, got)
	}
	for _, words := range []string{"a@x.test --shard 4294967297", "--from 4294967299 --home r", "a@x.test --shard 0", "a@x.test --shard -1", "a@x.test --shard x"} {
		if got = (relocate.Order{}); run("account move "+words) == nil || got.Shard != 0 || got.From != 0 {
			t.Errorf("%s: asked %+v", words, got)
		}
	}
}

// TestFrozenNode asks the next node when the first one takes connections and answers nothing.
func TestFrozenNode(t *testing.T) {
	frozen, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer frozen.Close()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") }))
	defer api.Close()
	dir := t.TempDir()
	about := fmt.Sprintf(`{"nodes": [{"http": "http://%s", "pid": 1}, {"http": %q, "pid": 2}], "admin_token": "x"}`, frozen.Addr(), api.URL)
	if err := os.WriteFile(filepath.Join(dir, "cluster.json"), []byte(about), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience/2)
	defer cancel()
	if err := Run(ctx, []string{"node", "list", "--dir", dir}, func(string) string { return "" }, new(bytes.Buffer)); err != nil {
		t.Error(err)
	}
}
