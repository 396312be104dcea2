package scenario

import (
	"flag"
	"fmt"
	"strconv"
	"strings"

	"hongyan/bench/capacity"
	"hongyan/bench/report"
)

// Planning is what a capacity plan is for, and what it counts in.
type Planning struct {
	Population capacity.Population
	Node       capacity.Node
	From       string // a report whose costs are taken instead of measuring
}

// PlanningFlags is the help of Define's flags.
const PlanningFlags = `  --users N            whom a capacity plan is for (100000)
  --per-day N          messages that each gets a day (40), --reads N that each reads a day (60)
  --mean-size BYTES    of a message (35000)
  --retention DAYS     that mail is kept (730), --cold SHARE of it as fragments (0.5)
  --concurrent N       sessions for one user at the busiest time (0.5)
  --shares LIST        of users by region (south-china=0.5,north-china=0.35,overseas=0.15)
  --growth SHARE       of users in a year (0.2), --years N to look ahead (5)
  --peak FACTOR        busiest second over the day's mean (5), --utilisation SHARE that nothing exceeds then (0.6)
  --copies N           of the bytes (2), --replicas N of the index (3)
  --no-spare-region    does not have the others carry the load of a lost region
  --node-cores N, --node-memory BYTES, --node-disk BYTES, --node-fsyncs N, --node-net BYTES/S
                       the machine that the plan counts in (16, 64e9, 8e12, 5000, 1.25e9)
  --from REPORT        takes the costs from an earlier report's measurements
`

// Define adds the flags of a plan, with their defaults.
func (p *Planning) Define(fs *flag.FlagSet) {
	p.Population, p.Node = capacity.DefaultPopulation(), capacity.DefaultNode()
	o, n := &p.Population, &p.Node
	fs.IntVar(&o.Users, "users", o.Users, "")
	fs.Float64Var(&o.PerDay, "per-day", o.PerDay, "")
	fs.Float64Var(&o.ReadsPerDay, "reads", o.ReadsPerDay, "")
	fs.Float64Var(&o.MeanSize, "mean-size", o.MeanSize, "")
	fs.Float64Var(&o.RetentionDays, "retention", o.RetentionDays, "")
	fs.Float64Var(&o.ColdShare, "cold", o.ColdShare, "")
	fs.Float64Var(&o.Concurrent, "concurrent", o.Concurrent, "")
	fs.Float64Var(&o.Growth, "growth", o.Growth, "")
	fs.IntVar(&o.Years, "years", o.Years, "")
	fs.Float64Var(&o.PeakFactor, "peak", o.PeakFactor, "")
	fs.Float64Var(&o.Utilisation, "utilisation", o.Utilisation, "")
	fs.IntVar(&o.Copies, "copies", o.Copies, "")
	fs.IntVar(&o.IndexReplicas, "replicas", o.IndexReplicas, "")
	fs.BoolFunc("no-spare-region", "", func(string) error { o.SpareRegion = false; return nil })
	fs.Func("shares", "", func(s string) (err error) { o.Regions, err = parseShares(s); return err })
	fs.Float64Var(&n.Cores, "node-cores", n.Cores, "")
	fs.Float64Var(&n.MemoryBytes, "node-memory", n.MemoryBytes, "")
	fs.Float64Var(&n.DiskBytes, "node-disk", n.DiskBytes, "")
	fs.Float64Var(&n.Fsyncs, "node-fsyncs", n.Fsyncs, "")
	fs.Float64Var(&n.NetBytes, "node-net", n.NetBytes, "")
	fs.StringVar(&p.From, "from", "", "")
}

// parseShares reads a list such as south-china=0.6,overseas=0.4.
func parseShares(s string) (out []capacity.Region, err error) {
	for part := range strings.SplitSeq(s, ",") {
		name, share, ok := strings.Cut(part, "=")
		v, err := strconv.ParseFloat(share, 64)
		if !ok || err != nil || name == "" {
			return nil, fmt.Errorf("%q: expected REGION=SHARE such as south-china=0.5", part)
		}
		out = append(out, capacity.Region{Name: name, Share: v})
	}
	return out, nil
}

// costField is a cost under the name that it has in reports.
type costField struct {
	id, name, unit string
	value          *float64
}

func costFields(c *capacity.Costs) []costField {
	return []costField{
		{"mean_size", "mean size of the messages", "B", &c.MeanSize},
		{"delivery_cpu", "CPU of the whole cluster for a delivery", "s", &c.DeliveryCPU},
		{"read_cpu", "CPU for a read", "s", &c.ReadCPU},
		{"session_cpu", "cores for an idle session", "cores", &c.SessionCPU},
		{"node_cpu", "cores of a node at rest", "cores", &c.NodeCPU},
		{"delivery_fsyncs", "flushes of the disk for a delivery", "flushes", &c.DeliveryFsyncs},
		{"net_per_message", "bytes between regions for a delivery and index replica", "B", &c.NetPerMessage},
		{"net_per_byte", "bytes between regions for a byte and copy", "ratio", &c.NetPerByte},
		{"disk_per_byte", "bytes on disk for a byte and copy", "ratio", &c.DiskPerByte},
		{"cold_per_byte", "bytes on disk for a byte of a cold volume", "ratio", &c.ColdPerByte},
		{"index_per_message", "bytes on disk for a message in an index replica", "B", &c.IndexPerMessage},
		{"session_memory", "memory of an idle session", "B", &c.SessionMemory},
		{"node_memory", "memory of a node", "B", &c.NodeMemory},
		{"saturation_rate", "deliveries a second at most", "1/s", &c.SaturationRate},
		{"saturation_cores", "cores used then", "cores", &c.SaturationCores},
	}
}

const costPrefix = "capacity.cost."

// costMetrics are the costs as a report keeps them; what was not measured is left out.
func costMetrics(c capacity.Costs) (out []report.Metric) {
	for _, f := range costFields(&c) {
		if *f.value > 0 {
			out = append(out, metric(costPrefix+f.id, f.name, *f.value, f.unit, report.Info))
		}
	}
	return out
}

// costsOf takes the costs out of a report.
func costsOf(r *report.Report) (c capacity.Costs, err error) {
	found := 0
	for _, f := range costFields(&c) {
		if m := r.Find(costPrefix + f.id); m != nil {
			*f.value = m.Value
			found++
		}
	}
	if found == 0 {
		return c, fmt.Errorf("report %s of %v has no measured costs (run `hongyan bench capacity` first)", r.Scenario, r.Started.Format("2006-01-02"))
	}
	return c, nil
}
