package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"hongyan/cluster/command"
)

// view is the part of GET /api/v1/status that people see.
type view struct {
	Node    string   `json:"node"`
	Region  string   `json:"region"`
	Ready   []string `json:"not_ready"`
	Members []struct {
		ID     string  `json:"id"`
		Region string  `json:"region"`
		Up     bool    `json:"up"`
		RTT    float64 `json:"rtt_ms"`
	} `json:"members"`
	Shards []struct {
		Shard   uint32 `json:"shard"`
		Home    string `json:"home"`
		Leader  string `json:"leader"`
		Applied uint64 `json:"applied"`
	} `json:"shards"`
	Volumes []volumeRow `json:"volumes"`
}

// ask gets the status twice: whole for programs, and the part that people see.
func (s *session) ask(ctx context.Context) (raw json.RawMessage, v *view, err error) {
	if err := s.call(ctx, "GET", "/api/v1/status", nil, &raw); err != nil {
		return nil, nil, err
	}
	v = new(view)
	if err := json.Unmarshal(raw, v); err != nil {
		return nil, nil, fmt.Errorf("read the status: %w", err)
	}
	return raw, v, nil
}

// status shows the cluster as one node sees it.
func (s *session) status() command.Command {
	return command.Command{
		Name: "status", Summary: "the cluster as one node sees it: nodes, shards, why it is not ready",
		Example: "hongyan admin status --dir .hongyan",
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			if len(words) > 0 {
				return command.Usagef("unexpected word %q", words[0])
			}
			raw, v, err := s.ask(ctx)
			if err != nil {
				return err
			}
			return s.print(out, raw, func() error { return v.print(out) })
		},
	}
}

func (v *view) print(out io.Writer) error {
	ready := "ready"
	if len(v.Ready) > 0 {
		ready = "not ready: " + strings.Join(v.Ready, "; ")
	}
	if _, err := fmt.Fprintf(out, "%s in %s is %s\n\n", v.Node, v.Region, ready); err != nil {
		return err
	}
	var rows [][]string
	for _, m := range v.Members {
		rows = append(rows, []string{m.ID, m.Region, fmt.Sprint(m.Up), fmt.Sprintf("%.1f ms", m.RTT)})
	}
	if err := command.Table(out, "NODE REGION UP RTT", rows); err != nil {
		return err
	}
	rows = nil
	for _, g := range v.Shards {
		rows = append(rows, []string{fmt.Sprint(g.Shard), g.Home, g.Leader, fmt.Sprint(g.Applied)})
	}
	if _, err := fmt.Fprintln(out); err != nil {
		return err
	}
	return command.Table(out, "SHARD HOME LEADER APPLIED", rows)
}
