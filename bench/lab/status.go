package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// Status is what `hongyan dev status --json` prints: the processes as the supervisor sees them, and the cluster as one
// of its live nodes sees it.
type Status struct {
	Nodes   []NodeStatus    `json:"nodes"`
	Cluster json.RawMessage `json:"cluster,omitempty"` // GET /api/v1/status of the first node that answered
}

// NodeStatus is one node's process, and whether it serves.
type NodeStatus struct {
	ID     string `json:"id"`
	Region string `json:"region"`
	ProcessStatus
	Ready  bool   `json:"ready"`
	Reason string `json:"reason,omitempty"` // why it does not serve
}

func (s *supervisor) status(ctx context.Context) *Status {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var st Status
	for _, p := range s.procs {
		n := NodeStatus{ID: p.node.ID, Region: p.node.Region, ProcessStatus: p.status()}
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

// Print writes the status for people.
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
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", n.ID, n.Region, n.State, pid, ready, n.Restarts,
			time.Since(n.Since).Round(time.Second), remark)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print status: %w", err)
	}
	return nil
}
