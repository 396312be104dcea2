package liveness

import (
	"math/rand/v2"
	"testing"
	"time"

	"hongyan/engine/effort"
)

const (
	pingEvery = 50 * time.Millisecond
	leastDown = 2 * time.Second
)

// wire is one direction of a TCP connection: what is late holds up what comes behind it.
type wire struct {
	delay time.Duration
	late  func() time.Duration
	free  time.Duration // when the last piece arrives
}

func (w *wire) send(now time.Duration) (arrives time.Duration) {
	w.free = max(w.free, now+w.delay+w.late())
	return w.free
}

// observer runs a detector on two wires, from one tick to the next.
type observer struct {
	d        *Detector
	interval time.Duration
	out, in  wire
	wakes    func(now time.Duration) time.Duration // when the other node goes on that may be frozen now
	answers  []answer
	next     time.Duration
	silent   []span // when it was in doubt
	state    State
	everDown bool
}

type answer struct{ sent, arrives time.Duration }

type span struct{ from, to time.Duration }

func observe(rtt time.Duration, late func() time.Duration, wakes func(time.Duration) time.Duration) *observer {
	o := &observer{d: NewDetector(leastDown, new(Lateness)), interval: pingEvery, wakes: wakes}
	o.out, o.in = wire{delay: rtt / 2, late: late}, wire{delay: rtt / 2, late: late}
	o.ping(0)
	o.next = o.d.Start(0, 0, o.interval)
	return o
}

func (o *observer) ping(now time.Duration) {
	o.answers = append(o.answers, answer{now, o.in.send(o.wakes(o.out.send(now)))})
}

// until runs to a time.
func (o *observer) until(end time.Duration) {
	for o.next <= end {
		now := o.next
		for len(o.answers) > 0 && o.answers[0].arrives <= now {
			o.d.Answered(o.answers[0].sent, o.answers[0].arrives)
			o.answers = o.answers[1:]
		}
		state, ping, next := o.d.Tick(now, o.interval)
		if state != Sound && o.state == Sound {
			o.silent = append(o.silent, span{from: now})
		}
		if state == Sound && o.state != Sound {
			o.silent[len(o.silent)-1].to = now
		}
		if o.state = state; state == Down {
			o.everDown = true
			return // the connection is closed
		}
		if ping {
			o.ping(now)
		}
		o.next = next
	}
}

func awake(now time.Duration) time.Duration { return now }
func punctual() time.Duration               { return 0 }

// frozen is a node that is so from one time to another.
func frozen(from, to time.Duration) func(time.Duration) time.Duration {
	return func(now time.Duration) time.Duration {
		if now >= from && now < to {
			return to
		}
		return now
	}
}

// A node that falls silent is in doubt a little later than it usually takes to answer, and down later.
func TestSilence(t *testing.T) {
	for _, c := range []struct{ rtt, least, most time.Duration }{
		{200 * time.Microsecond, 100 * time.Millisecond, 205 * time.Millisecond},
		{40 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond},
		{200 * time.Millisecond, 100 * time.Millisecond, 350 * time.Millisecond},
	} {
		const at = 10 * time.Second
		o := observe(c.rtt, punctual, frozen(at, at+time.Hour))
		o.until(at)
		if len(o.silent) > 0 {
			t.Fatalf("%v: in doubt at %v, and nothing was wrong", c.rtt, o.silent)
		}
		o.until(at + leastDown/2)
		if len(o.silent) != 1 || o.silent[0].from < at+c.least || o.silent[0].from > at+c.most {
			t.Errorf("%v: in doubt at %v, frozen at %v", c.rtt, o.silent, at)
		}
		if o.everDown {
			t.Errorf("%v: down within %v", c.rtt, leastDown/2)
		}
		if o.until(at + 2*leastDown); !o.everDown {
			t.Errorf("%v: not down", c.rtt)
		}
	}
}

// A node whose peers come and go pings each of them more and less often: nobody comes in doubt for that, and pings stay at multiples of their interval.
func TestIntervalChanges(t *testing.T) {
	for _, rtt := range []time.Duration{200 * time.Microsecond, 40 * time.Millisecond, 200 * time.Millisecond} {
		const at = 10 * time.Minute
		rng := rand.New(rand.NewPCG(uint64(rtt), 3))
		o := observe(rtt, punctual, frozen(at, at+time.Hour))
		for now := time.Duration(0); now < at-time.Second; {
			now += time.Duration(rng.IntN(500)) * time.Millisecond
			o.until(now)
			o.interval = pingEvery + time.Duration(rng.IntN(11))*pingEvery/5
		}
		o.interval = 3 * pingEvery
		o.until(at)
		if len(o.silent) > 0 || o.d.lastPing%o.interval != 0 {
			t.Fatalf("%v: in doubt at %v, last pinged at %v", rtt, o.silent, o.d.lastPing)
		}
		o.until(at + leastDown/2)
		if len(o.silent) != 1 || o.silent[0].from > at+rtt+2*o.interval+doubtLeast {
			t.Errorf("%v: in doubt at %v, frozen at %v", rtt, o.silent, at)
		}
	}
}

// A process that is itself stopped for a moment has nobody in doubt for that, however rarely it pings.
func TestStall(t *testing.T) {
	for _, interval := range []time.Duration{pingEvery, 2 * pingEvery, 3 * pingEvery} {
		for stall := 10 * time.Millisecond; stall < time.Second; stall += 10 * time.Millisecond {
			o := observe(time.Millisecond, punctual, awake)
			o.interval = interval
			o.until(10 * time.Second)
			o.next += stall
			if o.until(20 * time.Second); len(o.silent) > 0 {
				t.Errorf("pinged every %v, stopped for %v: in doubt at %v", interval, stall, o.silent)
			}
		}
	}
}

// A node that was frozen for long is found out as fast the next time, on a new connection.
func TestSilenceAgain(t *testing.T) {
	const at = 10 * time.Second
	first := observe(time.Millisecond, punctual, frozen(at, at+4*time.Second))
	first.until(time.Minute)
	if !first.everDown {
		t.Fatal("not down")
	}
	again := observe(time.Millisecond, punctual, frozen(at, at+4*time.Second))
	again.d.late = first.d.late
	again.until(at + leastDown)
	if len(again.silent) != 1 || again.silent[0].from > at+220*time.Millisecond {
		t.Errorf("in doubt at %v, frozen at %v", again.silent, at)
	}
}

// A hundredth of all pieces is a second late, each way, for an hour: no two nodes doubt a third at the same time, after they have
// learned the link in its first minute.
func TestLateLink(t *testing.T) {
	for seed := range uint64(effort.Times(4, 25)) {
		rng := rand.New(rand.NewPCG(seed, 1))
		late := func() time.Duration {
			if rng.IntN(100) == 0 {
				return time.Second
			}
			return 0
		}
		a, b := observe(200*time.Millisecond, late, awake), observe(160*time.Millisecond, late, awake)
		a.until(time.Hour)
		b.until(time.Hour)
		both := 0
		for _, x := range a.silent {
			for _, y := range b.silent {
				if x.from < y.to && y.from < x.to && x.from > time.Minute {
					both++
					t.Logf("seed %d: %v and %v", seed, x, y)
				}
			}
		}
		if both > 0 {
			t.Errorf("seed %d: two nodes in doubt %d times; alone %d and %d times", seed, both, len(a.silent), len(b.silent))
		}
		if a.everDown || b.everDown {
			t.Errorf("seed %d: down", seed)
		}
	}
}

func TestLatenessBuckets(t *testing.T) {
	for d := time.Microsecond; d < time.Minute; d += d/7 + 1 {
		if up := upTo(lateBucket(d)); up < d.Truncate(time.Microsecond) || up > d+d/7+2*time.Microsecond {
			t.Fatalf("%v counts as up to %v", d, up)
		}
	}
	if b := lateBucket(time.Hour); b != lateBuckets-1 {
		t.Errorf("an hour is in bucket %d", b)
	}
}
