package index

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/effort"
	"hongyan/engine/volume"
)

// mover takes accounts from one shard to another and back, as package relocate does.
type mover struct {
	t        *testing.T
	r        *rand.Rand
	from, to *Shard
	index    uint64 // of both logs
	fence    uint64
}

// step is an entry with one command.
func (m *mover) step(s *Shard, fn func(tx *Txn) error) {
	m.t.Helper()
	m.index++
	entry(m.t, s, m.index, func(tx *Txn) { must(m.t, fn(tx)) })
}

func accountPairs(t *testing.T, s *Shard, account uint64) (list []Pair) {
	t.Helper()
	v := s.View()
	defer func() { must(t, v.Close()) }()
	must(t, v.Account(account, func(key, value []byte) error {
		list = append(list, Pair{Key: bytes.Clone(key), Value: bytes.Clone(value)})
		return nil
	}))
	return list
}

// copy imports what differs, in commands of random sizes, some of them in one Txn. It says how much that was.
func (m *mover) copy(account uint64) (changes int) {
	m.t.Helper()
	have := make(map[string]string)
	for _, p := range accountPairs(m.t, m.to, account) {
		have[string(p.Key)] = string(p.Value)
	}
	var puts []Pair
	for _, p := range accountPairs(m.t, m.from, account) {
		if v, ok := have[string(p.Key)]; !ok || v != string(p.Value) {
			puts = append(puts, p)
		}
		delete(have, string(p.Key))
	}
	var removes [][]byte
	for key := range have {
		removes = append(removes, []byte(key))
	}
	changes = len(puts) + len(removes)
	for len(puts)+len(removes) > 0 {
		tx := m.to.Begin()
		for range 1 + m.r.IntN(3) {
			m.index++
			tx.SetIndex(m.index)
			p, r := min(len(puts), m.r.IntN(20)), min(len(removes), m.r.IntN(20))
			must(m.t, tx.Import(account, m.fence, puts[:p], removes[:r]))
			puts, removes = puts[p:], removes[r:]
		}
		must(m.t, tx.Commit(m.index))
	}
	return changes
}

// update imports what has changed since the last copy.
func (m *mover) update(account uint64) {
	m.t.Helper()
	var bases []Base
	for _, p := range accountPairs(m.t, m.to, account) {
		b, ok, err := BaseOf(p)
		must(m.t, err)
		if ok {
			bases = append(bases, b)
		}
	}
	v := m.from.View()
	defer func() { must(m.t, v.Close()) }()
	have := make(map[string]string)
	w := m.to.View()
	must(m.t, w.AccountSmall(account, func(key, value []byte) error { have[string(key)] = string(value); return nil }))
	must(m.t, w.Close())
	var puts []Pair
	var removes [][]byte
	put := func(key, value []byte) error {
		puts = append(puts, Pair{Key: bytes.Clone(key), Value: bytes.Clone(value)})
		return nil
	}
	must(m.t, v.AccountSmall(account, func(key, value []byte) error {
		was, ok := have[string(key)]
		delete(have, string(key))
		if ok && was == string(value) {
			return nil
		}
		return put(key, value)
	}))
	for key := range have {
		removes = append(removes, []byte(key))
	}
	must(m.t, v.AccountSince(account, bases, put, func(key []byte) error {
		removes = append(removes, bytes.Clone(key))
		return nil
	}))
	m.step(m.to, func(tx *Txn) error { return tx.Import(account, m.fence, puts, removes) })
}

func (m *mover) arrive(account uint64) {
	m.t.Helper()
	for range 1000 { // each entry sweeps a part of what is in the way
		m.index++
		tx := m.to.Begin()
		tx.SetIndex(m.index)
		err := tx.Arrive(account, m.fence, 1)
		if err != nil && !errors.Is(err, ErrSwept) {
			m.t.Fatal(err)
		}
		must(m.t, tx.Commit(m.index))
		if err == nil {
			return
		}
	}
	m.t.Fatal("what an account left behind is never swept")
}

func (m *mover) handOver(account uint64) {
	m.t.Helper()
	m.step(m.from, func(tx *Txn) error { return tx.Freeze(account, m.fence, 2) })
	m.step(m.from, func(tx *Txn) error {
		var moved *MovedError
		if err := tx.Changeable(account); !errors.As(err, &moved) || moved.Shard != 0 {
			m.t.Errorf("a frozen account: %v", err)
		}
		return nil
	})
	m.update(account)
	if n := m.copy(account); n != 0 {
		m.t.Fatalf("%d keys differ after a copy of what had changed", n)
	}
	m.step(m.to, func(tx *Txn) error { return tx.Arrived(account, m.fence, []Early{{Volume: 9}}) })
	m.step(m.from, func(tx *Txn) error { return tx.Release(account, m.fence, 2, m.index) })
	m.step(m.to, func(tx *Txn) error { return tx.Activate(account, m.fence) })
	var after uint32
	m.step(m.from, func(tx *Txn) (err error) { after, err = tx.Drop(account, m.fence, 2, 0); return err })
	if left := accountPairs(m.t, m.from, account); after != 0 || len(left) != 0 {
		m.t.Fatalf("%d keys are left of an account that is gone, and more from %d on", len(left), after)
	}
}

// Accounts that move to and fro between two shards, amid their changes, are at each place as the model has them, UIDs and modseqs included, and leave
// no reference behind.
func TestMovesAgainstModel(t *testing.T) {
	for seed := range uint64(effort.Times(10, 20)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 7))
			db := openTest(t, vfs.NewMem())
			defer closeTest(t, db)
			db.sweep = 1 + r.IntN(50)
			v := &mover{t: t, r: r, from: db.Shard(3), to: db.Shard(4)}
			m := newModel()
			script := randomScript(r, 240)
			run := func(n int) {
				for _, e := range script[:n] {
					v.index = max(v.index+1, e.index)
					m.index = v.index
					entry(t, v.from, v.index, func(tx *Txn) {
						for _, c := range e.commands {
							if got, want := c.real(tx), c.model(m); got != want {
								t.Fatalf("entry %d: %+v\n got %s\nwant %s", e.index, c, got, want)
							}
						}
					})
				}
				script = script[n:]
			}
			for len(script) > 0 {
				run(min(len(script), 1+r.IntN(20)))
				v.fence++
				for account := range m.accounts {
					v.arrive(account)
					v.copy(account)
				}
				known := len(m.accounts)
				run(min(len(script), r.IntN(10)))
				if len(m.accounts) > known {
					v.callOff(m)
					continue
				}
				for account := range m.accounts {
					v.copy(account)
					v.handOver(account)
				}
				v.from, v.to = v.to, v.from
				compare(t, r, v.from, m)
				v.unreferred(v.to)
			}
		})
	}
}

// callOff has all accounts stay.
func (m *mover) callOff(of *model) {
	for account := range of.accounts {
		v := m.to.View()
		p, err := v.Place(account)
		must(m.t, errors.Join(err, v.Close()))
		if p.State == Arriving {
			m.step(m.to, func(tx *Txn) error { _, err := tx.Drop(account, m.fence, 1, 0); return err })
			m.step(m.from, func(tx *Txn) error { return tx.Thaw(account, m.fence) })
		}
	}
	m.unreferred(m.to)
}

// unreferred looks for references of accounts that are gone.
func (m *mover) unreferred(s *Shard) {
	m.t.Helper()
	v := s.View()
	defer func() { must(m.t, v.Close()) }()
	for id := range volume.ID(20) {
		must(m.t, v.References(id, func(r Reference) error {
			return fmt.Errorf("reference to record %d of account %d", r.Record, r.Account)
		}))
	}
}

// What an earlier move says is refused, and each step only where it belongs.
func TestMoveSteps(t *testing.T) {
	db := openTest(t, vfs.NewMem())
	defer closeTest(t, db)
	from, to := db.Shard(1), db.Shard(2)
	entry(t, from, 1, func(tx *Txn) { must(t, tx.EnsureAccount(7, 1)) })
	at := uint64(1)
	try := func(s *Shard, want error, fn func(tx *Txn) error) {
		t.Helper()
		at++
		entry(t, s, at, func(tx *Txn) {
			if err := fn(tx); !errors.Is(err, want) || want == nil && err != nil {
				t.Errorf("got %v, want %v", err, want)
			}
		})
	}
	try(from, ErrHere, func(tx *Txn) error { return tx.Arrive(7, 5, 2) })
	try(to, ErrFenced, func(tx *Txn) error { return tx.Arrived(7, 5, nil) })
	try(to, ErrFenced, func(tx *Txn) error { return tx.Import(7, 5, nil, nil) })
	try(to, nil, func(tx *Txn) error { return tx.Arrive(7, 5, 1) })
	try(to, ErrFenced, func(tx *Txn) error { return tx.Import(7, 4, nil, nil) })
	try(to, nil, func(tx *Txn) error { return tx.Arrive(7, 6, 1) })
	try(to, ErrFenced, func(tx *Txn) error { return tx.Import(7, 5, nil, nil) })
	try(to, ErrFenced, func(tx *Txn) error { return tx.Activate(7, 5) })
	try(from, ErrHere, func(tx *Txn) error { return tx.Release(7, 6, 2, 1) })
	try(from, ErrHere, func(tx *Txn) error { _, err := tx.Drop(7, 6, 2, 0); return err })
	try(from, nil, func(tx *Txn) error { return tx.Freeze(7, 6, 2) })
	try(from, ErrFenced, func(tx *Txn) error { return tx.Thaw(7, 5) })
	try(from, nil, func(tx *Txn) error { return tx.Thaw(7, 6) })
	try(from, nil, func(tx *Txn) error { return tx.Freeze(7, 6, 2) })
	try(to, ErrInvalidName, func(tx *Txn) error { return tx.Import(7, 6, []Pair{{Key: []byte("o"), Value: []byte{1}}}, nil) })
	try(to, ErrInvalidName, func(tx *Txn) error { return tx.Import(7, 6, []Pair{{Key: []byte("u12345678"), Value: []byte{9}}}, nil) })
	try(to, nil, func(tx *Txn) error { return tx.Import(7, 6, accountPairs(t, from, 7), nil) })
	try(from, nil, func(tx *Txn) error { return tx.Release(7, 6, 2, 99) })
	try(from, nil, func(tx *Txn) error { return tx.Release(7, 6, 2, 99) })
	try(to, nil, func(tx *Txn) error { return tx.Activate(7, 6) })
	try(to, nil, func(tx *Txn) error { return tx.Activate(7, 7) }) // who takes it up again has a fence of his own
	try(to, ErrHere, func(tx *Txn) error { return tx.Arrive(7, 8, 1) })
	v := from.View()
	defer func() { must(t, v.Close()) }()
	var moved *MovedError
	if err := v.Readable(7); !errors.As(err, &moved) || *moved != (MovedError{Shard: 2, At: 99}) {
		t.Errorf("an account that is gone: %v", err)
	}
}
