package capacity

import (
	"fmt"
	"math"
	"strings"
	"time"

	"hongyan/bench/report"
	"hongyan/bench/report/units"
)

// Section shows the plan in a report.
func (p *Plan) Section(started time.Time) report.Section {
	info := func(id, name string, v float64, unit string) report.Metric {
		return report.Metric{ID: "capacity.plan." + id, Name: name, Value: v, Unit: unit}
	}
	n := p.Population
	var link float64
	for _, l := range p.Links {
		link = max(link, l.Buy)
	}
	s := report.Section{
		Scenario: "capacity", Title: "Capacity for " + units.Number(float64(n.Users)) + " users", Started: started,
		Summary: fmt.Sprintf("%s, %s, %s of disk, and links between regions of up to %s carry %s messages a user and day, kept %s days: %s on average and %s at the peak.",
			units.Format(float64(p.Nodes()), "nodes"), p.bindings(), units.Format(p.DiskBytes, "B"), units.Format(link, "bit/s"), units.Number(n.PerDay), units.Number(n.RetentionDays),
			units.Format(p.Mean, "1/s"), units.Format(p.Peak, "1/s")),
		Settings: p.settings(),
		Metrics: []report.Metric{
			info("nodes", "nodes", float64(p.Nodes()), "nodes"), info("disk", "bytes on all disks, every region alive", p.DiskBytes, "B"), info("mean", "deliveries a second, mean", p.Mean, "1/s"),
			info("peak", "deliveries a second, peak", p.Peak, "1/s"), info("sessions", "sessions at the busiest time", p.Sessions, "sessions"), info("link", "largest link to buy", link, "bit/s"),
		},
		Tables: []report.Table{p.regionTable(), p.linkTable(), p.yearTable(), p.effectTable(), p.stepTable()},
		Notes:  p.Assumed,
	}
	return s
}

// bindings says in a phrase what limits the regions.
func (p *Plan) bindings() string {
	var out []string
	for _, r := range p.Regions {
		out = append(out, fmt.Sprintf("%d in %s for its %s", r.Nodes, r.Name, r.Binding))
	}
	return strings.Join(out, ", ")
}

func (p *Plan) settings() []report.Setting {
	n, of := p.Population, units.Format
	spare := "no"
	if n.SpareRegion {
		spare = "yes: any one may be lost at the peak"
	}
	return []report.Setting{
		{Name: "Copies and index replicas", Value: fmt.Sprintf("%d and %d", n.Copies, n.IndexReplicas)}, {Name: "Mean size", Value: of(n.meanSize(), "B")},
		{Name: "Cold share", Value: of(100*n.ColdShare, "%")}, {Name: "Growth in a year", Value: of(100*n.Growth, "%")}, {Name: "Spare region", Value: spare},
		{Name: "Utilisation at the peak", Value: of(100*n.Utilisation, "%")},
		{Name: "A node", Value: fmt.Sprintf("%s cores, %s memory, %s disk, %s fsyncs, %s network", units.Number(p.Node.Cores), of(p.Node.MemoryBytes, "B"), of(p.Node.DiskBytes, "B"),
			of(p.Node.Fsyncs, "1/s"), of(8*p.Node.NetBytes, "bit/s"))},
	}
}

func (p *Plan) regionTable() report.Table {
	t := report.Table{Title: "Nodes by region and resource", Columns: []string{"Region", "Part of the peak"},
		Note: "Nodes that each resource alone would ask for. The largest counts."}
	for _, need := range p.Regions[0].Needs {
		t.Columns = append(t.Columns, need.Resource)
	}
	t.Columns = append(t.Columns, "Nodes", "Limited by", "Disk used on each")
	for _, r := range p.Regions {
		row := []string{r.Name, units.Format(100*r.Share, "%")}
		for _, need := range r.Needs {
			row = append(row, fmt.Sprintf("%d (%s)", need.Nodes, units.Format(need.Amount, need.Unit)))
		}
		t.Rows = append(t.Rows, append(row, fmt.Sprint(r.Nodes), r.Binding, units.Format(r.DiskEach, "B")))
	}
	return t
}

func (p *Plan) linkTable() report.Table {
	t := report.Table{Title: "Links between regions", Columns: []string{"Link", "At the peak", "With a region lost", "To buy"},
		Note: fmt.Sprintf("Mbit/s in the busier direction. What to buy is used to %s %%.", units.Number(100*p.Population.Utilisation))}
	mbit := func(bits float64) string { return units.Number(math.Round(bits/1e4)/100) + " Mbit/s" }
	for _, l := range p.Links {
		t.Rows = append(t.Rows, []string{l.A + " – " + l.B, mbit(l.Peak), mbit(l.Worst), mbit(l.Buy)})
	}
	return t
}

func (p *Plan) yearTable() report.Table {
	t := report.Table{Title: "Growth", Columns: []string{"Year", "Users", "Deliveries at the peak", "Disk", "Nodes"}}
	for _, y := range p.Years {
		t.Rows = append(t.Rows, []string{fmt.Sprint(y.Year), units.Number(math.Round(y.Users)), units.Format(y.Peak, "1/s"), units.Format(y.DiskBytes, "B"), fmt.Sprint(y.Nodes)})
	}
	return t
}

func (p *Plan) effectTable() report.Table {
	t := report.Table{Title: "What if", Columns: []string{"Change", "Nodes", "Disk", "Busiest link"}}
	for _, e := range p.WhatIf {
		t.Rows = append(t.Rows, []string{e.What, fmt.Sprint(e.Nodes), units.Format(e.DiskBytes, "B"), units.Format(e.LinkBits, "bit/s")})
	}
	return t
}

func (p *Plan) stepTable() report.Table {
	t := report.Table{Title: "How it was worked out", Columns: []string{"Step", "Formula", "Numbers", "Result"}}
	for _, s := range p.Steps {
		t.Rows = append(t.Rows, []string{s.What, s.Formula, s.Numbers, s.Result})
	}
	return t
}

// Check holds a prediction against a measurement. It gives the largest relative error of what was measured, the value of
// capacity.prediction.error, and all of them as a table. What was not measured is 0 and left out; with nothing measured the error is NaN.
func Check(predicted, measured Utilisation) (float64, report.Table) {
	worst := math.NaN()
	t := report.Table{Title: "Prediction against measurement", Columns: []string{"Resource", "Predicted", "Measured", "Error"}}
	for _, f := range []struct {
		name      string
		want, got float64
		unit      string
	}{
		{"CPU", predicted.Cores, measured.Cores, "cores"},
		{"fsyncs", predicted.FsyncsPerSecond, measured.FsyncsPerSecond, "1/s"},
		{"between regions", predicted.NetBytesPerSecond, measured.NetBytesPerSecond, "B/s"},
		{"disk growth", predicted.DiskBytesPerSecond, measured.DiskBytesPerSecond, "B/s"},
		{"memory", predicted.MemoryBytes, measured.MemoryBytes, "B"},
	} {
		if !(f.got > 0) {
			continue
		}
		off := (f.want - f.got) / f.got
		if !(math.Abs(off) <= worst) { // also for the first, when worst is NaN
			worst = math.Abs(off)
		}
		t.Rows = append(t.Rows, []string{f.name, units.Format(f.want, f.unit), units.Format(f.got, f.unit), fmt.Sprintf("%+.0f %%", 100*off)})
	}
	return worst, t
}
