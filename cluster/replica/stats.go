package replica

import (
	"sync/atomic"
	"time"
)

// latencyBounds are the upper bounds of the append latency buckets; the last bucket has none.
func latencyBounds() [12]time.Duration {
	return [12]time.Duration{
		500 * time.Microsecond, time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond,
		20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond,
		500 * time.Millisecond, time.Second, 2 * time.Second,
	}
}

// counters are what happened since the start.
type counters struct {
	appends, appendBytes, appendRetries, appendHedges, appendFailures atomic.Uint64
	latency                                                           [13]atomic.Uint64
	latencySum                                                        atomic.Int64
	fences, seals, sealFailures, openFailures                         atomic.Uint64
	repairs, repairedBytes, cuts, repairFailures                      atomic.Uint64
	corruptReads, remoteReads, readFailovers                          atomic.Uint64
	removed                                                           atomic.Uint64
	prepared, switches, erased                                        atomic.Uint64
	earlyAppends                                                      atomic.Uint64
	moves, moveFailures                                               atomic.Uint64
	moving                                                            atomic.Int64
	orphans                                                           atomic.Int64
}

func (c *counters) appended(d time.Duration, bytes uint64) {
	c.appends.Add(1)
	c.appendBytes.Add(bytes)
	c.latencySum.Add(int64(d))
	bounds := latencyBounds()
	i := 0
	for i < len(bounds) && d > bounds[i] {
		i++
	}
	c.latency[i].Add(1)
}

// Stats is a snapshot for metrics. All but the first group count since the start.
type Stats struct {
	OpenOwn, OpenOthers, Sealing int // volumes open on this node, as primary and as other copy; seals not entered yet
	SealedCopies                 int // sealed volumes of which the directory names this node a copy
	SealedBytes                  int64
	Behind                       int // of those, copies that are not known to be whole
	Orphans                      int // files without an entry
	Moving                       int // volumes of which this node drives a copy's move that is under way

	Appends, AppendBytes, AppendRetries, AppendHedges, AppendFailures uint64
	Latency                                                           []Bucket // of successful appends, not cumulative
	LatencySum                                                        time.Duration
	Fences, Seals, SealFailures, OpenFailures                         uint64
	Repairs, RepairedBytes, Cuts, RepairFailures                      uint64
	CorruptReads, RemoteReads, ReadFailovers                          uint64
	Removed                                                           uint64
	Prepared, Switches                                                uint64 // next generations made here, and switched to
	Erased                                                            uint64 // keys of dead records destroyed here
	Moves, MoveFailures                                               uint64 // copies that left nodes, driven by this one; steps of moves that failed and are taken again
	EarlyAppends                                                      uint64 // of Appends, those that were told of before every copy had them
}

// Bucket counts appends that took no longer than Under, and longer than the bucket before; 0 is no bound.
type Bucket struct {
	Under time.Duration
	Count uint64
}

// Stats reads the counters.
func (m *Manager) Stats() Stats {
	c := &m.stats
	s := Stats{
		Appends: c.appends.Load(), AppendBytes: c.appendBytes.Load(),
		AppendRetries: c.appendRetries.Load(), AppendHedges: c.appendHedges.Load(), AppendFailures: c.appendFailures.Load(),
		LatencySum: time.Duration(c.latencySum.Load()),
		Fences:     c.fences.Load(), Seals: c.seals.Load(), SealFailures: c.sealFailures.Load(), OpenFailures: c.openFailures.Load(),
		Repairs: c.repairs.Load(), RepairedBytes: c.repairedBytes.Load(), Cuts: c.cuts.Load(), RepairFailures: c.repairFailures.Load(),
		CorruptReads: c.corruptReads.Load(), RemoteReads: c.remoteReads.Load(), ReadFailovers: c.readFailovers.Load(),
		Prepared: c.prepared.Load(), Switches: c.switches.Load(), Erased: c.erased.Load(),
		EarlyAppends: c.earlyAppends.Load(),
		Moving:       int(c.moving.Load()), Moves: c.moves.Load(), MoveFailures: c.moveFailures.Load(),
		Removed: c.removed.Load(), Orphans: int(c.orphans.Load()),
	}
	bounds := latencyBounds()
	for i := range c.latency {
		b := Bucket{Count: c.latency[i].Load()}
		if i < len(bounds) {
			b.Under = bounds[i]
		}
		s.Latency = append(s.Latency, b)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s.OpenOwn, s.OpenOthers, s.Sealing = len(m.own), len(m.followers), len(m.sealing)
	for id, e := range m.entries {
		if e.State != Sealed || !e.Holds(m.cfg.ID) {
			continue
		}
		s.SealedCopies++
		s.SealedBytes += e.Length
		if _, whole := m.whole[id]; !whole {
			s.Behind++
		}
	}
	return s
}
