package report

import (
	"cmp"
	"math"
	"slices"

	"github.com/aclements/go-moremath/stats"
)

// welch gives the chance that two sets of samples of the same thing differ as much as these do in their mean.
func welch(a, b []float64) float64 {
	if all := slices.Concat(a, b); slices.Min(all) > 0 {
		a, b = logs(a), logs(b)
	}
	r, err := stats.TwoSampleWelchTTest(stats.Sample{Xs: a}, stats.Sample{Xs: b}, stats.LocationDiffers)
	switch {
	case err == nil && !math.IsNaN(r.P):
		return r.P
	case stats.Mean(a) == stats.Mean(b): // neither side has any spread
		return 1
	}
	return 0
}

func logs(values []float64) []float64 {
	out := make([]float64, len(values))
	for i, v := range values {
		out[i] = math.Log(v)
	}
	return out
}

// correct turns the chances of single metrics into chances for the whole comparison (Holm 1979): the smallest is multiplied by the
// number of tests, the next by one less, and none comes out below one that was smaller.
func correct(changes []Change) {
	var tested []*Change
	for i := range changes {
		if !math.IsNaN(changes[i].P) {
			tested = append(tested, &changes[i])
		}
	}
	slices.SortStableFunc(tested, func(a, b *Change) int { return cmp.Compare(a.P, b.P) })
	lowest := 0.0
	for i, c := range tested {
		lowest = max(lowest, min(c.P*float64(len(tested)-i), 1))
		c.P = lowest
	}
}
