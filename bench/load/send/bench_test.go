package send

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"hongyan/bench/load"
)

// sinkEnv makes the test binary a server that throws mail away, in a process of its own so that the client's CPU can be told apart.
const sinkEnv = "HONGYAN_BENCH_SINK"

func TestMain(m *testing.M) {
	if os.Getenv(sinkEnv) == "" {
		os.Exit(m.Run())
	}
	if err := runSink(); err != nil {
		_, _ = io.WriteString(os.Stderr, err.Error()+"\n") // the process ends with 1 in any case
		os.Exit(1)
	}
}

// runSink serves LMTP until standard input ends, and prints its address first.
func runSink() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := gosmtp.NewServer(gosmtp.BackendFunc(func(*gosmtp.Conn) (gosmtp.Session, error) { return sink{}, nil }))
	server.LMTP, server.Domain, server.MaxLineLength = true, "sink.test", 1<<20
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // its end is the news
		_ = server.Close()
	}()
	if _, err := io.WriteString(os.Stdout, l.Addr().String()+"\n"); err != nil {
		return err
	}
	return server.Serve(l)
}

type sink struct{}

func (sink) Reset()                                 {}
func (sink) Logout() error                          { return nil }
func (sink) Mail(string, *gosmtp.MailOptions) error { return nil }
func (sink) Rcpt(string, *gosmtp.RcptOptions) error { return nil }
func (sink) Data(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

func startSink(b *testing.B) string {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), sinkEnv+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close() // which ends it
		_ = cmd.Wait()
	})
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(addr)
}

// BenchmarkSender delivers messages of the mix over eight LMTP connections to a server that throws them away, and prints the CPU of this process for a thousand:
// first with this package, then with go-smtp's client over the same bytes.
//
//	go test -run '^$' -bench Sender -benchtime 5000x ./bench/load/send
func BenchmarkSender(b *testing.B) {
	const connections = 8
	c, err := load.NewCorpus(load.CorpusOptions{Seed: 1})
	if err != nil {
		b.Fatal(err)
	}
	addr := startSink(b)
	b.Run("ours", func(b *testing.B) {
		s, err := New(load.Target{Nodes: []load.Node{{LMTP: addr}}}, Options{Protocol: LMTP, Workers: connections})
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		measure(b, c, connections, s.Send)
	})
	b.Run("go-smtp", func(b *testing.B) {
		var clients []*gosmtp.Client
		for range connections {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				b.Fatal(err)
			}
			clients = append(clients, gosmtp.NewClientLMTP(conn))
			defer conn.Close()
		}
		measure(b, c, connections, func(_ context.Context, w int, m *load.Message) error {
			return clients[w].SendMail(m.From, m.To, bytes.NewReader(m.Raw()))
		})
	})
}

func measure(b *testing.B, c *load.Corpus, connections int, send func(context.Context, int, *load.Message) error) {
	rec := load.NewRecorder("sent", load.RecorderOptions{})
	before := ownCPU(b)
	b.ResetTimer()
	if err := (load.Closed{Workers: connections, Count: b.N}).Run(b.Context(), rec, func(ctx context.Context, t load.Turn) error {
		return send(ctx, t.Worker, c.Message(t.N, t.Due, "u0001@example.test"))
	}); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	if f := rec.Figures(); f.Failures > 0 {
		b.Fatalf("%d failed: %v", f.Failures, f.Examples)
	}
	b.ReportMetric((ownCPU(b)-before).Seconds()*1000/float64(b.N), "cpu-s/1000")
}

// ownCPU is what this process has used so far.
func ownCPU(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
