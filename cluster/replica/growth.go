package replica

import (
	"math/rand/v2"
	"time"

	"hongyan/engine/volume"
)

// stage is how far a volume has grown, by its bytes or its records.
type stage uint8

const (
	short    stage = iota
	long           // its successor is to be opened
	overlong       // and it is to end once that takes mail
)

// fewRecords are what the first volume of a slot has keys for. Most of the volumes that are open beforehand get no more, and a key file for all that the
// format allows is 2.2 MB, which every copy's node writes when the volume is opened and goes through whenever something in it has died.
const fewRecords = 4 << 10

// mostAppends is how many appends a volume with keys for so many records takes: blobs may bring dictionaries, which are records too.
func mostAppends(records int) int { return records - records/64 }

// growth is called under mu.
func (p *primary) growth() stage {
	most := p.m.cfg.MaxVolume
	switch {
	case p.tapped >= most:
		return overlong
	case p.tapped >= most-most/10, p.records > 0 && p.begun >= mostAppends(p.records)*3/4:
		return long
	}
	return short
}

// grown says once that the volume needs a successor, and once that it is long enough. Called under mu.
func (p *primary) grown() bool {
	now := p.growth()
	news := now > p.stage
	p.stage = now
	return news
}

// oldFrom is when a volume becomes old that is opened now: after two thirds of MaxAge at least. A cluster that starts opens all its volumes at once; what the
// end of one costs (a successor's files, a seal, a look at what is dead in it) is not to come at once for all of them.
func (m *Manager) oldFrom() time.Time {
	if m.cfg.MaxAge <= 0 {
		return time.Time{}
	}
	return time.Now().Add(m.cfg.MaxAge - rand.N(m.cfg.MaxAge/3+1))
}

// noteUse learns from a volume that ends, or will soon, what its successors need.
func (m *Manager) noteUse(p *primary) {
	p.mu.Lock()
	records, begun := p.records, p.begun
	p.mu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	switch s := p.slot(); {
	case records == 0: // never made
	case begun > records/2:
		m.uses[s] = min(max(m.uses[s], 8*records), volume.MaxRecords)
	case begun < records/16:
		delete(m.uses, s)
	}
}

// recordsFor is how many records the next volume of a slot is to have keys for.
func (m *Manager) recordsFor(s slot) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return max(m.uses[s], fewRecords)
}
