package scenario

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"hongyan/bench/load"
	"hongyan/bench/report"
	"hongyan/bench/report/units"
)

// recoveryFigures are the times of a run, as they are shown.
var recoveryFigures = []struct{ id, name, unit string }{
	{"recovery.restart", "a killed node, from the start of its process until it serves", "s"},
	{"recovery.restart_all", "all nodes killed at once, until a delivery is accepted again", "s"},
	{"recovery.restart_all.serves", "all nodes killed at once, from the start of their processes until all serve", "s"},
	{"recovery.rejoin.serves", "a node that missed mail, until it serves", "s"},
	{"recovery.rejoin", "a node that missed mail, until it has everything", "s"},
	{"recovery.reindex.serves", "a node that lost its index, until it serves", "s"},
	{"recovery.reindex", "a node that lost its index, until it has everything", "s"},
	{"recovery.rebuild.serves", "a node that lost its disk, until it serves", "s"},
	{"recovery.rebuild", "a node that lost its disk, until it has everything", "s"},
	{"recovery.rebuild.bytes", "bytes that it copied", "B"},
	{"recovery.rebuild.rate", "the same in a second", "B/s"},
	{"recovery.powercut", "power cut of all nodes, how long no delivery was accepted", "s"},
	{"recovery.powercut.serves", "power cut of all nodes, until all serve", "s"},
}

// finish makes the section of what there is.
func (r *recoveries) finish() *report.Section {
	s := r.section
	s.Settings = []report.Setting{
		{Name: "load", Value: fmt.Sprintf("%g deliveries a second by LMTP to %d accounts, tried again until accepted", cmp.Or(r.env.Options.Rate, lightRate), len(r.mail.users))},
		{Name: "missed by a node that is away", Value: fmt.Sprintf("%d messages", r.burst)},
		{Name: "repetitions", Value: fmt.Sprint(r.runs())},
	}
	r.took["recovery.restart"] = r.took["recovery.restart.serves"]
	for _, f := range recoveryFigures {
		if runs := r.took[f.id]; len(runs) > 0 {
			better := report.Lower
			switch f.unit {
			case "B":
				better = report.Info
			case "B/s":
				better = report.Higher
			}
			m := metric(f.id, f.name, median(runs), f.unit, better)
			m.Samples = runs
			s.Metrics = append(s.Metrics, m)
		}
	}
	s.Tables = append(s.Tables, r.table())
	s.Charts = append(s.Charts, load.RateChart("Deliveries a second, and what was done to the nodes", r.rec))
	s.Latencies = append(s.Latencies, r.rec.Latency("recovery.delivery", "deliveries meanwhile, from when they were due until they were accepted"))
	s.Notes = append(s.Notes,
		"Times of a node count from the start of its process; the lab looks every 50 ms whether it serves. After the kill of all nodes the time counts from when the last is dead.",
		"A node has everything when its replica of each shard has come as far as the others' had when it was started, none of its copies is behind, and each file of a volume or fragment that it should hold has its full length.",
		"A lost disk is everything in the node's folder but its configuration, certificate and log. It is emptied once the other nodes have applied all that was committed until the node stopped. Bytes copied are of volumes and fragments; key files and the index come on top.",
		"A message counts as doubled when it is there more often than it was tried, and as repeated when a sender got no answer and tried again, which SMTP cannot avoid.")
	return s
}

func (r *recoveries) table() report.Table {
	t := report.Table{Title: "Recoveries", Columns: []string{"what", "node", "serves after", "whole or accepting after", "copied", "a second", "longest standstill of deliveries"},
		Note: "The standstill is the longest time without a success while some message waited, until the next of these rows."}
	marks := r.rec.Figures().Marks
	for _, row := range r.rows {
		cells := []string{strings.ReplaceAll(row.kind, "_", " "), row.node, seconds(row.serves), "-", "-", "-", seconds(marks[row.mark].Stall)}
		if row.whole > 0 {
			cells[3] = seconds(row.whole)
		}
		if row.copied > 0 {
			cells[4], cells[5] = units.Format(float64(row.copied), "B"), units.Format(float64(row.copied)/row.whole.Seconds(), "B/s")
		}
		t.Rows = append(t.Rows, cells)
	}
	return t
}

// seconds is a time for a table.
func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// median of some figures; 0 of none.
func median[T float64 | uint32](values []T) T {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
