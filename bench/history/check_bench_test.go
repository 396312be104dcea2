package history

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// large is a history of deliveries by many senders to some mailboxes, which three nodes then show, and of operations on others.
func large(deliveries, operations int) *History {
	h := at(time.Unix(1_700_000_000, 0))
	r := rand.New(rand.NewPCG(1, 2))
	const boxes = 50
	found := make([]Reading, boxes)
	now := time.Duration(0)
	for i := range deliveries {
		box := i % boxes
		now += 100 * time.Microsecond
		id := fmt.Sprintf("<%d@bench.test>", i)
		hash := Sum([]byte(id))
		op := Op{Client: "s", Node: "n1", Kind: Deliver, Mailbox: fmt.Sprintf("u%d/INBOX", box), Message: id, Hash: hash, Call: now,
			Return: now + time.Duration(r.IntN(5))*time.Millisecond, Outcome: OK}
		if r.IntN(1000) == 0 {
			op.Outcome = Unknown
		}
		h.Add(op)
		m := &found[box]
		m.UIDNext = uint32(len(m.Messages) + 2)
		m.Messages = append(m.Messages, Seen{ID: id, UID: uint32(len(m.Messages) + 1), Hash: hash})
	}
	now += time.Second
	for box := range boxes {
		for node := range 3 {
			r := found[box]
			h.Add(Op{Client: "final", Node: fmt.Sprintf("n%d", node), Kind: Read, Mailbox: fmt.Sprintf("u%d/INBOX", box),
				Call: now, Return: now + time.Second, Outcome: OK, Reading: &r})
		}
	}
	for seed := uint64(0); operations > 0; seed++ {
		const some = 1000
		for _, op := range execution(seed, some).snapshot() {
			op.Mailbox = fmt.Sprintf("x%d/%s", seed, op.Mailbox)
			if op.To != "" {
				op.To = fmt.Sprintf("x%d/%s", seed, op.To)
			}
			if op.Message != "" {
				op.Message = fmt.Sprintf("<%d%s", seed, op.Message)
			}
			if op.Reading != nil {
				for i := range op.Reading.Messages {
					m := &op.Reading.Messages[i]
					m.ID = fmt.Sprintf("<%d%s", seed, m.ID)
				}
			}
			h.Add(*op)
		}
		operations -= some
	}
	return h
}

// processor is the time that this process has computed.
func processor(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkCheck checks 100,000 deliveries and 20,000 operations. Bar: ten seconds of one processor.
func BenchmarkCheck(b *testing.B) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	h := large(100_000, 20_000)
	runtime.GC()
	runtime.ReadMemStats(&after)
	shown := 0
	for _, op := range h.snapshot() {
		if op.Reading != nil {
			shown += len(op.Reading.Messages)
		}
	}
	begun := processor(b)
	for b.Loop() {
		if found := h.Check(context.Background(), CheckOptions{}); len(found) > 0 {
			b.Fatal(found[0])
		}
	}
	took := (processor(b) - begun) / time.Duration(b.N)
	const bar = 10 * time.Second
	b.Logf("%d operations, %d messages in readings, %d MB kept: checked in %s of processor time, bar %s, %v", h.Len(), shown, (after.HeapAlloc-before.HeapAlloc)>>20,
		took.Round(time.Millisecond), bar, map[bool]string{true: "holds", false: "MISSED"}[took <= bar])
}
