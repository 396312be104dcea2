package transport_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"hongyan/cluster/transport"
)

// verdict prints a figure beside its bar.
func verdict(b *testing.B, what string, figure, bar float64, unit string, atLeast bool) {
	if b.N < 10_000 {
		return // a warm-up
	}
	ok := "holds"
	if atLeast && figure < bar || !atLeast && figure > bar {
		ok = "FAILS"
	}
	b.Logf("%s: %.0f %s, bar %.0f: %s", what, figure, unit, bar, ok)
	b.ReportMetric(figure, unit)
}

func benchPair(b *testing.B) *transport.Net {
	a, _ := pair(b, func(n *transport.Net) {
		transport.HandleUnary(n, "echo", func(_ context.Context, _ string, req *text) (*text, error) { return req, nil })
		n.Handle("sink", func(_ context.Context, _ string, s *transport.Stream) error {
			for {
				if _, err := s.Recv(); err != nil {
					return nil
				}
			}
		})
	})
	return a
}

// Both nodes share this machine's cores, so each call is paid for twice.
func BenchmarkCall(b *testing.B) {
	a := benchPair(b)
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			var wg sync.WaitGroup
			var left atomic.Int64
			left.Store(int64(b.N))
			times := make([][]time.Duration, callers)
			req := &text{"a request of a hundred bytes or so, as most of those are that go between nodes and ask for little."}
			b.ReportAllocs()
			b.ResetTimer()
			start := time.Now()
			for c := range callers {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						began := time.Now()
						if err := a.Call(ctx, "b", "echo", req, &text{}); err != nil {
							b.Error(err)
							return
						}
						times[c] = append(times[c], time.Since(began))
					}
				})
			}
			wg.Wait()
			rate := float64(b.N) / time.Since(start).Seconds()
			all := slices.Concat(times...)
			slices.Sort(all)
			if callers == 1 {
				verdict(b, "p50 of one caller", float64(all[len(all)/2].Microseconds()), 100, "us-p50", false)
			} else {
				verdict(b, "calls of 64 callers", rate, 20_000, "calls/s", true)
			}
			b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "us-p99")
		})
	}
}

func BenchmarkStream(b *testing.B) {
	a := benchPair(b)
	for _, size := range []int{4 << 10, 256 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s, err := a.Open(context.Background(), "b", "sink")
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			payload := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Send(payload); err != nil {
					b.Fatal(err)
				}
			}
			if err := s.CloseSend(); err != nil {
				b.Fatal(err)
			}
			for err == nil {
				_, err = s.Recv()
			}
		})
	}
}

func BenchmarkPipeline(b *testing.B) {
	nets := make([]*transport.Net, 2)
	nets[0], nets[1] = pair(b, func(*transport.Net) {})
	from, to := nets[0].RaftGroup(1), nets[1].RaftGroup(1)
	stop := make(chan bool)
	defer close(stop)
	go func() {
		for {
			select {
			case rpc := <-to.Consumer():
				rpc.Respond(&raft.AppendEntriesResponse{Term: 1, Success: true}, nil)
			case <-stop:
				return
			}
		}
	}()
	p, err := from.AppendEntriesPipeline("b", "b")
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	req := appendRequest("a", 1)
	req.Entries[0].Data = make([]byte, 500)
	b.ReportAllocs()
	b.ResetTimer()
	go func() {
		for range b.N {
			if _, err := p.AppendEntries(req, new(raft.AppendEntriesResponse)); err != nil {
				b.Error(err)
			}
		}
	}()
	for range b.N {
		if err := (<-p.Consumer()).Error(); err != nil {
			b.Fatal(err)
		}
	}
}
