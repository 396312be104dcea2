package capacity

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Plan is what a population needs.
type Plan struct {
	Population Population
	Costs      Costs // with what was assumed
	Node       Node
	Mean, Peak float64 // deliveries a second
	Reads      float64 // a second, at the peak
	Sessions   float64 // at the busiest time
	DiskBytes  float64 // on all nodes, with every region alive
	Regions    []RegionPlan
	Links      []Link
	Years      []Year
	Steps      []Step // how it was worked out
	WhatIf     []Effect
	Assumed    []string // what was not measured, and what the formulae leave out
}

// RegionPlan is what one region needs.
type RegionPlan struct {
	Name      string
	Share     float64 // of the whole peak that it must carry, at worst
	DiskBytes float64 // that it must hold, at worst
	Needs     []Need
	Nodes     int
	Binding   string  // the resource that asks for the most nodes
	DiskEach  float64 // bytes on the disk of each of its nodes
}

// Need is one resource of a region.
type Need struct {
	Resource string
	Amount   float64
	PerNode  float64 // that one node may give at the target utilisation
	Unit     string
	Nodes    int
}

// Link is the way between two regions, each direction for itself.
type Link struct {
	A, B  string
	Peak  float64 // bits a second in the busier direction, with every region alive
	Worst float64 // with any other region lost
	Buy   float64 // Worst at the target utilisation
}

// Year is the plan's outline some years ahead.
type Year struct {
	Year      int
	Users     float64
	Peak      float64
	DiskBytes float64
	Nodes     int
}

// Effect is what becomes of the plan when one input doubles.
type Effect struct {
	What      string
	Nodes     int
	DiskBytes float64
	LinkBits  float64 // of the busiest link
}

// Compute makes a plan. Its error has every mistake in the population and the node.
func Compute(c Costs, p Population, n Node) (*Plan, error) {
	c, missing := c.assume()
	if err := errors.Join(p.Validate(), n.validate(c, p)); err != nil {
		return nil, err
	}
	plan := work(c, p, n, 1)
	plan.Steps = steps(plan)
	for _, a := range missing {
		plan.Assumed = append(plan.Assumed, "not measured: "+a.String())
	}
	plan.Assumed = append(plan.Assumed, omissions(c, &p)...)
	for y := range p.Years + 1 {
		grown := work(c, p, n, math.Pow(1+p.Growth, float64(y)))
		plan.Years = append(plan.Years, Year{Year: y, Users: float64(p.Users) * math.Pow(1+p.Growth, float64(y)), Peak: grown.Peak, DiskBytes: grown.DiskBytes, Nodes: grown.Nodes()})
	}
	plan.WhatIf = effects(c, p, n)
	return plan, nil
}

// Nodes of all regions.
func (p *Plan) Nodes() int {
	sum := 0
	for _, r := range p.Regions {
		sum += r.Nodes
	}
	return sum
}

func (n Node) validate(c Costs, p Population) error {
	var found []error
	for _, f := range []struct {
		name string
		v    float64
	}{{"cores", n.Cores}, {"memory", n.MemoryBytes}, {"disk", n.DiskBytes}, {"fsyncs a second", n.Fsyncs}, {"network", n.NetBytes}} {
		if !(f.v > 0) || math.IsInf(f.v, 0) {
			found = append(found, fmt.Errorf("a node's %s: %g: expected more than 0", f.name, f.v))
		}
	}
	if n.Cores*p.Utilisation <= c.NodeCPU {
		found = append(found, fmt.Errorf("a node with %g cores has none left at %g %% utilisation, as it uses %g at rest: plan with larger nodes", n.Cores, 100*p.Utilisation, c.NodeCPU))
	}
	if n.MemoryBytes*p.Utilisation <= c.NodeMemory {
		found = append(found, fmt.Errorf("a node with %g bytes of memory has none left at %g %% utilisation, as it uses %g without sessions: plan with larger nodes", n.MemoryBytes, 100*p.Utilisation, c.NodeMemory))
	}
	return errors.Join(found...)
}

// work does the arithmetic for so many times the users.
func work(c Costs, p Population, n Node, times float64) *Plan {
	users := float64(p.Users) * times
	plan := &Plan{Population: p, Costs: c, Node: n}
	plan.Mean = users * p.PerDay / 86400
	plan.Peak = plan.Mean * p.PeakFactor
	plan.Reads = users * p.ReadsPerDay / 86400 * p.PeakFactor
	plan.Sessions = users * p.Concurrent
	plan.DiskBytes = plan.hot(users)*float64(p.Copies) + plan.cold(users) + plan.index(users)*float64(p.IndexReplicas)
	for i := range p.Regions {
		plan.Regions = append(plan.Regions, plan.region(i, users))
	}
	plan.links()
	plan.enough()
	return plan
}

// messages that are kept.
func (p *Plan) messages(users float64) float64 {
	return users * p.Population.PerDay * p.Population.RetentionDays
}

// hot are the bytes on disk of one copy of all that is not cold.
func (p *Plan) hot(users float64) float64 {
	return p.messages(users) * p.Population.meanSize() * p.Costs.DiskPerByte * (1 - p.Population.ColdShare)
}

// cold are the bytes on disk of all fragments.
func (p *Plan) cold(users float64) float64 {
	return p.messages(users) * p.Population.meanSize() * p.Costs.DiskPerByte * p.Population.ColdShare * p.Costs.ColdPerByte
}

// index are the bytes on disk of one replica.
func (p *Plan) index(users float64) float64 { return p.messages(users) * p.Costs.IndexPerMessage }

// losses are the regions that may be lost: -1 stands for none.
func (p *Plan) losses() []int {
	out := []int{-1}
	for i := range p.Population.Regions {
		if p.Population.SpareRegion {
			out = append(out, i)
		}
	}
	return out
}

// region finds what region i needs at worst.
func (p *Plan) region(i int, users float64) RegionPlan {
	r := RegionPlan{Name: p.Population.Regions[i].Name}
	for _, lost := range p.losses() {
		shares := p.Population.shares(lost)
		if lost == i {
			continue
		}
		r.Share = max(r.Share, shares[i])
		disk := p.hot(users)*spread(shares, p.Population.Copies)[i] + p.cold(users)/float64(alive(shares)) + p.index(users)*spread(shares, p.Population.IndexReplicas)[i]
		r.DiskBytes = max(r.DiskBytes, disk)
	}
	c, n, use := p.Costs, p.Node, p.Population.Utilisation
	need := func(resource string, amount, perNode float64, unit string) {
		r.Needs = append(r.Needs, Need{resource, amount, perNode, unit, int(math.Ceil(amount/perNode - 1e-9))})
	}
	need("CPU", r.Share*(p.Peak*c.DeliveryCPU+p.Reads*c.ReadCPU+p.Sessions*c.SessionCPU), n.Cores*use-c.NodeCPU, "cores")
	need("disk", r.DiskBytes, n.DiskBytes*use, "B")
	need("fsyncs", r.Share*p.Peak*c.DeliveryFsyncs, n.Fsyncs*use, "1/s")
	need("memory", r.Share*p.Sessions*c.SessionMemory, n.MemoryBytes*use-c.NodeMemory, "B")
	need("network", p.wire(i), n.NetBytes*use, "B/s")
	if c.SaturationRate > 0 && c.SaturationCores > 0 {
		need("saturation", r.Share*p.Peak, c.SaturationRate/c.SaturationCores*n.Cores*use, "1/s")
	}
	most := slices.MaxFunc(r.Needs, func(a, b Need) int { return a.compare(b) })
	r.Nodes, r.Binding = max(most.Nodes, 1), most.Resource
	r.DiskEach = r.DiskBytes / float64(r.Nodes)
	return r
}

func (n Need) compare(o Need) int {
	switch a, b := n.Amount/n.PerNode, o.Amount/o.PerNode; {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// crossing are the bytes a second that go from region i to region j.
func (p *Plan) crossing(shares []float64, i, j int) float64 {
	if i == j || shares[i] == 0 || shares[j] == 0 {
		return 0
	}
	left := alive(shares)
	message := p.Population.meanSize()*p.Costs.NetPerByte*Elsewhere(p.Population.Copies, left) + p.Costs.NetPerMessage*Elsewhere(p.Population.IndexReplicas, left)
	return p.Peak * shares[i] * message * shares[j] / (1 - shares[i])
}

// wire is what passes the network of region i in its busier direction: clients' mail and the copies from and to other regions.
func (p *Plan) wire(i int) float64 {
	worst := 0.0
	size := p.Population.meanSize()
	for _, lost := range p.losses() {
		shares := p.Population.shares(lost)
		in, out := p.Peak*shares[i]*size, p.Reads*shares[i]*size
		for j := range shares {
			in += p.crossing(shares, j, i)
			out += p.crossing(shares, i, j)
		}
		worst = max(worst, in, out)
	}
	return worst
}

func (p *Plan) links() {
	regions := p.Population.Regions
	for i := range regions {
		for j := i + 1; j < len(regions); j++ {
			l := Link{A: regions[i].Name, B: regions[j].Name}
			for _, lost := range p.losses() {
				shares := p.Population.shares(lost)
				bits := 8 * max(p.crossing(shares, i, j), p.crossing(shares, j, i))
				if lost < 0 {
					l.Peak = bits
				}
				l.Worst = max(l.Worst, bits)
			}
			l.Buy = l.Worst / p.Population.Utilisation
			p.Links = append(p.Links, l)
		}
	}
}

// enough adds nodes until there is one for each copy and replica: the largest regions get them first.
func (p *Plan) enough() {
	byShare := make([]int, len(p.Regions))
	for i := range byShare {
		byShare[i] = i
	}
	slices.SortStableFunc(byShare, func(a, b int) int {
		return -Need{Amount: p.Population.Regions[a].Share, PerNode: 1}.compare(Need{Amount: p.Population.Regions[b].Share, PerNode: 1})
	})
	for i := 0; p.Nodes() < max(p.Population.Copies, p.Population.IndexReplicas); i++ {
		r := &p.Regions[byShare[i%len(byShare)]]
		r.Nodes++
		r.Binding = "copies"
		r.DiskEach = r.DiskBytes / float64(r.Nodes)
	}
}

// effects doubles one input after the other.
func effects(c Costs, p Population, n Node) []Effect {
	double := func(what string, change func(*Population)) Effect {
		q := p
		q.Regions, q.Sizes = slices.Clone(p.Regions), slices.Clone(p.Sizes)
		change(&q)
		plan := work(c, q, n, 1)
		e := Effect{What: what, Nodes: plan.Nodes(), DiskBytes: plan.DiskBytes}
		for _, l := range plan.Links {
			e.LinkBits = max(e.LinkBits, l.Worst)
		}
		return e
	}
	return []Effect{
		double("as planned", func(*Population) {}),
		double("twice the users", func(q *Population) { q.Users *= 2 }),
		double("twice the messages a day", func(q *Population) { q.PerDay *= 2 }),
		double("messages twice as large", func(q *Population) { q.MeanSize = 2 * p.meanSize(); q.Sizes = nil }),
		double("kept twice as long", func(q *Population) { q.RetentionDays *= 2 }),
		double("twice the reads", func(q *Population) { q.ReadsPerDay *= 2 }),
		double("twice the sessions", func(q *Population) { q.Concurrent *= 2 }),
		double("twice the peak factor", func(q *Population) { q.PeakFactor *= 2 }),
		double("nothing cold", func(q *Population) { q.ColdShare = 0 }),
		double("no spare region", func(q *Population) { q.SpareRegion = false }),
	}
}
