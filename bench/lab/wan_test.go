package lab

import (
	"strings"
	"testing"
	"time"
)

func TestParseWAN(t *testing.T) {
	tests := []struct {
		in   string
		want string // of the error; none when empty
		rtt  time.Duration
	}{
		{"none", "", 0},
		{"china", "", 160 * time.Millisecond},
		{"overseas:south-china=90ms", "", 90 * time.Millisecond},
		{"overseas:south-china=90ms,south-china:north-china=1s", "", 90 * time.Millisecond},
		{"overseas:south-china=90ms,south-china:overseas=1s", "have a round trip already", 0},
		{"overseas=90ms", "expected none, china or REGION:REGION=RTT", 0},
		{"overseas:south-china=90", "expected none, china or REGION:REGION=RTT", 0},
		{"overseas:south-china=-1ms", "with 0s to 1m0s", 0},
		{"overseas:south-china=2m", "with 0s to 1m0s", 0},
		{"overseas:overseas=1ms", "no delay within one", 0},
		{"overseas:moon=1ms", "", 0}, // which may come
		{"overseas:Moon=1ms", "expected two regions such as", 0},
	}
	for _, tt := range tests {
		w, err := ParseWAN(tt.in, DefaultRegions())
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.in, err, tt.want)
		}
		if got := w.between("south-china", "overseas").Delay; got != tt.rtt/2 {
			t.Errorf("%s: %v one way", tt.in, got)
		}
	}
	if _, err := ParseWAN("china", []Region{{"mars", 2}}); err == nil || !strings.Contains(err.Error(), `no region "mars"`) {
		t.Errorf("china elsewhere: %v", err)
	}
}

func TestWaysBetweenNodesAndRegions(t *testing.T) {
	p, err := newPlan("", []Region{{"s", 2}, {"n", 1}, {"o", 1}}, 20000)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ a, b, want string }{
		{"s", "n", "s-1>n-1 s-2>n-1"},
		{"s", "", "s-1>n-1 s-1>o-1 s-2>n-1 s-2>o-1"}, // and s-1 still talks to s-2
		{"s-1", "", "s-1>s-2 s-1>n-1 s-1>o-1"},
		{"s-1", "s", "s-1>s-2"},
		{"s", "s", "s-1>s-2 s-2>s-1"},
		{"n-1", "n-1", "no link between n-1 and itself"},
		{"x", "n", `no node and no region "x"`},
		{"n", "x", `no node and no region "x"`},
	}
	for _, tt := range tests {
		there, back, err := p.ways(tt.a, tt.b)
		var got []string
		for _, w := range there {
			got = append(got, w.from.ID+">"+w.to.ID)
		}
		if err != nil {
			got = []string{err.Error()}
		}
		if s := strings.Join(got, " "); err == nil && s != tt.want || err != nil && !strings.Contains(s, tt.want) {
			t.Errorf("%s %s: %s, want %s", tt.a, tt.b, s, tt.want)
		}
		if len(back) != len(there) {
			t.Errorf("%s %s: %d ways there and %d back", tt.a, tt.b, len(there), len(back))
		}
	}
}

func TestParseBytes(t *testing.T) {
	for in, want := range map[string]int64{"0": 0, "12": 12, "4KB": 4 << 10, "600MB": 600 << 20, "1.5G": 3 << 29, "1TB": 1 << 40} {
		if got, err := ParseBytes(in); err != nil || got != want {
			t.Errorf("%s: %d, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "MB", "-1", "1XB", "NaN", "1e300"} {
		if got, err := ParseBytes(in); err == nil {
			t.Errorf("%q was taken as %d", in, got)
		}
	}
}

// TestNetworkOrders go all the way through the control socket of a cluster whose nodes do nothing.
func TestNetworkOrders(t *testing.T) {
	r := runLab(t, t.TempDir(), func(o *Options) { o.WAN = WAN{{"south", "north", 4 * time.Millisecond}} })
	h, err := Attach(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	links := func() string {
		t.Helper()
		st, err := h.Status()
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		printLinks(&b, st.Links)
		return b.String()
	}
	steps := []struct {
		do          func() error
		there, back string // the ways from south to north and back, as printed
	}{
		{func() error { return nil }, "flows\t2ms\t-", "flows\t2ms\t-"},
		{func() error { return h.Cut("south-1", "north", CutOptions{OneWay: true}) }, "cut\t2ms", "flows\t2ms"},
		{func() error { return h.Isolate("north-1") }, "cut\t2ms", "cut\t2ms"},
		{h.Heal, "flows\t2ms", "flows\t2ms"},
		{func() error {
			return h.Link("north", "south", &Shape{Delay: time.Millisecond, Rate: 10 << 20, Late: 0.01, LateBy: time.Second})
		}, "flows\t1ms\t-\t10 MiB/s\t1% by 1s", "flows\t1ms\t-\t10 MiB/s\t1% by 1s"},
		{func() error { return h.Link("north", "south", nil) }, "flows\t2ms\t-\t-", "flows\t2ms\t-\t-"},
	}
	for i, s := range steps {
		if err := s.do(); err != nil {
			t.Errorf("step %d: %v", i, err)
		}
		got := links()
		if !strings.Contains(got, "south-1\tnorth-1\t"+s.there) || !strings.Contains(got, "north-1\tsouth-1\t"+s.back) {
			t.Errorf("after step %d:\n%s", i, got)
		}
	}
	for _, err := range []error{h.Cut("south", "west", CutOptions{}), h.Link("south", "south-1", nil), h.Cut("south", "", CutOptions{OneWay: true, Reset: true})} {
		if err == nil {
			t.Error("an order that makes no sense was taken")
		}
	}
	for want, err := range map[string]error{
		"--disk-size": h.PowerCut(), "with --disk-faults": h.Disk("south-1", DiskFault{Kind: DiskHang}), "unknown fault": h.Disk("south-1", DiskFault{}),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
