package transport_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"hongyan/cluster/feature"
	"hongyan/cluster/transport"
	"hongyan/cluster/transport/transporttest"
)

// levelPair is two nodes whose programs know up to some levels.
func levelPair(t *testing.T, a, b feature.Level, change func(a, b *transport.Config)) (*transport.Net, *transport.Net) {
	configs := transporttest.Configs(t, "a", "b")
	for i := range configs {
		transport.Hasten(&configs[i])
	}
	configs[0].Newest, configs[1].Newest = a, b
	change(&configs[0], &configs[1])
	return listen(t, configs[0]), listen(t, configs[1])
}

func bothUp(t *testing.T, a, b *transport.Net) {
	t.Helper()
	eventually(t, "each reaches the other", func() bool { return a.Up("b") && b.Up("a") })
}

// Programs of any levels talk as long as the cluster needs none that one of them lacks.
func TestLevelsNegotiated(t *testing.T) {
	for _, l := range [][3]feature.Level{{1, 1, 1}, {1, 2, 1}, {2, 1, 1}, {2, 3, 2}, {5, 3, 3}} {
		a, b := levelPair(t, l[0], l[1], func(a, b *transport.Config) { a.Least, b.Least = l[2], l[2] })
		bothUp(t, a, b)
		a.Require(l[2])
		if a.Outdated("b") != nil || b.Outdated("a") != nil {
			t.Errorf("levels %v: %v, %v", l, a.Outdated("b"), b.Outdated("a"))
		}
	}
}

// TestLevelsRefused has the cluster's level rise beyond what one node knows: both ends part, and each can say why.
func TestLevelsRefused(t *testing.T) {
	told := make(chan error, 2)
	a, b := levelPair(t, 3, 2, func(_, b *transport.Config) { b.Outdated = func(err error) { told <- err } })
	bothUp(t, a, b)
	a.Require(3)
	a.Require(2) // it does not fall
	eventually(t, "they part", func() bool { return !a.Up("b") && !b.Up("a") })
	eventually(t, "a knows why", func() bool { return a.Outdated("b") != nil })
	if err := a.Outdated("b"); !strings.Contains(err.Error(), "node b knows level 2 (moves) at most: update b to a program of level 3") {
		t.Error(err)
	}
	var o *feature.Outdated
	select {
	case err := <-told:
		if !errors.As(err, &o) || *o != (feature.Outdated{Knows: 2, Cluster: 3}) {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("b was not told that it is too old")
	}
}

// A program from before levels knows the bare names only, and asks nobody.
func TestLevelsBeforeLevels(t *testing.T) {
	a, b := levelPair(t, 2, 1, func(a, _ *transport.Config) { a.Least = 2 })
	if err := transport.Dial(b, "a", "hongyan-rpc/1"); err == nil || !strings.Contains(err.Error(), "no application protocol") {
		t.Errorf("an old one dials: %v", err)
	}
	eventually(t, "the new one knows why", func() bool { return a.Outdated("b") != nil })
	if a.Up("b") || b.Up("a") {
		t.Error("they talk all the same")
	}
}

func TestProtocols(t *testing.T) {
	a, _ := levelPair(t, 3, 1, func(a, b *transport.Config) {})
	want := []string{"hongyan-rpc/1;level=3", "hongyan-rpc/1;level=2", "hongyan-rpc/1"}
	if got := transport.Offers(a, "hongyan-rpc/1"); !slices.Equal(got, want) {
		t.Errorf("offers %q", got)
	}
	a.Require(2)
	if got := transport.Offers(a, "hongyan-rpc/1"); !slices.Equal(got, want[:2]) {
		t.Errorf("at level 2 it offers %q", got)
	}
}
