package exact

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hongyan/bench/lab/labtest"
	"hongyan/bench/measure"
)

var crowdSessions = flag.Int("crowd.sessions", 10_000, "of BenchmarkCrowd: in IDLE, over all nodes")

const (
	crowdAccounts = 100
	crowdOpening  = 16 // sessions at once
)

// BenchmarkCrowd has one message reach sessions in IDLE all at once: it goes to 100 accounts, which have all of the sessions between them, over three nodes. It prints
// when sessions heard of it, counted from its acknowledgement, and the processor time of the servers.
//
//	go test -run '^$' -bench Crowd -benchtime 5x -timeout 1h ./bench/exact [-crowd.sessions 2000]
func BenchmarkCrowd(b *testing.B) {
	if err := measure.AllowFiles(*crowdSessions + 1000); err != nil {
		b.Fatal(err)
	}
	s := startProgram(b, labtest.Build(b, "../.."), "--no-relay", "--accounts", fmt.Sprint(crowdAccounts))
	var users []string
	for i := range crowdAccounts {
		users = append(users, fmt.Sprintf("u%04d@example.test", i+1))
	}
	round := 0
	deliver := func() time.Time {
		round++
		m := Message{"to all", fmt.Appendf(nil, "Subject: to all %d\r\n\r\nhello\r\n", round)}
		if err := lmtp(s.lmtp, users, []Message{m}); err != nil {
			b.Fatal(err)
		}
		return time.Now()
	}
	deliver() // the accounts' folders are made
	began := time.Now()
	heard := make(chan time.Time, *crowdSessions)
	next := make(chan int)
	var opening sync.WaitGroup
	for range crowdOpening {
		opening.Go(func() {
			for i := range next {
				idle(b, server{imaps: s.nodes[i%len(s.nodes)]}, users[i/len(s.nodes)%crowdAccounts], heard)
			}
		})
	}
	for i := range *crowdSessions {
		next <- i
	}
	close(next)
	opening.Wait()
	if b.Failed() {
		b.FailNow()
	}
	b.Logf("%d sessions opened in %v", *crowdSessions, time.Since(began).Round(time.Second))
	for b.Loop() {
		before := used(b, s)
		at := deliver()
		var delays []time.Duration
		for range *crowdSessions {
			select {
			case t := <-heard:
				delays = append(delays, max(0, t.Sub(at)))
			case <-time.After(patience):
				b.Fatalf("%d of %d sessions have heard", len(delays), *crowdSessions)
			}
		}
		cpu := used(b, s).CPU - before.CPU
		slices.Sort(delays)
		n := len(delays)
		b.Logf("heard after: half %.1f ms, 99 of 100 %.1f ms, all %.1f ms; processor %.0f ms, %.3f ms a session", ms(delays[n/2]), ms(delays[n*99/100]), ms(delays[n-1]), ms(cpu), ms(cpu)/float64(n))
	}
}

func used(b *testing.B, s server) measure.Usage {
	u, err := measure.Processes(s.pid)
	if err != nil {
		b.Fatal(err)
	}
	return u
}

// idle opens a session that tells heard whenever it hears of messages.
func idle(b *testing.B, s server, user string, heard chan<- time.Time) {
	a, err := dialAsker(b, s, user)
	if err == nil {
		err = a.ask("SELECT INBOX")
	}
	if err == nil {
		_, err = io.WriteString(a.conn, "i IDLE\r\n")
	}
	if err != nil {
		b.Errorf("open a session of %s: %v", user, err)
		return
	}
	if line, err := a.r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "+") {
		b.Errorf("IDLE: %q, %v", line, err)
		return
	}
	if err := a.conn.SetDeadline(time.Time{}); err != nil {
		b.Error(err)
		return
	}
	go func() { // until the benchmark ends
		for {
			line, err := a.r.ReadString('\n')
			if err != nil {
				return
			}
			if strings.Contains(line, " EXISTS") {
				heard <- time.Now()
			}
		}
	}()
}
