// Package effort says how much a test does that could do any amount: random runs, schedules, bits to flip. The race detector makes
// computing ten times as slow and finds in ten seeds what it finds in a thousand, since they run the same code. So `make test` lets it
// watch few, then runs many without it (the Makefile's MODELS), and `make nightly` runs very many. It owns no state; only tests use it.
package effort

import "os"

// Nightly is whether there is a night's time: HONGYAN_NIGHTLY is set.
func Nightly() bool { return os.Getenv("HONGYAN_NIGHTLY") != "" }

// Of chooses between what is done under the race detector, without it by day, and at night.
func Of(watched, day, night int) int {
	switch {
	case Nightly():
		return night
	case raced:
		return watched
	}
	return day
}

// Times is Of for random runs: day's number by day, a fifth of it under the race detector, but one at least, and factor times as many at night.
func Times(day, factor int) int { return Of(max(1, day/5), day, factor*day) }
