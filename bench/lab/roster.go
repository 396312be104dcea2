package lab

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"hongyan/cluster/config"
)

// rosterFile was a bare list of regions before nodes could come and go; that form is still read.
const rosterFile = "lab.json"

// roster is lab.json: who belongs to the folder. It is written before what it speaks of is done, so that whatever a crash leaves behind has a name.
type roster struct {
	Regions []Region `json:"regions"` // that the cluster was founded with
	Nodes   []seat   `json:"nodes"`
	Gone    []string `json:"gone,omitempty"` // ids that were removed: none is used twice
	Founded bool     `json:"founded"`        // the cluster was ready once: from then on no node may found another one
}

// seat is one node's place. It keeps its number, and with it its ports.
type seat struct {
	ID     string        `json:"id"`
	Region string        `json:"region"`
	Number int           `json:"number"`
	Joined bool          `json:"joined"`          // it came when the cluster lived
	Roles  []config.Role `json:"roles,omitempty"` // both when absent
	Half   half          `json:"half,omitempty"`
	Wiped  bool          `json:"wiped,omitempty"` // its disk was lost, and it has not served since
}

// half is what was begun with a node and not brought to its end. Such a node does not run at the next start.
type half string

const (
	halfAdded   half = "added"
	halfRemoved half = "removed"
)

// found gives the nodes of some regions their places: by region, then within it.
func found(regions []Region) roster {
	r := roster{Regions: regions}
	for _, region := range regions {
		for i := range region.Nodes {
			r.Nodes = append(r.Nodes, seat{ID: nodeID(region.Name, i+1), Region: region.Name, Number: len(r.Nodes)})
		}
	}
	return r
}

func nodeID(region string, k int) string { return fmt.Sprintf("%s-%d", region, k) }

// readRoster gives an error that is fs.ErrNotExist in a new folder.
func readRoster(dir string) (r roster, err error) {
	path := filepath.Join(dir, rosterFile)
	b, err := os.ReadFile(path)
	if err != nil {
		return r, fmt.Errorf("read list of nodes: %w", err)
	}
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("[")) {
		var regions []Region
		err = json.Unmarshal(b, &regions)
		r = found(regions)
	} else {
		err = json.Unmarshal(b, &r)
	}
	if err == nil {
		err = r.check()
	}
	if err != nil {
		return r, fmt.Errorf("read %s: %w", path, err)
	}
	return r, nil
}

func (r *roster) write(dir string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode list of nodes: %w", err)
	}
	return replaceFile(filepath.Join(dir, rosterFile), append(b, '\n'))
}

// check refuses what would have two nodes share a folder or ports, or a folder lie elsewhere.
func (r *roster) check() error {
	if len(r.Nodes) > maxNodes {
		return fmt.Errorf("%d nodes: expected at most %d", len(r.Nodes), maxNodes)
	}
	for i, s := range r.Nodes {
		if !config.ValidName(s.ID) || !config.ValidName(s.Region) || s.Number < 0 || s.Number > 65535/portsPerNode {
			return fmt.Errorf("node %q with number %d in region %q: out of range", s.ID, s.Number, s.Region)
		}
		if slices.ContainsFunc(r.Nodes[:i], func(o seat) bool { return o.ID == s.ID || o.Number == s.Number }) {
			return fmt.Errorf("node %s with number %d: id or number is another's too", s.ID, s.Number)
		}
	}
	return nil
}

func (r *roster) clone() roster {
	return roster{slices.Clone(r.Regions), slices.Clone(r.Nodes), slices.Clone(r.Gone), r.Founded}
}

func (r *roster) equal(o *roster) bool {
	same := func(a, b seat) bool {
		roles := slices.Equal(a.Roles, b.Roles)
		return roles && a.ID == b.ID && a.Region == b.Region && a.Number == b.Number && a.Joined == b.Joined && a.Half == b.Half && a.Wiped == b.Wiped
	}
	return slices.Equal(r.Regions, o.Regions) && slices.EqualFunc(r.Nodes, o.Nodes, same) && slices.Equal(r.Gone, o.Gone) && r.Founded == o.Founded
}

// seat is the place of a node, nil if it has none.
func (r *roster) seat(id string) *seat {
	if i := slices.IndexFunc(r.Nodes, func(s seat) bool { return s.ID == id }); i >= 0 {
		return &r.Nodes[i]
	}
	return nil
}

// halfway is the node of a region whose adding was begun, nil if there is none.
func (r *roster) halfway(region string) *seat {
	if i := slices.IndexFunc(r.Nodes, func(s seat) bool { return s.Region == region && s.Half == halfAdded }); i >= 0 {
		return &r.Nodes[i]
	}
	return nil
}

// nextID is the first id of a region that no node had yet.
func (r *roster) nextID(region string) string {
	for k := 1; ; k++ {
		if id := nodeID(region, k); r.seat(id) == nil && !slices.Contains(r.Gone, id) {
			return id
		}
	}
}

// leave ends a node's place. Its id is not given again, its number may be.
func (r *roster) leave(id string) {
	r.Nodes = slices.DeleteFunc(r.Nodes, func(s seat) bool { return s.ID == id })
	r.Gone = append(r.Gone, id)
}

// settle compares what is asked for with what the folder was made with. The first start decides which nodes found the cluster; the ports may
// differ each time.
func settle(dir string, regions []Region, portBase int) (*plan, error) {
	r, err := readRoster(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r = found(regions)
		if err := r.write(dir); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	case !sameSet(r.Regions, regions):
		return nil, fmt.Errorf("the cluster in %s was made with --regions %s, which stays so (`hongyan dev add REGION` adds nodes; use another --dir for %s)",
			dir, formatRegions(r.Regions), formatRegions(regions))
	}
	return planOf(dir, r, portBase)
}
