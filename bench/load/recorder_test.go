package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2"
)

func TestReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := NewRecorder("op", RecorderOptions{})
		for i := range 1000 { // ten seconds of a hundred a second, 1 to 1000 ms
			rec.Observe(time.Now().Add(-time.Duration(i+1)*time.Millisecond), time.Now())
			if i%100 == 50 {
				rec.Refuse(time.Now())
			}
			time.Sleep(10 * time.Millisecond)
		}
		l := rec.Latency("x.latency", "op")
		if l.Count != 1000 || math.Abs(l.Mean-0.5005) > 0.001 || math.Abs(l.Max-1) > 0.002 {
			t.Errorf("latency: %+v", l)
		}
		for i, p := range l.Points {
			if want := p.Percent / 100; math.Abs(p.Seconds-want) > 0.003 {
				t.Errorf("%g %% is %g s, want %g", p.Percent, p.Seconds, want)
			}
			if i > 0 && (p.Percent <= l.Points[i-1].Percent || p.Seconds < l.Points[i-1].Seconds) {
				t.Errorf("points do not ascend at %g %%", p.Percent)
			}
		}
		got := map[string]float64{}
		for _, m := range rec.Metrics("x") {
			got[m.ID] = m.Value
			if m.ID == "x.rate" && (len(m.Samples) != 8 || m.Samples[0] != 100) {
				t.Errorf("samples of the rate: %v", m.Samples)
			}
			if m.ID == "x.p50" && len(m.Samples) != 8 {
				t.Errorf("samples of the median: %v", m.Samples)
			}
		}
		if got["x.errors.refused"] != 10 || math.Abs(got["x.errors"]-100*10/1010.) > 0.01 || math.Abs(got["x.rate"]-100) > 1 {
			t.Errorf("metrics: %v", got)
		}
		if live := rec.Live(); live.Rate != 100 || live.P50 < 900*time.Millisecond {
			t.Errorf("live: %+v", live)
		}
		rates, latencies := RateChart("r", rec), LatencyChart("l", rec)
		if len(rates.Lines) != 2 || len(rates.Lines[0].At) != len(rates.Lines[0].Value) || rates.Lines[0].Value[3] != 100 || len(latencies.Lines) != 2 {
			t.Errorf("charts: %+v %+v", rates, latencies)
		}
	})
}

func TestEmptyRecorder(t *testing.T) {
	rec := NewRecorder("nothing", RecorderOptions{})
	if f := rec.Figures(); f.Rate() != 0 || f.ErrorShare() != 0 || f.Stall.For != 0 {
		t.Errorf("figures: %+v", f)
	}
	for _, m := range rec.Metrics("x") {
		if math.IsNaN(m.Value) || m.Value != 0 || m.ID == "x.p50" {
			t.Errorf("metric: %+v", m)
		}
	}
	if l := rec.Latency("x", "x"); l.Count != 0 || l.Points == nil {
		t.Errorf("latency: %+v", l)
	}
	LatencyChart("empty")
}

// TestSeriesIsBounded runs a recorder for a virtual month.
func TestSeriesIsBounded(t *testing.T) {
	s := newSeries(100 * time.Millisecond)
	total := int64(0)
	for at := time.Duration(0); at < 30*24*time.Hour; at += 173 * time.Second {
		s.at(at).successes++
		s.took(time.Duration(total%7) * time.Millisecond)
		total++
	}
	if len(s.slices) > maxSlices || s.width < 30*24*time.Hour/maxSlices {
		t.Errorf("%d slices of %v", len(s.slices), s.width)
	}
	sum := int64(0)
	for _, x := range s.closed() {
		sum += x.successes
		if x.successes > 0 && x.p99 > 7*time.Millisecond {
			t.Fatalf("p99 %v", x.p99)
		}
	}
	if sum != total {
		t.Errorf("%d of %d successes are left", sum, total)
	}
}

func TestClassify(t *testing.T) {
	_, refused := net.Dial("tcp", "127.0.0.1:1")
	for _, c := range []struct {
		err  error
		want Class
	}{
		{refused, Connection},
		{io.EOF, Connection},
		{syscall.EPIPE, Connection},
		{tls.RecordHeaderError{Msg: "not TLS"}, Connection},
		{context.DeadlineExceeded, Timeout},
		{os.ErrDeadlineExceeded, Timeout},
		{context.Canceled, Unfinished},
		{&imap.Error{Type: imap.StatusResponseTypeNo}, No},
		{&imap.Error{Type: imap.StatusResponseTypeBad}, Bad},
		{errors.New("?"), Other},
	} {
		if got := Classify(fmt.Errorf("wrapped: %w", c.err)); got != c.want {
			t.Errorf("%v is %s, want %s", c.err, got, c.want)
		}
	}
}

// TestRecorderTogether lets many record at once; the race detector watches.
func TestRecorderTogether(t *testing.T) {
	rec := NewRecorder("many", RecorderOptions{Slice: time.Millisecond})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 2000 {
				op := rec.Begin(time.Now())
				if i%500 == 0 {
					rec.Mark("now")
					rec.Figures()
					rec.Live()
				}
				op.End(nil)
			}
		})
	}
	wg.Wait()
	if f := rec.Figures(); f.Successes != 16000 || f.Waiting != 0 {
		t.Errorf("figures: %+v", f)
	}
}

// BenchmarkRecorder is one operation's begin and end, from all cores at once; at 50,000 operations a second,
// 200 ns are one percent of a core.
func BenchmarkRecorder(b *testing.B) {
	rec := NewRecorder("b", RecorderOptions{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			rec.Begin(time.Now()).End(nil)
		}
	})
}
