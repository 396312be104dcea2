package report

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

// sample is a report as the whole suite would write it: every kind of content, some objectives held, one missed.
func sample(t *testing.T) *Report {
	t.Helper()
	start := time.Date(2026, 11, 28, 9, 30, 0, 0, time.UTC)
	r := &Report{
		Schema: Schema, Scenario: "all", Started: start, Seconds: 612, Version: "v0.4-12-g70afae7",
		Machine: Machine{
			OS: "linux/amd64", Kernel: "6.1.0-28", CPU: "AMD EPYC 7763", Cores: 2, MemoryBytes: 8 << 30, Filesystem: "ext4", FsyncSecs: 0.000142, LoadBefore: 0.21,
		},
		Settings: []Setting{{"Nodes", "3, one in each region"}, {"Copies of bytes", "2"}, {"Index replicas", "3"}, {"Round trips", "40, 160 and 200 ms"}, {"Size mix", "mean 35 kB"}},
		Sections: []Section{sampleDelivery(start), sampleFailover(start.Add(2 * time.Minute)), sampleCapacity(start.Add(8 * time.Minute))},
	}
	objectives, err := DefaultObjectives()
	if err != nil {
		t.Fatal(err)
	}
	if err := Judge(r, objectives, nil); err != nil {
		t.Fatal(err)
	}
	return r
}

// distribution makes up times around a median that grow with the percentile.
func distribution(id, name string, median float64, n int64) Latency {
	l := Latency{ID: id, Name: name, Count: n, Mean: median * 1.2}
	for _, p := range []float64{0, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.99} {
		l.Points = append(l.Points, Percentile{p, median * math.Exp(0.5*math.Log10(100/(100-p))-0.15)})
	}
	l.Max = median * 9
	l.Points = append(l.Points, Percentile{100, l.Max})
	return l
}

func wave(rng *rand.Rand, name string, seconds, base float64, dips ...float64) Line {
	l := Line{Name: name}
	for at := 0.0; at < seconds; at += 0.1 {
		v := base * (1 + 0.08*rng.NormFloat64())
		for _, d := range dips {
			if at >= d && at < d+0.6 {
				v *= 0.02
			}
		}
		l.At, l.Value = append(l.At, at), append(l.Value, math.Abs(v))
	}
	return l
}

func sampleDelivery(start time.Time) Section {
	rng := rand.New(rand.NewPCG(1, 2))
	s := Section{
		Scenario: "delivery", Title: "Delivery", Started: start, Seconds: 118,
		Summary:   "Mixed mail by LMTP and SMTP with 1, 8 and 64 connections, then at half the highest rate for its delay. The cluster took 1,302 messages a second.",
		Settings:  []Setting{{"Seconds a step", "15"}, {"Connections", "1, 8, 64"}},
		Latencies: []Latency{distribution("delivery.lmtp.c1", "LMTP, 1 connection", 0.0031, 4170), distribution("delivery.lmtp.c8", "LMTP, 8 connections", 0.0091, 12300), distribution("delivery.lmtp.c64", "LMTP, 64 connections", 0.048, 19530)},
		Charts:    []Chart{{Title: "Deliveries a second", Unit: "1/s", Lines: []Line{wave(rng, "LMTP", 118, 1250), wave(rng, "SMTP", 118, 940)}}},
		Tables: []Table{{
			Title: "By size of the message", Columns: []string{"Size", "Messages/s", "p50", "p99", "MB/s"},
			Rows: [][]string{{"2 kB", "1,810", "33 ms", "80 ms", "3.6"}, {"35 kB", "1,302", "48 ms", "110 ms", "45.6"}, {"1 MB", "88", "610 ms", "1.4 s", "88"}},
			Note: "64 connections, 10 s each.",
		}},
		Notes: []string{"The load generator ran on the same machine and took 18 % of its time.", "A lone message waits for three fsyncs, one after the other."},
	}
	for _, p := range []string{"lmtp", "smtp"} {
		for _, c := range []int{1, 8, 64} {
			rate := 280 * math.Pow(float64(c), 0.37)
			m := Metric{ID: fmt.Sprintf("delivery.%s.c%d.rate", p, c), Name: fmt.Sprintf("deliveries a second by %s, %d connections", p, c), Value: rate, Unit: "1/s", Better: Higher}
			for range 8 {
				m.Samples = append(m.Samples, rate*(1+0.03*rng.NormFloat64()))
			}
			s.Metrics = append(s.Metrics, m)
		}
	}
	s.Metrics = append(s.Metrics,
		Metric{ID: "delivery.delay.mean", Name: "average delay", Value: 0.044, Unit: "s", Better: Lower}, Metric{ID: "delivery.delay.p99", Name: "delay, 99th percentile", Value: 0.118, Unit: "s", Better: Lower},
		Metric{ID: "delivery.delay.max", Name: "worst delay", Value: 0.41, Unit: "s", Better: Lower}, Metric{ID: "delivery.late.share", Name: "share of late messages", Value: 0, Unit: "ratio", Better: Lower},
		Metric{ID: "delivery.halfload.p99", Name: "delay at half load, 99th percentile", Value: 0.0731, Unit: "s", Better: Lower}, Metric{ID: "delivery.peer.ratio", Name: "beside Dovecot", Value: 2.6, Unit: "ratio", Better: Higher},
		Metric{ID: "delivery.cpu_per_1000", Name: "CPU of all nodes for 1,000 messages", Value: 0.92, Unit: "s", Better: Lower})
	return s
}

func sampleFailover(start time.Time) Section {
	rng := rand.New(rand.NewPCG(3, 4))
	faults := []float64{12, 29, 47, 66}
	s := Section{
		Scenario: "failover", Title: "Failover", Started: start, Seconds: 84,
		Summary: "A leader's node was killed, a region cut off, a link cut and a node frozen while 4 senders and 4 readers worked. No accepted message was lost.",
		Charts: []Chart{
			{Title: "Deliveries a second while parts fail", Unit: "1/s", Lines: []Line{wave(rng, "outside the fault", 84, 420, faults...), wave(rng, "readers", 84, 610, 29, 47)},
				Marks: []Mark{{12, 16, "leader killed"}, {29, 37, "region cut off"}, {47, 53, "link cut"}, {66, 70, "node frozen"}}},
			{Title: "Time of a delivery", Unit: "s", Log: true, Lines: []Line{wave(rng, "p50", 84, 0.012), wave(rng, "slowest", 84, 0.08)},
				Marks: []Mark{{12, 16, "leader killed"}, {29, 37, "region cut off"}, {47, 53, "link cut"}, {66, 70, "node frozen"}, {80, 0, "healed"}}},
		},
		Latencies: []Latency{distribution("failover.leader", "stall, leader killed", 0.21, 10), distribution("failover.region", "stall, region cut off", 0.8, 10)},
		Metrics: []Metric{
			{ID: "failover.leader.stall.max", Name: "longest stall, leader killed", Value: 0.43, Unit: "s", Better: Lower}, {ID: "failover.region.stall.max", Name: "longest stall, region cut off", Value: 1.62, Unit: "s", Better: Lower},
			{ID: "failover.link.stall.max", Name: "longest stall, link cut", Value: 0.91, Unit: "s", Better: Lower}, {ID: "failover.pause.stall.max", Name: "longest stall, node frozen", Value: 3.71, Unit: "s", Better: Lower},
			{ID: "failover.lost", Name: "accepted messages lost", Value: 0, Unit: "messages", Better: Lower},
		},
		Violations: []string{"u0003@example.test INBOX: UID 17 was seen by one session and then by none\n  12.31 s  STORE 17 +FLAGS (\\Seen)   OK\n  12.48 s  FETCH 17 (FLAGS)          no such message"},
	}
	return s
}

func sampleCapacity(start time.Time) Section {
	return Section{
		Scenario: "storage", Title: "Storage and recovery", Started: start, Seconds: 44,
		Metrics: []Metric{
			{ID: "storage.bytes_per_byte.copy", Name: "bytes on disk for a byte of mail and one copy", Value: 0.58, Unit: "ratio", Better: Lower}, {ID: "storage.cold.bytes_per_byte", Name: "bytes on disk for a compressed byte, cold", Value: 1.51, Unit: "ratio", Better: Lower},
			{ID: "recovery.restart", Name: "restart of a node", Value: 1.4, Unit: "s", Better: Lower}, {ID: "chaos.lost", Name: "lost under random faults", Value: 0, Unit: "messages", Better: Lower},
			{ID: "idle.memory_per_session", Name: "memory for one idle session", Value: 41200, Unit: "B", Better: Lower},
		},
		Failed: "rebuild after a lost disk: node south-china-1 was not ready after 60 s (see /tmp/run/south-china-1/node.log)",
	}
}

func TestWriteSample(t *testing.T) {
	dir := t.TempDir()
	if keep := keepDir(); keep != "" {
		dir = keep
	}
	if err := Write(dir, sample(t)); err != nil {
		t.Fatal(err)
	}
}

// keepDir is where whoever works on the page's looks wants the sample: HONGYAN_REPORT_DIR.
func keepDir() string { return os.Getenv("HONGYAN_REPORT_DIR") }
