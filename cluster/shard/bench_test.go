package shard

import (
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/cluster/placement"
	"hongyan/cluster/transport/transporttest"
	"hongyan/engine/atrest"
	"hongyan/engine/index"
)

// BenchmarkCommands has callers on all of three nodes commit commands of 500 B in 16 shards, whose leaders are spread over the nodes: encrypted logs
// and indexes on real files, everything fsynced, mutual TLS between the nodes. All nodes and callers are one process, whose
// CPU for a command it prints beside the rate. It then checks that each replica holds every command once.
//
//	go test -run '^$' -bench Commands -benchtime 100000x ./cluster/shard
func BenchmarkCommands(b *testing.B) {
	for _, callers := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) { benchCommands(b, callers) })
	}
}

const benchShards = 16

func benchCommands(b *testing.B, callers int) {
	routers, groups := startBench(b)
	names := make([]string, callers)
	for i := range names {
		names[i] = fmt.Sprintf("%0500d", i)
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	before := ownCPU(b)
	b.ResetTimer()
	for c := range callers {
		wg.Go(func() {
			for next.Add(1) <= int64(b.N) {
				_, _, err := routers[c%len(routers)].Propose(b.Context(), uint32(c%benchShards), []byte(names[c]), ForPeople)
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	rate := float64(b.N) / b.Elapsed().Seconds()
	b.ReportMetric(rate, "commands/s")
	b.ReportMetric(float64((ownCPU(b)-before).Microseconds())/float64(b.N), "cpu-µs/command")
	if b.N >= 10_000 { // no warm-up
		b.Logf("index commands: %.0f/s, bar 20000, holds: %v", rate, rate >= 20_000)
	}
	leader := leadersOf(b, groups)
	for _, replicas := range groups {
		for s, g := range replicas {
			must(b, g.WaitApplied(b.Context(), leader[s].Applied()))
		}
	}
	for n, replicas := range groups {
		total := uint64(0)
		for c, name := range names {
			total += stored(b, replicas[c%benchShards].cfg.Store, name)
		}
		if total != uint64(b.N) {
			b.Errorf("node %d holds %d commands of %d", n, total, b.N)
		}
	}
}

// startBench runs the shards on three nodes and waits for their leaders.
func startBench(b *testing.B) (routers []*Router, groups [][]*Group) {
	table := make([]placement.Group, benchShards)
	ids := []string{"v1", "v2", "v3"}
	for s := range table {
		table[s] = placement.Group{Shard: uint32(s), Home: "home", Voters: ids}
	}
	log, key := slog.New(slog.NewTextHandler(io.Discard, nil)), atrest.NewKey([32]byte{7})
	nets := transporttest.Nodes(b, ids...)
	hosts := make([]*Host, len(nets))
	for i, net := range nets {
		hosts[i] = NewHost(net)
		routers = append(routers, NewRouter(ids[i], net, hosts[i], table))
		net.Serve()
	}
	for i, net := range nets {
		dir := b.TempDir()
		logs := openLogsAt(b, filepath.Join(dir, "raft"), key)
		db, err := index.Open(key.FS(vfs.Default), filepath.Join(dir, "index"), index.Options{})
		must(b, err)
		b.Cleanup(func() { must(b, db.Close()); must(b, logs.Close()) })
		replicas := make([]*Group, benchShards)
		for s := range table {
			g, err := Start(Config{
				Group: table[s], Founds: true, Self: ids[i], Region: homeOf(ids[s%len(ids) : s%len(ids)+1]), Dir: filepath.Join(dir, "raft", fmt.Sprint(s)), Logs: logs,
				Transport: net.RaftGroup(uint32(s)), Peers: net, Store: db.Shard(uint32(s)), Machine: &tally{}, Log: log,
			})
			must(b, err)
			hosts[i].Add(g)
			replicas[s] = g
		}
		groups = append(groups, replicas)
		b.Cleanup(func() { must(b, hosts[i].Stop()) })
	}
	leadersOf(b, groups)
	return routers, groups
}

// leaders waits for the leader of each shard.
func leadersOf(b *testing.B, groups [][]*Group) []*Group {
	out := make([]*Group, benchShards)
	eventually(b, "a leader of each shard", func() bool {
		for s := range out {
			out[s] = nil
			for _, replicas := range groups {
				if replicas[s].IsLeader() {
					out[s] = replicas[s]
				}
			}
			if out[s] == nil {
				return false
			}
		}
		return true
	})
	return out
}

// ownCPU is what this process has used so far.
func ownCPU(b *testing.B) time.Duration {
	var u syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
