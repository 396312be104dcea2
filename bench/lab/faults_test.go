package lab

import (
	"testing"
	"time"

	"hongyan/bench/disk"
	"hongyan/bench/history"
)

// TestFaultsLoseNothing has mail come in while links are cut, disks fail, clocks jump and the power goes, and holds what each node serves
// against what senders were told.
func TestFaultsLoseNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a cluster for a while")
	}
	r := &crashRun{t: t, bin: program.Build(t, "../.."), dir: t.TempDir(), history: history.New()}
	o := LaunchOptions{Exe: r.bin, Dir: r.dir, Accounts: 6, Restart: Never, WAN: "south-china:north-china=6ms,south-china:overseas=20ms,north-china:overseas=24ms", DiskFaults: true}
	if disk.Supported() == nil {
		o.DiskSize = 400 << 20
	}
	h, err := Launch(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	r.cluster = r.reread()
	r.trust()
	do := func(errs ...error) {
		for _, err := range errs {
			if err != nil {
				t.Error(err)
			}
		}
	}
	south, north, overseas := r.cluster.Nodes[0].ID, r.cluster.Nodes[1].ID, r.cluster.Nodes[2].ID
	r.send(2*time.Second, func() {
		time.Sleep(300 * time.Millisecond) // under load, here and below
		do(h.Isolate("south-china"))
		time.Sleep(1500 * time.Millisecond)
		do(h.Heal())
	})
	r.verify("")
	r.send(2*time.Second, func() {
		do(h.Clock(south, 24*time.Hour), h.Clock(north, -24*time.Hour), h.Disk(overseas, DiskFault{Kind: DiskSlow, Delay: 30 * time.Millisecond}))
		time.Sleep(time.Second)
		do(h.Clock(south, 0), h.Clock(north, 0), h.Disk(overseas, DiskFault{Kind: DiskOK}), h.Link(south, north, &Shape{Late: 0.1, LateBy: 50 * time.Millisecond}))
	})
	do(h.Link(south, north, nil))
	if o.DiskSize == 0 {
		t.Log("without root no full disk and no power cut")
	} else {
		r.send(2*time.Second, func() {
			do(h.Disk(overseas, DiskFault{Kind: DiskFull}))
			time.Sleep(time.Second)
			do(h.Disk(overseas, DiskFault{Kind: DiskOK}), h.PowerCut())
		})
	}
	r.cluster = r.reread()
	r.verify("")
	t.Logf("%d messages acknowledged, longest stall %v", r.history.Acknowledged(), r.worst.Round(time.Millisecond))
}
