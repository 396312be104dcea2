package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"hongyan/cluster/command"
)

// health is what GET /api/v1/scrub says of one node, as far as people see it.
type health struct {
	Node    string `json:"node"`
	Error   string `json:"error"`
	Every   int64  `json:"every_seconds"`
	Copies  int    `json:"copies"`
	Bytes   int64  `json:"bytes"`
	Current int    `json:"checked_in_period"`
	Oldest  int64  `json:"oldest_check"`
	Running uint64 `json:"running"`
	Done    int64  `json:"running_done"`
	Length  int64  `json:"running_length"`
	Totals  struct {
		Found      uint64 `json:"damaged_records"`
		Mended     uint64 `json:"mended_records"`
		Missing    uint64 `json:"missing_files"`
		Mismatches uint64 `json:"mismatches"`
	} `json:"since_start"`
	Damaged []struct {
		Volume  uint64 `json:"volume"`
		Records uint64 `json:"records"`
		Checked int64  `json:"checked"`
	} `json:"damaged"`
	Findings []finding `json:"findings"`
}

// finding is one thing that was wrong.
type finding struct {
	Time    int64  `json:"time"`
	Volume  uint64 `json:"volume"`
	Record  uint64 `json:"record"`
	Records uint64 `json:"records"`
	Start   int64  `json:"start"`
	End     int64  `json:"end"`
	What    string `json:"what"`
	Mended  bool   `json:"mended"`
	Differs bool   `json:"differs"`
	From    string `json:"from"`
}

func (f *finding) row(node string) []string {
	outcome := "NOT MENDED"
	switch {
	case f.Mended && f.From != "":
		outcome = "mended from " + f.From
	case f.Mended:
		outcome = "mended"
	case f.Differs:
		outcome = "DIFFERS from " + f.From
	}
	record := "-"
	if f.Record > 0 {
		record = fmt.Sprint(f.Record)
	}
	if f.Records > 1 {
		record += fmt.Sprintf(" (%d)", f.Records)
	}
	return []string{time.Unix(f.Time, 0).UTC().Format(time.RFC3339), node, fmt.Sprintf("%016x", f.Volume), record,
		fmt.Sprintf("%d–%d", f.Start, f.End), outcome, f.What}
}

// scrub shows the health of all copies.
func (s *session) scrub() command.Command {
	return command.Command{
		Name: "scrub", Summary: "health of the copies of mail on every node: what was verified, what was wrong, what was mended",
		Example: "hongyan admin scrub --dir .hongyan\nhongyan admin scrub --server http://10.0.0.1:8080 --token TOKEN --json",
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			if len(words) > 0 {
				return command.Usagef("unexpected word %q", words[0])
			}
			var raw struct {
				Nodes json.RawMessage `json:"nodes"`
			}
			if err := s.call(ctx, "GET", "/api/v1/scrub", nil, &raw); err != nil {
				return err
			}
			var nodes []health
			if err := json.Unmarshal(raw.Nodes, &nodes); err != nil {
				return fmt.Errorf("read the report: %w", err)
			}
			return s.print(out, raw.Nodes, func() error { return printHealth(out, nodes, time.Now()) })
		},
	}
}

// scrubStart has copies verified now.
func (s *session) scrubStart() command.Command {
	return command.Command{
		Name: "scrub start", Args: "[ID]", Summary: "verify a volume's copies now, or all copies, on every node",
		Example: "hongyan admin scrub start --dir .hongyan\nhongyan admin scrub start 000000000000001f --dir .hongyan",
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			var id uint64
			if len(words) > 1 {
				return command.Usagef("expected one volume's id, or none for all")
			}
			if len(words) == 1 {
				var err error
				if id, err = strconv.ParseUint(words[0], 16, 64); err != nil || id == 0 {
					return command.Usagef("%q is not a volume's id, such as 000000000000001f", words[0])
				}
			}
			var reply struct {
				Nodes []struct {
					Node   string `json:"node"`
					Copies int    `json:"copies"`
					Error  string `json:"error,omitempty"`
				} `json:"nodes"`
			}
			if err := s.call(ctx, "POST", "/api/v1/scrub", map[string]uint64{"volume": id}, &reply); err != nil {
				return err
			}
			return s.print(out, reply.Nodes, func() error {
				var rows [][]string
				for _, n := range reply.Nodes {
					rows = append(rows, []string{n.Node, fmt.Sprint(n.Copies), n.Error})
				}
				return command.Table(out, "NODE COPIES ERROR", rows)
			})
		},
	}
}

func printHealth(out io.Writer, nodes []health, now time.Time) error {
	var rows, findings [][]string
	for _, n := range nodes {
		if n.Error != "" {
			rows = append(rows, []string{n.Node, "no report: " + n.Error})
			continue
		}
		running := "-"
		if n.Running != 0 {
			running = fmt.Sprintf("%016x %d%%", n.Running, min(100, 100*n.Done/max(n.Length, 1)))
		}
		left := uint64(0)
		for _, d := range n.Damaged {
			left += d.Records
		}
		rows = append(rows, []string{n.Node, fmt.Sprint(n.Copies), fmt.Sprintf("%d MiB", n.Bytes>>20), fmt.Sprint(n.Current), ago(n.Oldest, now), running,
			fmt.Sprint(n.Totals.Found), fmt.Sprint(n.Totals.Mended), fmt.Sprint(left), fmt.Sprint(n.Totals.Missing), fmt.Sprint(n.Totals.Mismatches)})
		for _, f := range n.Findings {
			findings = append(findings, f.row(n.Node))
		}
	}
	err := command.Table(out, "NODE COPIES SIZE CHECKED OLDEST RUNNING FOUND MENDED LEFT MISSING DIFFER", rows)
	if err != nil || len(findings) == 0 {
		return err
	}
	if _, err := fmt.Fprintln(out); err != nil {
		return err
	}
	return command.Table(out, "TIME NODE VOLUME RECORD BYTES OUTCOME WHAT", findings)
}

// ago says how long ago that was.
func ago(unix int64, now time.Time) string {
	if unix == 0 {
		return "never"
	}
	return now.Sub(time.Unix(unix, 0)).Round(time.Second).String()
}
