package scenario

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"hongyan/bench/report"
)

// TestStorageAndRecovery runs both at their smallest. The bounds are those of a figure that makes sense, not of a good one.
func TestStorageAndRecovery(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a cluster for half a minute")
	}
	e := launch(t, 4, 4*time.Second)
	e.Options = Options{Seed: 1, Short: true, Messages: 60}
	s := storage.Section(t.Context(), e)
	sound(t, s, map[string][2]float64{
		"storage.bytes_per_byte.copy": {0.2, 1.2}, "storage.bytes_per_byte.all": {0.5, math.Inf(1)}, "storage.index_per_message": {50, 1e5},
		"storage.journal_bytes": {1e6, 1e9}, "storage.files_per_gib": {1, 100}, "storage.dedup.ratio": {0.05, 0.5}, "storage.cold.bytes_per_byte": {1.5, 2},
	})
	e.Options.Kinds = []string{kindRestart, kindRestartAll, kindRejoin, kindReindex, kindRebuild}
	s = recovery.Section(t.Context(), e)
	times := [2]float64{0.01, 120}
	sound(t, s, map[string][2]float64{
		"recovery.restart": times, "recovery.restart_all": times, "recovery.rejoin": times, "recovery.reindex": times, "recovery.rebuild": times,
		"recovery.rebuild.bytes": {1e4, 1e9}, "recovery.acknowledged": {60, 1e6}, "recovery.lost": {0, 0}, "recovery.doubled": {0, 0},
	})
	if len(s.Violations) > 0 {
		t.Errorf("violations: %v", s.Violations)
	}
	if err := e.serving(t.Context()); err != nil {
		t.Errorf("the cluster was not left whole: %v", err)
	}
}

// sound checks that a section has these figures, within these bounds.
func sound(t *testing.T, s report.Section, want map[string][2]float64) {
	t.Helper()
	if s.Failed != "" || s.Summary == "" || len(s.Tables) == 0 || len(s.Charts) == 0 {
		t.Fatalf("%s: failed %q, summary %q, %d tables, %d charts", s.Scenario, s.Failed, s.Summary, len(s.Tables), len(s.Charts))
	}
	for id, bounds := range want {
		i := slices.IndexFunc(s.Metrics, func(m report.Metric) bool { return m.ID == id })
		if i < 0 {
			t.Errorf("%s is missing; notes: %q", id, s.Notes)
		} else if v := s.Metrics[i].Value; !(v >= bounds[0] && v <= bounds[1]) {
			t.Errorf("%s is %g, expected %g to %g", id, v, bounds[0], bounds[1])
		}
	}
}

func TestFoldersAreAddedUp(t *testing.T) {
	dir := t.TempDir()
	put := func(path string, b []byte) {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ahead := append(append(make([]byte, 4096), 1, 2, 3), make([]byte, 1<<20)...)
	put("volumes/000000000000001f.vol", ahead)
	put("volumes/0000000000000020.vol", make([]byte, 4096))
	put("volumes/000000000000001f.key", []byte("k"))
	put("volumes/000000000000001f.idx", []byte("i"))
	put("cold/0000000000000003-0-01.frag", make([]byte, 10))
	put("cold/0000000000000003-0-04.frag", make([]byte, 12))
	put("cold/0000000000000003.key", []byte("k"))
	put("index/pebble/000004.sst", []byte("s"))
	put("raft/journal/0000000000000001.log", []byte("j"))
	put("node.log", []byte("l"))
	c, err := inspect(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	files := map[sort]int{sortVolumes: 2, sortKeys: 2, sortRecords: 1, sortFragments: 2, sortIndex: 1, sortJournal: 1, sortOther: 1}
	for s, n := range files {
		if c.sorts[s].files != n {
			t.Errorf("%d files of sort %q, expected %d", c.sorts[s].files, s, n)
		}
	}
	if c.volumes[0x1f] != 4104 || c.volumes[0x20] != 4096 || c.fragments[3] != 22 {
		t.Errorf("lengths %v and %v, expected 4104, 4096 and 22", c.volumes, c.fragments)
	}
	r := record{nodes: []string{"a", "b"}, of: map[string]contents{"a": c, "b": {volumes: map[uint64]int64{0x1f: 4104}}}}
	if n, volumes := r.copies(func(id uint64) bool { return id == 0x1f }); n != 4104 || volumes != 1 {
		t.Errorf("one copy has %g bytes in %d volumes, expected 4104 in 1", n, volumes)
	}
}

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   float64
	}{{[]float64{3}, 3}, {[]float64{4, 1}, 2.5}, {[]float64{9, 1, 2}, 2}} {
		if got := median(test.values); got != test.want {
			t.Errorf("median of %v is %g, expected %g", test.values, got, test.want)
		}
	}
}
