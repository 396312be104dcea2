package lab

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"hongyan/bench/history"
)

// BenchmarkLMTP delivers 10 KiB messages over some LMTP connections to one node of three regions of real processes, two
// copies of the bytes and three of the index, everything fsynced. It prints messages a second, the CPU
// of all three nodes and how many write+fdatasync pairs of the same bytes the disk does one after the other, measured
// just before: the machine is shared, and the ratio says more than either.
//
//	go test -run '^$' -bench LMTP -benchtime 5000x ./bench/lab
func BenchmarkLMTP(b *testing.B) {
	r := &crashRun{t: b, bin: program.Build(b, "../.."), dir: b.TempDir(), history: history.New()}
	r.start()
	defer r.stop()
	for _, connections := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("connections=%d", connections), func(b *testing.B) {
			bare := bareSyncs(b, 200)
			before := r.cpu()
			took := r.pump(b, connections)
			rate := float64(b.N) / b.Elapsed().Seconds()
			b.ReportMetric(rate, "msg/s")
			b.ReportMetric(rate/bare, "of-bare-fsync")
			b.ReportMetric((r.cpu()-before).Seconds()*1000/float64(b.N), "cpu-ms/msg")
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}

// pump delivers b.N messages and gives the time that each took, ascending.
func (r *crashRun) pump(b *testing.B, connections int) []time.Duration {
	clients := make([]*gosmtp.Client, connections)
	for i := range clients {
		conn, err := net.Dial("tcp", r.cluster.Nodes[0].LMTP)
		if err != nil {
			b.Fatal(err)
		}
		clients[i] = gosmtp.NewClientLMTP(conn)
		defer clients[i].Close()
	}
	raw := text(10 << 10)
	took := make([]time.Duration, b.N)
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for _, c := range clients {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= b.N {
					return
				}
				began := time.Now()
				user := r.cluster.Accounts[i%len(r.cluster.Accounts)].Address
				if err := c.SendMail("s@remote.test", []string{user}, bytes.NewReader(raw)); err != nil {
					b.Error(err)
					return
				}
				took[i] = time.Since(began)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	slices.Sort(took)
	return took
}

// text is a message of about n bytes that compresses as ordinary text does.
func text(n int) []byte {
	words := strings.Fields("the quick brown fox jumps over a lazy dog while 鸿雁 carries letters between south and north, meeting report invoice project")
	b := []byte("From: <s@remote.test>\r\nSubject: 10 KiB\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n")
	for rng := rand.New(rand.NewPCG(1, 1)); len(b) < n; {
		for range 10 {
			b = append(append(b, words[rng.IntN(len(words))]...), ' ')
		}
		b = fmt.Appendf(b, "%x\r\n", rng.Uint64())
	}
	return b
}

// bareSyncs is how often a second 10 KiB can be written and made durable, one after the other.
func bareSyncs(b *testing.B, n int) float64 {
	f, err := os.Create(filepath.Join(b.TempDir(), "bare"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	raw := text(10 << 10)
	began := time.Now()
	for range n {
		if _, err := f.Write(raw); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	return float64(n) / time.Since(began).Seconds()
}

// cpu is the processor time that the nodes have used so far (proc_pid_stat(5), fields 14 and 15, in hundredths of a second).
func (r *crashRun) cpu() time.Duration {
	var ticks int64
	for _, n := range r.cluster.Nodes {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n.PID))
		if err != nil {
			r.t.Fatal(err)
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+2:]))
		for _, f := range fields[11:13] {
			v, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				r.t.Fatal(err)
			}
			ticks += v
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
