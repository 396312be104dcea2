package capacity

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hongyan/bench/report"
)

// measured are round costs, so that plans can be checked by hand.
func measured() Costs {
	return Costs{
		MeanSize: 50e3, DeliveryCPU: 0.001, ReadCPU: 0.0005, SessionCPU: 1e-5, NodeCPU: 0.1, DeliveryFsyncs: 2, NetPerMessage: 2000, NetPerByte: 0.5,
		DiskPerByte: 0.5, ColdPerByte: 1.5, IndexPerMessage: 1000, SessionMemory: 50e3, NodeMemory: 400e6,
	}
}

// village is a population whose plan can be worked out on paper: 864 deliveries a second at the peak, no reads.
func village() Population {
	return Population{
		Users: 1_000_000, PerDay: 14.92992, MeanSize: 100e3, RetentionDays: 100, Concurrent: 0.1,
		Regions: []Region{{"a", 1}, {"b", 1}, {"c", 1}}, Years: 2, Growth: 1, PeakFactor: 5, Copies: 2, IndexReplicas: 3, Utilisation: 0.5,
	}
}

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-6*math.Max(1, math.Abs(want)) {
		t.Errorf("%s: %g, want %g", what, got, want)
	}
}

func TestPlanOnPaper(t *testing.T) {
	node := Node{Cores: 1, MemoryBytes: 4e9, DiskBytes: 20e12, Fsyncs: 1000, NetBytes: 1e9}
	p, err := Compute(measured(), village(), node)
	if err != nil {
		t.Fatal(err)
	}
	kept := 1e6 * 14.92992 * 100
	near(t, "mean", p.Mean, 172.8)
	near(t, "peak", p.Peak, 864)
	near(t, "sessions", p.Sessions, 100_000)
	near(t, "disk", p.DiskBytes, kept*(100e3*0.5*2+1000*3))
	needs := map[string]Need{}
	for _, n := range p.Regions[0].Needs {
		needs[n.Resource] = n
	}
	near(t, "CPU", needs["CPU"].Amount, (864*0.001+100_000*1e-5)/3)
	near(t, "CPU of a node", needs["CPU"].PerNode, 0.4)
	near(t, "disk of a region", needs["disk"].Amount, kept*(100e3*0.5*2+1000*3)/3)
	near(t, "fsyncs", needs["fsyncs"].Amount, 576)
	near(t, "memory", needs["memory"].Amount, 100_000.0/3*50e3)
	// Clients bring 28.8 MB/s; copies of 864/3 messages leave, and as many arrive: 0.5 × 100 kB + 2 × 2 kB each.
	near(t, "network", needs["network"].Amount, 288*100e3+288*(50e3+4e3))
	near(t, "link", p.Links[0].Peak, 8*288*54e3/2)
	if r := p.Regions[0]; r.Nodes != 6 || r.Binding != "disk" {
		t.Errorf("%d nodes for %s, want 6 for disk: %+v", r.Nodes, r.Binding, r.Needs)
	}
	if got := p.Years[2]; got.Users != 4e6 || p.Years[1].Nodes != 31 && p.Years[1].Nodes != 33 {
		t.Errorf("growth: %+v", p.Years)
	}
}

func TestSpareRegion(t *testing.T) {
	pop := village()
	pop.SpareRegion = true
	pop.Regions = []Region{{"a", 6}, {"b", 3}, {"c", 1}}
	p, err := Compute(measured(), pop, DefaultNode())
	if err != nil {
		t.Fatal(err)
	}
	near(t, "a when b is lost", p.Regions[0].Share, 6.0/7)
	near(t, "b when a is lost", p.Regions[1].Share, 3.0/4)
	near(t, "c when a is lost", p.Regions[2].Share, 1.0/4)
	for _, l := range p.Links {
		if l.Worst < l.Peak {
			t.Errorf("a link carries less with a region lost: %+v", l)
		}
	}
}

// TestSpread holds that a region has at most one copy of a message while there are enough regions, and that none is forgotten.
func TestSpread(t *testing.T) {
	for _, c := range []struct {
		shares []float64
		copies int
		want   []float64
	}{
		{[]float64{1.0 / 3, 1.0 / 3, 1.0 / 3}, 2, []float64{2.0 / 3, 2.0 / 3, 2.0 / 3}},
		{[]float64{0.8, 0.1, 0.1}, 2, []float64{1, 0.5, 0.5}},
		{[]float64{0.6, 0.39, 0.01}, 3, []float64{1, 1, 1}},
		{[]float64{0.9, 0.1}, 3, []float64{2, 1}},
		{[]float64{0.7, 0, 0.3}, 2, []float64{1, 0, 1}},
		{[]float64{1}, 2, []float64{2}},
	} {
		got := spread(c.shares, c.copies)
		for i := range got {
			if math.Abs(got[i]-c.want[i]) > 1e-9 {
				t.Errorf("spread(%v, %d) = %v, want %v", c.shares, c.copies, got, c.want)
				break
			}
		}
	}
}

func TestEachResourceCanBind(t *testing.T) {
	for want, change := range map[string]func(*Costs, *Population, *Node){
		"CPU":        func(c *Costs, _ *Population, _ *Node) { c.DeliveryCPU = 1 },
		"disk":       func(_ *Costs, p *Population, _ *Node) { p.RetentionDays = 30000 },
		"fsyncs":     func(_ *Costs, _ *Population, n *Node) { n.Fsyncs = 1 },
		"memory":     func(c *Costs, _ *Population, _ *Node) { c.SessionMemory = 1e9 },
		"network":    func(_ *Costs, _ *Population, n *Node) { n.NetBytes = 1000 },
		"saturation": func(c *Costs, _ *Population, _ *Node) { c.SaturationRate, c.SaturationCores = 0.1, 1 },
		"copies":     func(_ *Costs, p *Population, _ *Node) { p.Users, p.Regions = 1, p.Regions[:1] },
	} {
		c, p, n := measured(), village(), DefaultNode()
		change(&c, &p, &n)
		plan, err := Compute(c, p, n)
		if err != nil {
			t.Fatal(err)
		}
		if got := plan.Regions[0].Binding; got != want {
			t.Errorf("bound by %s, want %s: %+v", got, want, plan.Regions[0].Needs)
		}
		if plan.Nodes() < 3 {
			t.Errorf("%s: %d nodes cannot keep three index replicas", want, plan.Nodes())
		}
	}
}

// TestMoreNeedsNoLess doubles what drives a plan and looks that nothing shrinks.
func TestMoreNeedsNoLess(t *testing.T) {
	plan, err := Compute(measured(), DefaultPopulation(), DefaultNode())
	if err != nil {
		t.Fatal(err)
	}
	base := plan.WhatIf[0]
	for _, e := range plan.WhatIf[1 : len(plan.WhatIf)-2] {
		if e.Nodes < base.Nodes || e.DiskBytes < base.DiskBytes || e.LinkBits < base.LinkBits {
			t.Errorf("%s asks for less: %+v, planned %+v", e.What, e, base)
		}
	}
	if last := plan.WhatIf[len(plan.WhatIf)-1]; last.Nodes > base.Nodes {
		t.Errorf("%s asks for more: %+v", last.What, last)
	}
}

func TestAssumptionsAreNamed(t *testing.T) {
	plan, err := Compute(Costs{DeliveryCPU: 0.001}, DefaultPopulation(), DefaultNode())
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(plan.Assumed, "\n")
	if strings.Contains(text, "not measured: CPU of a delivery") || !strings.Contains(text, "not measured: memory of an idle session, taken to be 60 kB") {
		t.Errorf("assumptions:\n%s", text)
	}
}

func TestMistakesAreNamed(t *testing.T) {
	if p := DefaultPopulation(); p.Validate() != nil {
		t.Errorf("the default population: %v", p.Validate())
	}
	for want, change := range map[string]func(*Population){
		"users: 0":             func(p *Population) { p.Users = 0 },
		"messages a day: NaN":  func(p *Population) { p.PerDay = math.NaN() },
		"mean size: -1":        func(p *Population) { p.MeanSize = -1 },
		"size 0 bytes":         func(p *Population) { p.Sizes = []Size{{0, 1}} },
		"an odd number":        func(p *Population) { p.IndexReplicas = 2 },
		"copies: 0":            func(p *Population) { p.Copies = 0 },
		"utilisation: 60":      func(p *Population) { p.Utilisation = 60 },
		"peak factor: 0.5":     func(p *Population) { p.PeakFactor = 0.5 },
		"retention: 0 days":    func(p *Population) { p.RetentionDays = 0 },
		"growth: 20":           func(p *Population) { p.Growth = 20 },
		"cold share: 2":        func(p *Population) { p.ColdShare = 2 },
		"that no other has":    func(p *Population) { p.Regions[1].Name = p.Regions[0].Name },
		"share 0":              func(p *Population) { p.Regions[0].Share = 0 },
		"regions: 0":           func(p *Population) { p.Regions = nil },
		"name two at least":    func(p *Population) { p.Regions = p.Regions[:1] },
		"reads a day: -1":      func(p *Population) { p.ReadsPerDay = -1 },
		"sessions for one use": func(p *Population) { p.Concurrent = math.Inf(1) },
		"years: 99":            func(p *Population) { p.Years = 99 },
	} {
		p := DefaultPopulation()
		change(&p)
		if _, err := Compute(measured(), p, DefaultNode()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got: %v", want, err)
		}
	}
	small := DefaultNode()
	small.Cores, small.MemoryBytes, small.DiskBytes = 0.1, 1e6, 0
	_, err := Compute(measured(), DefaultPopulation(), small)
	for _, want := range []string{"has none left at 60 % utilisation, as it uses 0.1 at rest", "of memory has none left", "disk: 0: expected more"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a node too small: want %q, got: %v", want, err)
		}
	}
}

func TestPredictAndCheck(t *testing.T) {
	l := Load{Deliveries: 100, Reads: 200, MeanSize: 10e3, Sessions: 1000, Nodes: 3, Copies: 2, IndexReplicas: 3, Regions: 3}
	u := Predict(measured(), l)
	near(t, "cores", u.Cores, 0.1+0.1+0.01+0.3)
	near(t, "fsyncs", u.FsyncsPerSecond, 200)
	near(t, "network", u.NetBytesPerSecond, 100*(10e3*0.5+2*2000))
	near(t, "disk", u.DiskBytesPerSecond, 100*(10e3*0.5*2+3*1000))
	near(t, "memory", u.MemoryBytes, 1000*50e3+3*400e6)
	off, table := Check(u, Utilisation{Cores: u.Cores / 1.1, MemoryBytes: u.MemoryBytes / 0.8})
	near(t, "error", off, 0.2)
	if len(table.Rows) != 2 || table.Rows[0][3] != "+10 %" || table.Rows[1][3] != "-20 %" {
		t.Errorf("table: %v", table.Rows)
	}
	if off, _ := Check(u, Utilisation{}); !math.IsNaN(off) {
		t.Errorf("an error of %g, with nothing measured", off)
	}
}

func TestSection(t *testing.T) {
	plan, err := Compute(measured(), DefaultPopulation(), DefaultNode())
	if err != nil {
		t.Fatal(err)
	}
	s := plan.Section(time.Unix(1e9, 0))
	var steps [][]string
	for _, table := range s.Tables {
		for _, row := range table.Rows {
			if len(row) != len(table.Columns) {
				t.Errorf("table %q has %d columns and a row of %d", table.Title, len(table.Columns), len(row))
			}
		}
		steps = table.Rows
	}
	for i, want := range [][]string{
		{"Deliveries, mean of the day", "users × messages a day ÷ 86,400 s", "100,000 × 40 ÷ 86,400 s", "46.3/s"},
		{"Deliveries at the peak", "mean × peak factor", "46.3/s × 5", "231/s"},
	} {
		if got := strings.Join(steps[i], " | "); got != strings.Join(want, " | ") {
			t.Errorf("step %d: %s", i, got)
		}
	}
	if len(s.Notes) == 0 || !strings.Contains(s.Notes[0], "peak factor") {
		t.Errorf("notes: %q", s.Notes)
	}
	dir := t.TempDir()
	if keep := os.Getenv("HONGYAN_REPORT_DIR"); keep != "" {
		dir = filepath.Join(keep, "capacity")
	}
	if err := report.Write(dir, &report.Report{Scenario: "capacity", Started: s.Started, Sections: []report.Section{s}, Passed: true}); err != nil {
		t.Error(err)
	}
}
