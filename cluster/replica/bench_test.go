package replica

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hongyan/engine/volume"
)

// BenchmarkPut stores 10 KiB messages on three nodes in one process, two copies each, every one fsynced.
func BenchmarkPut(b *testing.B) {
	for _, callers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) { benchmarkPut(b, callers) })
	}
}

func benchmarkPut(b *testing.B, callers int) {
	g := newGroup(b, three()...)
	for _, id := range g.order {
		g.ready(id)
	}
	const size = 10 << 10
	blob := g.at("a").blob(message(1, size))
	defer blob.Close()
	took := make([]time.Duration, b.N)
	var next atomic.Int64
	var wg sync.WaitGroup
	b.SetBytes(size)
	b.ResetTimer()
	for i := range callers {
		n := g.at(g.order[i%len(g.order)])
		wg.Go(func() {
			for k := next.Add(1) - 1; k < int64(b.N); k = next.Add(1) - 1 {
				began := time.Now()
				if _, err := n.m.Put(context.Background(), Anywhere(n.region), volume.KindMessage, []byte("meta"), blob); err != nil {
					b.Error(err)
					return
				}
				took[k] = time.Since(began)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
	b.ReportMetric(float64(took[b.N/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[b.N*99/100].Microseconds())/1000, "p99-ms")
}
