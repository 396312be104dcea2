// Package capacity works out what machines and links a population of mail users needs, from what a cluster was measured to need for
// one message and one session.
//
// Everything here is arithmetic on its arguments: nothing is read, measured or kept. Each plan shows its formulae with the numbers
// put in, so that a planner can check them and put in others, and names what was assumed instead of measured. docs/bench.md
// explains how to read one.
package capacity

// Costs are what a cluster was measured to need. A field that is 0 was not measured: an assumption takes its place, and the plan
// names it.
type Costs struct {
	MeanSize        float64 // bytes of a message in the measurement
	DeliveryCPU     float64 // CPU seconds of the whole cluster for one delivery
	ReadCPU         float64 // CPU seconds of the whole cluster for one read of a message
	SessionCPU      float64 // cores of the whole cluster for one idle session
	NodeCPU         float64 // cores of one node at rest
	DeliveryFsyncs  float64 // of the whole cluster for one delivery; falls with load, as callers share them
	NetPerMessage   float64 // bytes between regions for one delivery and one index replica elsewhere, whatever the size
	NetPerByte      float64 // bytes between regions for one byte of a message and one copy elsewhere
	DiskPerByte     float64 // bytes on disk for one byte of a message and one copy
	ColdPerByte     float64 // bytes on disk, all fragments together, for one byte of a volume that became cold
	IndexPerMessage float64 // bytes on disk for one message in one index replica
	SessionMemory   float64 // bytes for one idle session
	NodeMemory      float64 // bytes of one node without sessions
	SaturationRate  float64 // deliveries a second beyond which more load only waited; 0: no such limit is looked at
	SaturationCores float64 // of all nodes together, when SaturationRate was measured
}

// assumption is a cost that was not measured.
type assumption struct {
	name  string
	field *float64
	value float64
	unit  string
}

// assume fills in what was not measured, and gives the list of that. The values are those of a three-node cluster on two cores in
// November 2026; they are there so that a plan can be made at all, not to be relied on.
func (c Costs) assume() (Costs, []assumption) {
	all := []assumption{
		{"size of the messages that were measured", &c.MeanSize, 35e3, "B"},
		{"CPU of a delivery", &c.DeliveryCPU, 0.002, "s"},
		{"CPU of a read", &c.ReadCPU, 0.0005, "s"},
		{"cores for an idle session", &c.SessionCPU, 2e-5, "cores"},
		{"cores of a node at rest", &c.NodeCPU, 0.05, "cores"},
		{"fsyncs of a delivery", &c.DeliveryFsyncs, 4, "fsyncs"},
		{"bytes between regions for a delivery and index replica", &c.NetPerMessage, 2048, "B"},
		{"bytes between regions for a byte of a message and copy", &c.NetPerByte, 0.7, "B"},
		{"bytes on disk for a byte of a message and copy", &c.DiskPerByte, 0.6, "B"},
		{"bytes on disk for a byte of a cold volume", &c.ColdPerByte, 1.5, "B"},
		{"bytes on disk for a message in an index replica", &c.IndexPerMessage, 1024, "B"},
		{"memory of an idle session", &c.SessionMemory, 60e3, "B"},
		{"memory of a node without sessions", &c.NodeMemory, 512e6, "B"},
	}
	var missing []assumption
	for _, a := range all {
		if *a.field <= 0 {
			*a.field = a.value
			missing = append(missing, a)
		}
	}
	return c, missing
}

// Node is the machine that a plan counts in.
type Node struct {
	Cores       float64
	MemoryBytes float64
	DiskBytes   float64
	Fsyncs      float64 // a second that its disk can do, one after the other
	NetBytes    float64 // a second, each way
}

// DefaultNode is an ordinary server.
func DefaultNode() Node {
	return Node{Cores: 16, MemoryBytes: 64e9, DiskBytes: 8e12, Fsyncs: 5000, NetBytes: 10e9 / 8}
}

// Load is what a measured cluster was given.
type Load struct {
	Deliveries    float64 // a second
	Reads         float64 // a second
	MeanSize      float64 // bytes of a message
	Sessions      float64 // idle ones
	Nodes         int
	Copies        int // of message bytes
	IndexReplicas int
	Regions       int // over which they are spread
}

// Utilisation is what a whole cluster uses.
type Utilisation struct {
	Cores              float64
	FsyncsPerSecond    float64
	NetBytesPerSecond  float64 // between regions
	DiskBytesPerSecond float64 // that stay, on all nodes
	MemoryBytes        float64
}

// Predict says what a cluster with these costs uses under a load. Costs that were not measured are assumed.
func Predict(c Costs, l Load) Utilisation {
	c, _ = c.assume()
	bytes := l.Deliveries * l.MeanSize
	return Utilisation{
		Cores:           l.Deliveries*c.DeliveryCPU + l.Reads*c.ReadCPU + l.Sessions*c.SessionCPU + float64(l.Nodes)*c.NodeCPU,
		FsyncsPerSecond: l.Deliveries * c.DeliveryFsyncs,
		NetBytesPerSecond: bytes*c.NetPerByte*Elsewhere(l.Copies, l.Regions) +
			l.Deliveries*c.NetPerMessage*Elsewhere(l.IndexReplicas, l.Regions),
		DiskBytesPerSecond: bytes*c.DiskPerByte*float64(l.Copies) + l.Deliveries*c.IndexPerMessage*float64(l.IndexReplicas),
		MemoryBytes:        l.Sessions*c.SessionMemory + float64(l.Nodes)*c.NodeMemory,
	}
}

// Elsewhere is how many of the copies leave the region where a message arrives. They are spread evenly, the first at home.
func Elsewhere(copies, regions int) float64 {
	if regions < 2 {
		return 0
	}
	return float64(copies - (copies+regions-1)/regions)
}
