package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"hongyan/bench/relay"
)

// Status is what `hongyan dev status --json` prints: the processes as the supervisor sees them, and the cluster as one
// of its live nodes sees it.
type Status struct {
	Nodes   []NodeStatus    `json:"nodes"`
	Faults  Abilities       `json:"faults"`
	Links   []relay.State   `json:"links,omitempty"`   // every way between two nodes
	Cluster json.RawMessage `json:"cluster,omitempty"` // GET /api/v1/status of the first node that answered
}

// Abilities are the faults that the cluster was started to have, beyond those that every cluster has.
type Abilities struct {
	Fsync bool `json:"fsync"` // --disk-faults: fsyncs that are slow, fail or hang
	Disk  bool `json:"disk"`  // --disk-size: disks that are full, and power cuts
}

// NodeStatus is one node's process, and whether it serves.
type NodeStatus struct {
	ID     string `json:"id"`
	Region string `json:"region"`
	ProcessStatus
	Ready  bool   `json:"ready"`
	Reason string `json:"reason,omitempty"` // why it does not serve
	Disk   string `json:"disk,omitempty"`   // what is wrong with its disk on purpose
}

func (s *supervisor) status(ctx context.Context) *Status {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c := s.crew.Load()
	st := Status{Links: s.net.States(), Faults: Abilities{Fsync: s.o.DiskFaults, Disk: c.disks != nil}}
	for _, p := range c.procs {
		n := NodeStatus{ID: p.node.ID, Region: p.node.Region, ProcessStatus: p.status(), Disk: c.diskFault(p)}
		if n.State == stateRunning {
			n.Reason = s.api.ready(ctx, p.node.http())
			n.Ready = n.Reason == ""
		}
		if n.State == stateRunning && st.Cluster == nil {
			if raw, err := s.api.status(ctx, p.node.http()); err == nil {
				st.Cluster = raw
			} else if n.Ready {
				n.Reason = err.Error()
			}
		}
		st.Nodes = append(st.Nodes, n)
	}
	return &st
}

// clusterView is the part of a node's status that people see in tables.
type clusterView struct {
	Node   string `json:"node"`
	Shards []struct {
		Shard   uint32   `json:"shard"`
		Home    string   `json:"home"`
		Leader  string   `json:"leader"`
		Voters  []string `json:"voters"`
		Applied uint64   `json:"applied"`
	} `json:"shards"`
	Volumes []struct {
		ID      uint64   `json:"id"`
		State   string   `json:"state"`
		Primary string   `json:"primary"`
		Copies  []string `json:"copies"`
		Length  int64    `json:"length"`
	} `json:"volumes"`
}

// Print writes the status for people: processes, shards, volumes that take mail, and a line for those that are full.
func (st *Status) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NODE\tREGION\tSTATE\tPID\tREADY\tDEATHS\tSINCE\tREMARK")
	for _, n := range st.Nodes {
		pid, ready, remark := "-", "no", n.Reason
		if n.PID != 0 {
			pid = fmt.Sprint(n.PID)
		}
		if n.Ready {
			ready = "yes"
		}
		if remark == "" && n.PID == 0 {
			remark = n.LastExit
		}
		if n.Clock != 0 {
			remark = strings.TrimPrefix(fmt.Sprintf("%s; clock wrong by %v", remark, n.Clock), "; ")
		}
		if n.Disk != "" {
			remark = strings.TrimPrefix(remark+"; disk "+n.Disk, "; ")
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", n.ID, n.Region, n.State, pid, ready, n.Restarts,
			time.Since(n.Since).Round(time.Second), remark)
	}
	printLinks(t, st.Links)
	if len(st.Cluster) > 0 {
		if err := printCluster(t, st.Cluster); err != nil {
			return err
		}
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print status: %w", err)
	}
	return nil
}

// printLinks leaves the errors of writing to the flush that follows; so does printCluster.
func printLinks(w io.Writer, links []relay.State) {
	links = slices.DeleteFunc(slices.Clone(links), func(l relay.State) bool { return l.Cut == relay.Whole && l.Shape == Shape{} })
	if len(links) == 0 {
		return
	}
	or := func(set bool, format string, v ...any) string {
		if !set {
			return "-"
		}
		return fmt.Sprintf(format, v...)
	}
	fmt.Fprint(w, "\nFROM\tTO\tTRAFFIC\tDELAY\tJITTER\tRATE\tLATE\n")
	for _, l := range links {
		traffic, s := "flows", l.Shape
		if l.Cut != relay.Whole {
			traffic = string(l.Cut)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.From, l.To, traffic, or(s.Delay > 0, "%v", s.Delay), or(s.Jitter > 0, "±%v", s.Jitter),
			or(s.Rate > 0, "%.4g MiB/s", float64(s.Rate)/(1<<20)), or(s.Late > 0, "%.3g%% by %v", s.Late*100, s.LateBy))
	}
}

func printCluster(w io.Writer, raw json.RawMessage) error {
	var c clusterView
	if err := json.Unmarshal(raw, &c); err != nil {
		return fmt.Errorf("read a node's status: %w", err)
	}
	fmt.Fprintf(w, "\nSHARD\tHOME\tLEADER\tAPPLIED\tVOTERS (as %s sees them)\n", c.Node)
	for _, s := range c.Shards {
		leader := s.Leader
		if leader == "" {
			leader = "none"
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%s\n", s.Shard, s.Home, leader, s.Applied, strings.Join(s.Voters, " "))
	}
	fmt.Fprint(w, "\nVOLUME\tSTATE\tPRIMARY\tCOPIES\n")
	sealed, bytes := 0, int64(0)
	for _, v := range c.Volumes {
		if v.State == "sealed" {
			sealed, bytes = sealed+1, bytes+v.Length
			continue
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", v.ID, v.State, v.Primary, strings.Join(v.Copies, " "))
	}
	fmt.Fprintf(w, "and %d sealed\tof %d MiB\n", sealed, bytes>>20)
	return nil
}
