package capacity

import (
	"errors"
	"fmt"
	"math"
)

// Region is where users live.
type Region struct {
	Name  string
	Share float64 // of the users; shares need not add up to 1, their ratios count
}

// Size is a part of the messages.
type Size struct {
	Bytes float64
	Share float64 // of the messages; ratios count
}

// Population is whom a plan is for, and how safe it is to be.
type Population struct {
	Users         int
	PerDay        float64  // messages that one user gets a day
	MeanSize      float64  // bytes; unused when there are Sizes
	Sizes         []Size   // the mix, of which only the mean matters
	RetentionDays float64  // that a message is kept
	ReadsPerDay   float64  // messages that one user fetches a day, on all devices
	Concurrent    float64  // sessions open at the busiest time, for one user
	Regions       []Region // at least one
	Growth        float64  // of the users in a year: 0.2 is 20 %
	Years         int      // to look ahead
	PeakFactor    float64  // busiest second over the day's mean
	Copies        int      // of a message's bytes
	IndexReplicas int
	ColdShare     float64 // of the bytes that are kept, as Reed–Solomon fragments
	SpareRegion   bool    // the others carry the peak, and all copies, when any one region is lost
	Utilisation   float64 // that no resource should exceed at the peak: 0.6
}

// DefaultPopulation is a hundred thousand people in three regions, with the defaults of a cluster.
//
// The peak factor of 5: offices get most of their mail in ten hours of the day, which makes the busiest hour about 2.5 times the mean,
// and newsletters and machines that send on the hour double that for seconds.
func DefaultPopulation() Population {
	return Population{
		Users: 100_000, PerDay: 40, MeanSize: 35e3, RetentionDays: 730, ReadsPerDay: 60, Concurrent: 0.5,
		Regions: []Region{{"south-china", 0.5}, {"north-china", 0.35}, {"overseas", 0.15}},
		Growth:  0.2, Years: 5, PeakFactor: 5, Copies: 2, IndexReplicas: 3, ColdShare: 0.5, SpareRegion: true, Utilisation: 0.6,
	}
}

// Validate gives every mistake at once, one line each.
func (p *Population) Validate() error {
	var found []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			found = append(found, fmt.Errorf(format, args...))
		}
	}
	within := func(v, lo, hi float64) bool { return v >= lo && v <= hi } // false for NaN
	check(p.Users >= 1 && p.Users <= 10e9, "users: %d: expected 1 to 10,000,000,000", p.Users)
	check(within(p.PerDay, 1e-6, 1e6), "messages a day: %g: expected more than 0 and at most 1,000,000 for one user", p.PerDay)
	check(within(p.ReadsPerDay, 0, 1e6), "reads a day: %g: expected 0 to 1,000,000 for one user", p.ReadsPerDay)
	check(within(p.Concurrent, 0, 100), "sessions for one user: %g: expected 0 to 100", p.Concurrent)
	check(within(p.RetentionDays, 1, 36500), "retention: %g days: expected 1 to 36,500", p.RetentionDays)
	check(within(p.Growth, -0.9, 10), "growth: %g: expected the share of a year, such as 0.2 for 20 %%", p.Growth)
	check(p.Years >= 0 && p.Years <= 20, "years: %d: expected 0 to 20", p.Years)
	check(within(p.PeakFactor, 1, 100), "peak factor: %g: expected 1 to 100; the busiest second over the day's mean", p.PeakFactor)
	check(p.Copies >= 1 && p.Copies <= 9, "copies: %d: expected 1 to 9", p.Copies)
	check(p.IndexReplicas >= 1 && p.IndexReplicas <= 9 && p.IndexReplicas%2 == 1, "index replicas: %d: expected an odd number up to 9, as a majority decides", p.IndexReplicas)
	check(within(p.ColdShare, 0, 1), "cold share: %g: expected 0 to 1", p.ColdShare)
	check(within(p.Utilisation, 0.05, 1), "utilisation: %g: expected 0.05 to 1, such as 0.6", p.Utilisation)
	if len(p.Sizes) == 0 {
		check(within(p.MeanSize, 1, 1e11), "mean size: %g bytes: expected 1 to 100 GB", p.MeanSize)
	}
	for _, s := range p.Sizes {
		check(within(s.Bytes, 1, 1e11) && within(s.Share, 1e-9, 1e9), "size %g bytes with share %g: expected both above 0", s.Bytes, s.Share)
	}
	check(len(p.Regions) >= 1 && len(p.Regions) <= 32, "regions: %d: expected 1 to 32", len(p.Regions))
	names := make(map[string]bool)
	for _, r := range p.Regions {
		check(r.Name != "" && !names[r.Name], "region %q: expected a name that no other has", r.Name)
		check(within(r.Share, 1e-9, 1e9), "region %q: share %g: expected above 0", r.Name, r.Share)
		names[r.Name] = true
	}
	check(!p.SpareRegion || len(p.Regions) != 1, "one region cannot carry the load of another: name two at least, or plan without a spare region")
	return errors.Join(found...)
}

// meanSize is that of the mix.
func (p *Population) meanSize() float64 {
	if len(p.Sizes) == 0 {
		return p.MeanSize
	}
	var bytes, share float64
	for _, s := range p.Sizes {
		bytes += s.Bytes * s.Share
		share += s.Share
	}
	return bytes / share
}

// shares are those of the regions, and add up to 1. Without the region numbered lost, its users are served by the others in proportion.
func (p *Population) shares(lost int) []float64 {
	out := make([]float64, len(p.Regions))
	var sum float64
	for i, r := range p.Regions {
		if i != lost {
			sum += r.Share
			out[i] = r.Share
		}
	}
	for i := range out {
		out[i] /= sum
	}
	return out
}

// alive counts the regions that are not lost.
func alive(shares []float64) int {
	n := 0
	for _, s := range shares {
		if s > 0 {
			n++
		}
	}
	return n
}

// spread says how many copies of each message a region holds: in proportion to its share, but no more than one, as long as there
// are as many regions as copies.
func spread(shares []float64, copies int) []float64 {
	most := math.Ceil(float64(copies) / float64(alive(shares)))
	out := make([]float64, len(shares))
	full := make([]bool, len(shares))
	for {
		left, open := float64(copies), 0.0
		for i, s := range shares {
			if full[i] {
				left -= most
			} else {
				open += s
			}
		}
		again := false
		for i, s := range shares {
			if full[i] || s == 0 {
				continue
			}
			if out[i] = left * s / open; out[i] > most*(1+1e-12) {
				out[i], full[i], again = most, true, true
			}
		}
		if !again {
			return out
		}
	}
}
