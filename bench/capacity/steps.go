package capacity

import (
	"fmt"
	"math"

	"hongyan/bench/report/units"
)

// Step is one formula of a plan, with its numbers put in.
type Step struct {
	What    string
	Formula string
	Numbers string
	Result  string
}

// String names the assumption and its value.
func (a assumption) String() string { return a.name + ", taken to be " + units.Format(a.value, a.unit) }

// steps tells how the plan was worked out, in the order of the arithmetic, and ends with the region that needs the most nodes.
func steps(p *Plan) []Step {
	num, of, c, n := units.Number, units.Format, p.Costs, p.Population
	users, size := float64(n.Users), n.meanSize()
	cores := p.Peak*c.DeliveryCPU + p.Reads*c.ReadCPU + p.Sessions*c.SessionCPU
	kept := p.messages(users)
	out := []Step{
		{"Deliveries, mean of the day", "users × messages a day ÷ 86,400 s", fmt.Sprintf("%s × %s ÷ 86,400 s", num(users), num(n.PerDay)), of(p.Mean, "1/s")},
		{"Deliveries at the peak", "mean × peak factor", fmt.Sprintf("%s × %s", of(p.Mean, "1/s"), num(n.PeakFactor)), of(p.Peak, "1/s")},
		{"Reads at the peak", "users × reads a day ÷ 86,400 s × peak factor", fmt.Sprintf("%s × %s ÷ 86,400 s × %s", num(users), num(n.ReadsPerDay), num(n.PeakFactor)), of(p.Reads, "1/s")},
		{"Sessions at the busiest time", "users × sessions for a user", fmt.Sprintf("%s × %s", num(users), num(n.Concurrent)), num(p.Sessions)},
		{"CPU of the cluster at the peak", "deliveries × CPU of one + reads × CPU of one + sessions × cores of one", fmt.Sprintf("%s × %s + %s × %s + %s × %s cores",
			of(p.Peak, "1/s"), of(c.DeliveryCPU, "s"), of(p.Reads, "1/s"), of(c.ReadCPU, "s"), num(p.Sessions), num(c.SessionCPU)), of(cores, "cores")},
		{"Messages kept", "users × messages a day × days kept", fmt.Sprintf("%s × %s × %s", num(users), num(n.PerDay), num(n.RetentionDays)), num(kept)},
		{"Disk, message bytes", "messages × size × disk for a byte × (warm share × copies + cold share × cold factor)", fmt.Sprintf("%s × %s × %s × (%s × %d + %s × %s)",
			num(kept), of(size, "B"), num(c.DiskPerByte), num(1-n.ColdShare), n.Copies, num(n.ColdShare), num(c.ColdPerByte)), of(p.hot(users)*float64(n.Copies)+p.cold(users), "B")},
		{"Disk, index", "messages × index for a message × replicas", fmt.Sprintf("%s × %s × %d", num(kept), of(c.IndexPerMessage, "B"), n.IndexReplicas), of(p.index(users)*float64(n.IndexReplicas), "B")},
		{"Fsyncs of the cluster at the peak", "deliveries × fsyncs of one", fmt.Sprintf("%s × %s", of(p.Peak, "1/s"), num(c.DeliveryFsyncs)), of(p.Peak*c.DeliveryFsyncs, "1/s")},
		{"Memory of the sessions", "sessions × memory of one", fmt.Sprintf("%s × %s", num(p.Sessions), of(c.SessionMemory, "B")), of(p.Sessions*c.SessionMemory, "B")},
	}
	regions := len(n.Regions)
	if copies, replicas := Elsewhere(n.Copies, regions), Elsewhere(n.IndexReplicas, regions); regions > 1 {
		bits := 8 * p.Peak * (size*c.NetPerByte*copies + c.NetPerMessage*replicas)
		out = append(out, Step{"Between all regions at the peak", "deliveries × (size × bytes for a byte × copies elsewhere + bytes for a message × replicas elsewhere) × 8", fmt.Sprintf("%s × (%s × %s × %s + %s × %s) × 8",
			of(p.Peak, "1/s"), of(size, "B"), num(c.NetPerByte), num(copies), of(c.NetPerMessage, "B"), num(replicas)), of(bits, "bit/s")})
	}
	return append(out, regionSteps(p, cores)...)
}

// regionSteps follow the region with the most nodes.
func regionSteps(p *Plan, cores float64) []Step {
	num, of := units.Number, units.Format
	most := 0
	for i, r := range p.Regions {
		if r.Nodes > p.Regions[most].Nodes {
			most = i
		}
	}
	r := p.Regions[most]
	part := Step{"Part of the load that " + r.Name + " carries", "its share", num(p.Population.shares(-1)[most]), units.Format(100*r.Share, "%")}
	if p.Population.SpareRegion {
		worst := 0.0 // share of the largest other region
		shares := p.Population.shares(-1)
		for i, s := range shares {
			if i != most {
				worst = max(worst, s)
			}
		}
		part.Formula, part.Numbers = "its share ÷ (1 − share of the largest other region, which may be lost)", fmt.Sprintf("%s ÷ (1 − %s)", num(shares[most]), num(worst))
	}
	out := []Step{part}
	for _, need := range r.Needs {
		s := Step{What: "Nodes in " + r.Name + " for " + need.Resource, Formula: "part of the load ÷ what one node may give, rounded up",
			Numbers: of(need.Amount, need.Unit) + " ÷ " + of(need.PerNode, need.Unit), Result: of(float64(need.Nodes), "nodes")}
		switch use := p.Population.Utilisation; need.Resource {
		case "CPU":
			s.Formula = "part × cores ÷ (cores of a node × utilisation − cores at rest), rounded up"
			s.Numbers = fmt.Sprintf("%s × %s ÷ (%s × %s − %s)", num(r.Share), num(cores), num(p.Node.Cores), num(use), num(p.Costs.NodeCPU))
		case "disk":
			s.Formula = "bytes that it holds ÷ (disk of a node × utilisation), rounded up"
			s.Numbers = fmt.Sprintf("%s ÷ (%s × %s)", of(need.Amount, "B"), of(p.Node.DiskBytes, "B"), num(use))
		case "saturation":
			s.Formula = "part × deliveries ÷ (rate measured ÷ cores measured × cores of a node × utilisation), rounded up"
			s.Numbers = fmt.Sprintf("%s × %s ÷ (%s ÷ %s × %s × %s)", num(r.Share), of(p.Peak, "1/s"), of(p.Costs.SaturationRate, "1/s"), num(p.Costs.SaturationCores), num(p.Node.Cores), num(use))
		}
		out = append(out, s)
	}
	return out
}

// omissions are what the formulae leave out or take for granted.
func omissions(c Costs, p *Population) []string {
	out := []string{
		"The peak factor of " + units.Number(p.PeakFactor) + " is the busiest second over the day's mean: working hours make the busiest hour about 2.5 times the mean, and senders that start on the hour double that. Measure yours if you run a mail service already.",
		"A region's CPU, fsyncs and memory follow its users; that it also keeps copies for others is counted in disk and network only.",
		"Fsyncs for a delivery fall as load grows, since callers share them; with the figure of a lighter load the plan is on the safe side.",
		"Mail read away from its home region, outbound mail, repair after a loss, scrubbing, compaction, backups and filters are not counted: the room above the target utilisation is theirs.",
		"In each later year all mail that is kept is counted at that year's rate, which is too much while users are still being added.",
	}
	if size := p.meanSize(); math.Abs(math.Log2(size/c.MeanSize)) > 1 {
		out = append(out, fmt.Sprintf("The CPU of a delivery was measured with messages of %s and is used for %s: measure again with that size.", units.Format(c.MeanSize, "B"), units.Format(size, "B")))
	}
	if p.SpareRegion && p.Copies < 2 {
		out = append(out, "One copy does not survive the loss of its region.")
	}
	return out
}
