package cluster_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
	"hongyan/cluster/relocate"
)

// BenchmarkMoves moves fifty small accounts to another region and back: what one costs three nodes, and how long it takes.
func BenchmarkMoves(b *testing.B) {
	c := clustertest.Start(b, "south", "north", "overseas")
	door := c.Nodes[0]
	var accounts []client.Account
	order := relocate.Order{}
	for i := range 50 {
		accounts = append(accounts, c.Account(b, fmt.Sprint("u", i)))
		order.Addresses = append(order.Addresses, accounts[i].Address)
	}
	deliver(b, door.Client(), message(1, 2000), accounts...)
	homes, n := []string{"north", "south"}, 0
	before := processor(b)
	for b.Loop() {
		order.Home = homes[n%2]
		n++
		count, err := door.MoveAccounts(b.Context(), order)
		if err != nil || count != uint64(len(accounts)) {
			b.Fatalf("%d accounts move: %v", count, err)
		}
		moved(b, door)
	}
	moves := float64(n * len(accounts))
	b.ReportMetric(float64((processor(b)-before).Microseconds())/1e3/moves, "cpu-ms/account")
	b.ReportMetric(moves/b.Elapsed().Seconds(), "accounts/s")
}

func processor(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
