package scenario

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hongyan/bench/lab"
)

// nodeView is the part of a node's own status that drills look at.
type nodeView struct {
	NotReady []string `json:"not_ready"`
	Shards   []struct {
		Shard   uint32   `json:"shard"`
		Home    string   `json:"home"`
		Leader  string   `json:"leader"`
		Voters  []string `json:"voters"`
		Applied uint64   `json:"applied"` // by this node's replica
	} `json:"shards"`
	Volumes []volumeView `json:"volumes"`
	Copies  struct {
		SealedCopies  int
		Behind        int
		RepairedBytes uint64 // since the process began
	} `json:"copies"`
}

// volumeView is an entry of the directory of volumes.
type volumeView struct {
	ID     uint64   `json:"id"`
	State  string   `json:"state"`
	Copies []string `json:"copies"` // none once it is cold
	Length int64    `json:"length"` // once sealed
}

const stateSealed = "sealed"

func (v volumeView) file() string { return fmt.Sprintf("%016x.vol", v.ID) }

const viewWait = 5 * time.Second

// view asks one node how it is.
func (e *Env) view(ctx context.Context, node string) (v *nodeView, err error) {
	c, err := e.Lab.Cluster()
	if err != nil {
		return nil, err
	}
	m, err := memberOf(c, node)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, viewWait)
	defer cancel()
	b, err := adminGet(ctx, m.HTTP+"/api/v1/status", c.AdminToken)
	if err != nil {
		return nil, fmt.Errorf("ask node %s for its status: %w", node, err)
	}
	v = new(nodeView)
	if err := json.Unmarshal(b, v); err != nil {
		return nil, fmt.Errorf("read status of node %s: %w", node, err)
	}
	return v, nil
}

// maxAnswer bounds what a node may tell.
const maxAnswer = 64 << 20

// adminGet asks a node's admin API.
func adminGet(ctx context.Context, url, token string) ([]byte, error) {
	return adminAsk(ctx, http.MethodGet, url, token, nil)
}

// adminAsk sends a request with JSON, or with nothing, to a node's admin API and gives the answer if that is one of success.
func adminAsk(ctx context.Context, method, url, token string, body []byte) (b []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	if b, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer)); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if res.StatusCode/100 != 2 {
		return nil, fmt.Errorf("the node answers %s: %s", res.Status, strings.TrimSpace(string(b[:min(len(b), 300)])))
	}
	return b, nil
}

func memberOf(c *lab.Cluster, node string) (lab.Member, error) {
	i := slices.IndexFunc(c.Nodes, func(m lab.Member) bool { return m.ID == node })
	if i < 0 {
		return lab.Member{}, fmt.Errorf("the cluster has no node %s", node)
	}
	return c.Nodes[i], nil
}

// folder is where a node keeps its data.
func (e *Env) folder(node string) (string, error) {
	c, err := e.Lab.Cluster()
	if err != nil {
		return "", err
	}
	m, err := memberOf(c, node)
	return m.Data, err
}

// nodes are the ids of all nodes.
func (e *Env) nodes() (out []string) {
	for _, n := range e.Target.Nodes {
		out = append(out, n.ID)
	}
	return out
}

// without is list less one.
func without(list []string, one string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == one })
}

// applied is how far each shard has come: the furthest of these nodes' replicas.
func (e *Env) applied(ctx context.Context, nodes []string) (map[uint32]uint64, error) {
	far := make(map[uint32]uint64)
	for _, n := range nodes {
		v, err := e.view(ctx, n)
		if err != nil {
			return nil, err
		}
		for _, s := range v.Shards {
			far[s.Shard] = max(far[s.Shard], s.Applied)
		}
	}
	return far, nil
}

// reached is nil when every shard's replica in that view has come so far.
func (v *nodeView) reached(far map[uint32]uint64) error {
	here := make(map[uint32]uint64)
	for _, s := range v.Shards {
		here[s.Shard] = s.Applied
	}
	for shard, index := range far {
		if here[shard] < index {
			return fmt.Errorf("shard %d has applied %d of %d entries", shard, here[shard], index)
		}
	}
	return nil
}

// holdings are the files that a node must have to be whole, with their lengths: its copies of sealed volumes as another node knows them, and
// fragments that lay there before, -1 for whatever length.
func (e *Env) holdings(ctx context.Context, node, other string) (map[string]int64, error) {
	dir, err := e.folder(node)
	if err != nil {
		return nil, err
	}
	v, err := e.view(ctx, other)
	if err != nil {
		return nil, err
	}
	out := make(map[string]int64)
	for _, vol := range v.Volumes {
		if vol.State == stateSealed && slices.Contains(vol.Copies, node) {
			out[filepath.Join(dir, "volumes", vol.file())] = vol.Length
		}
	}
	fragments, err := filepath.Glob(filepath.Join(dir, "cold", "*.frag"))
	if err != nil {
		return nil, fmt.Errorf("list fragments of node %s: %w", node, err)
	}
	for _, f := range fragments {
		out[f] = -1
	}
	return out, nil
}

// copiesWhole is nil when the node says that none of its copies is behind, and the files say the same: those that it should hold by what the other node
// knows, and fragments that it held before.
func (e *Env) copiesWhole(ctx context.Context, node, other string, v *nodeView, before map[string]int64) error {
	if v.Copies.Behind > 0 {
		return fmt.Errorf("%d copies of node %s are behind", v.Copies.Behind, node)
	}
	now, err := e.holdings(ctx, node, other)
	if err != nil {
		return err
	}
	for path := range before {
		if _, still := now[path]; !still && !strings.HasSuffix(path, ".vol") {
			now[path] = -1
		}
	}
	for path, length := range now {
		fi, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("copy of node %s: %w", node, err)
		}
		if length >= 0 && fi.Size() != length {
			return fmt.Errorf("%s has %d of %d bytes", path, fi.Size(), length)
		}
	}
	return nil
}
