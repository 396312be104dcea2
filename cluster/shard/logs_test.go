package shard

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"hongyan/engine/atrest"
	"hongyan/engine/effort"
	"hongyan/engine/journal"
)

func openLogsAt(t testing.TB, dir string, key *atrest.Key) *Logs {
	t.Helper()
	l, err := OpenLogs(dir, key, nil)
	must(t, err)
	return l
}

// TestLogsAsBolt makes the same random changes, of the kinds that raft makes, in our logs and in raft-boltdb.
func TestLogsAsBolt(t *testing.T) {
	for seed := range uint64(effort.Of(2, 8, 8)) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 5))
			dir, key := t.TempDir(), []*atrest.Key{nil, atrest.NewKey([32]byte{1})}[seed%2]
			bolt, err := raftboltdb.NewBoltStore(filepath.Join(t.TempDir(), "reference.db"))
			must(t, err)
			defer func() { must(t, bolt.Close()) }()
			logs := openLogsAt(t, dir, key)
			group := logs.group(1)
			for range 120 {
				if rnd.IntN(40) == 0 {
					must(t, logs.Close())
					logs = openLogsAt(t, dir, key)
					group = logs.group(1)
				}
				changeBoth(t, rnd, group, bolt)
				same(t, rnd, group, bolt)         // of the newest from memory
				same(t, rnd, logs.group(1), bolt) // all from the disk
			}
			must(t, logs.Close())
		})
	}
}

// changeBoth makes one change.
func changeBoth(t *testing.T, rnd *rand.Rand, a, b raft.LogStore) {
	t.Helper()
	first, err := b.FirstIndex()
	must(t, err)
	last, err := b.LastIndex()
	must(t, err)
	switch k := rnd.IntN(10); {
	case k < 7 || last == 0:
		var list []*raft.Log
		for i := range 1 + rnd.IntN(6) {
			list = append(list, &raft.Log{Index: last + 1 + uint64(i), Term: rnd.Uint64N(5), Type: raft.LogType(rnd.IntN(3)),
				Data: bytes.Repeat([]byte{byte(i)}, rnd.IntN(3000)), Extensions: []byte("x"), AppendedAt: time.Unix(rnd.Int64N(1e9), 5)})
		}
		must(t, a.StoreLogs(list))
		must(t, b.StoreLogs(list))
	case k < 8: // entries of a leader that lost; raft stores others in their place
		from := first + rnd.Uint64N(last-first+1)
		must(t, a.DeleteRange(from, last))
		must(t, b.DeleteRange(from, last))
		list := []*raft.Log{{Index: from, Term: 5, Data: []byte("of another leader")}}
		must(t, a.StoreLogs(list))
		must(t, b.StoreLogs(list))
	default: // after a snapshot
		to := first + rnd.Uint64N(last-first+1)
		must(t, a.DeleteRange(first, to))
		must(t, b.DeleteRange(first, to))
	}
}

func same(t *testing.T, rnd *rand.Rand, a, b raft.LogStore) {
	t.Helper()
	firstA, errA := a.FirstIndex()
	firstB, errB := b.FirstIndex()
	lastA, errC := a.LastIndex()
	lastB, errD := b.LastIndex()
	must(t, errors.Join(errA, errB, errC, errD))
	if firstA != firstB || lastA != lastB {
		t.Fatalf("entries %d to %d, expected %d to %d", firstA, lastA, firstB, lastB)
	}
	for range 5 {
		at := firstB + rnd.Uint64N(lastB-firstB+3)
		var x, y raft.Log
		errA, errB := a.GetLog(at, &x), b.GetLog(at, &y)
		if !errors.Is(errA, errB) {
			t.Fatalf("entry %d: %v, expected %v", at, errA, errB)
		}
		if errA == nil && (x.Index != y.Index || x.Term != y.Term || x.Type != y.Type || !bytes.Equal(x.Data, y.Data) ||
			!bytes.Equal(x.Extensions, y.Extensions) || !x.AppendedAt.Equal(y.AppendedAt)) {
			t.Fatalf("entry %d differs: %+v, expected %+v", at, x, y)
		}
	}
}

// Entries of a leader that lost stay until others take their place: if those cannot be stored the log ends where raft takes it to end.
func TestSuffixStaysUntilItIsReplaced(t *testing.T) {
	dir := t.TempDir()
	logs := openLogsAt(t, dir, nil)
	group := logs.group(1)
	var list []*raft.Log
	for i := range uint64(10) {
		list = append(list, &raft.Log{Index: 1 + i, Term: 1, Data: []byte("one")})
	}
	must(t, group.StoreLogs(list))
	must(t, group.DeleteRange(6, 10))
	if err := group.StoreLogs([]*raft.Log{{Index: 6, Term: 2, Data: make([]byte, journal.MaxFrame)}}); !errors.Is(err, journal.ErrTooLarge) {
		t.Fatal(err)
	}
	var got raft.Log
	for range 2 {
		if last, err := group.LastIndex(); err != nil || last != 10 || group.GetLog(10, &got) != nil || got.Term != 1 {
			t.Fatalf("ends with %d of term %d: %v", last, got.Term, err)
		}
		must(t, logs.Close())
		logs = openLogsAt(t, dir, nil)
		group = logs.group(1)
	}
	must(t, group.DeleteRange(6, 10))
	must(t, group.StoreLogs([]*raft.Log{{Index: 6, Term: 2, Data: []byte("two")}}))
	if last, err := group.LastIndex(); err != nil || last != 6 || group.GetLog(6, &got) != nil || got.Term != 2 {
		t.Fatalf("ends with %d of term %d: %v", last, got.Term, err)
	}
	must(t, logs.Close())
}

// A crash between the two steps in which raft writes a vote leaves none: the one of an earlier term would be repeated to whoever got it.
func TestVoteIsOfItsTerm(t *testing.T) {
	dir := t.TempDir()
	for former := range 2 {
		logs := openLogsAt(t, dir, nil)
		group := logs.group(uint32(former))
		if former == 1 {
			must(t, logs.stable(1).(groupTerms).terms.db.Set([]byte("0001/LastVoteCand"), []byte("v1")))
		} else {
			must(t, group.SetUint64([]byte("LastVoteTerm"), 4))
			must(t, group.Set([]byte("LastVoteCand"), []byte("v1")))
		}
		if v, err := group.Get([]byte("LastVoteCand")); err != nil || string(v) != "v1" {
			t.Errorf("voted for %q: %v", v, err)
		}
		must(t, group.SetUint64([]byte("LastVoteTerm"), 6))
		must(t, logs.Close())
		logs = openLogsAt(t, dir, nil)
		group = logs.group(uint32(former))
		if n, err := group.GetUint64([]byte("LastVoteTerm")); err != nil || n != 6 {
			t.Errorf("in term %d: %v", n, err)
		}
		if v, err := group.Get([]byte("LastVoteCand")); v != nil || !errors.Is(err, raftboltdb.ErrKeyNotFound) {
			t.Errorf("voted for %q: %v", v, err)
		}
		must(t, logs.Close())
	}
}

// Groups share a store of terms and votes without seeing each other's.
func TestStableByGroup(t *testing.T) {
	dir := t.TempDir()
	logs := openLogsAt(t, dir, nil)
	for shard := range uint32(3) {
		must(t, logs.group(shard).SetUint64([]byte("CurrentTerm"), uint64(shard)+10))
	}
	must(t, logs.group(1).Set([]byte("LastVoteCand"), []byte("v2")))
	must(t, logs.Close())
	logs = openLogsAt(t, dir, nil)
	for shard := range uint32(3) {
		n, err := logs.group(shard).GetUint64([]byte("CurrentTerm"))
		must(t, err)
		if n != uint64(shard)+10 {
			t.Errorf("term of shard %d is %d", shard, n)
		}
	}
	if _, err := logs.group(0).Get([]byte("LastVoteCand")); !errors.Is(err, raftboltdb.ErrKeyNotFound) {
		t.Errorf("vote of a group that has not voted: %v", err)
	}
	must(t, logs.Close())
}

// BenchmarkLogs has shards append entries of 500 B at once: all in one journal, and each in a raft-boltdb of its own.
func BenchmarkLogs(b *testing.B) {
	for _, shards := range []int{1, 16, 64, 128} {
		b.Run(fmt.Sprintf("encrypted/shards=%d", shards), func(b *testing.B) {
			logs := openLogsAt(b, b.TempDir(), atrest.NewKey([32]byte{1}))
			benchStores(b, shards, func(i int) raft.LogStore { return logs.group(uint32(i)) })
			must(b, logs.Close())
		})
		b.Run(fmt.Sprintf("journal/shards=%d", shards), func(b *testing.B) {
			logs := openLogsAt(b, b.TempDir(), nil)
			benchStores(b, shards, func(i int) raft.LogStore { return logs.group(uint32(i)) })
			b.ReportMetric(float64(logs.Journal().Entries)/float64(logs.Journal().Frames), "entries/fsync")
			must(b, logs.Close())
		})
		b.Run(fmt.Sprintf("boltdb/shards=%d", shards), func(b *testing.B) {
			dir := b.TempDir()
			benchStores(b, shards, func(i int) raft.LogStore {
				s, err := raftboltdb.NewBoltStore(filepath.Join(dir, strconv.Itoa(i)))
				must(b, err)
				b.Cleanup(func() { must(b, s.Close()) })
				return s
			})
		})
	}
}

func benchStores(b *testing.B, shards int, open func(i int) raft.LogStore) {
	stores := make([]raft.LogStore, shards)
	for i := range stores {
		stores[i] = open(i)
	}
	data := bytes.Repeat([]byte("entry"), 100)
	took := make([]time.Duration, b.N)
	b.ResetTimer()
	var wg sync.WaitGroup
	for i, s := range stores {
		wg.Go(func() {
			for k := i; k < b.N; k += shards {
				began := time.Now()
				must(b, s.StoreLog(&raft.Log{Index: uint64(k/shards) + 1, Term: 1, Data: data}))
				took[k] = time.Since(began)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
	b.ReportMetric(float64(took[b.N*99/100].Microseconds())/1000, "p99-ms")
}

// What commands say is not in the files of the logs; what raft needs comes back as it was.
func TestLogsAreEncrypted(t *testing.T) {
	dir, key := t.TempDir(), atrest.NewKey([32]byte{1})
	entries := []*raft.Log{
		{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: []byte("members")},
		{Index: 2, Term: 1, Type: raft.LogCommand, Data: []byte("From: u0001@example.test")},
		{Index: 3, Term: 2, Type: raft.LogNoop},
	}
	logs := openLogsAt(t, dir, key)
	must(t, logs.group(3).StoreLogs(entries))
	if string(entries[1].Data) != "From: u0001@example.test" {
		t.Fatal("the entries that raft sends on were changed")
	}
	must(t, logs.Close())
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte("example.test")) {
			t.Errorf("the address is in the clear in %s", path)
		}
		return err
	})
	must(t, err)
	logs = openLogsAt(t, dir, key)
	for _, want := range entries {
		var got raft.Log
		must(t, logs.group(3).GetLog(want.Index, &got))
		if got.Term != want.Term || got.Type != want.Type || !bytes.Equal(got.Data, want.Data) {
			t.Errorf("entry %d reads as %+v", want.Index, got)
		}
	}
	must(t, logs.Close())
	logs = openLogsAt(t, dir, atrest.NewKey([32]byte{2}))
	if err := logs.group(3).GetLog(2, new(raft.Log)); !errors.Is(err, atrest.ErrWrongKey) {
		t.Errorf("another key: %v", err)
	}
	must(t, logs.Close())
}
