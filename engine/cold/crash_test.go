package cold

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"hongyan/engine/effort"
)

// rounds is how many random runs a test makes; the nightly target makes many more.
func rounds(n int) int { return effort.Times(n, 50) }

// crasher lets the file system stop after so many operations, for good.
type crasher struct{ left atomic.Int64 }

func (c *crasher) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsRead && op.Kind != errorfs.OpFileRead && op.Kind != errorfs.OpFileReadAt {
		return nil
	}
	if c.left.Add(-1) < 0 {
		return errorfs.ErrInjected
	}
	return nil
}

func (c *crasher) String() string { return "crasher" }

// TestPowerCuts converts a volume on disks that lose their power again and again, with any part of what was not fsynced. Each time
// what has a name must be whole, and in the end everything is there.
func TestPowerCuts(t *testing.T) {
	l := layout(2, 2, 2*BlockRoom*5+99)
	file := noise(3, l.Length)
	want := encodedFiles(t, l, file)
	for seed := range rounds(60) {
		rng := rand.New(rand.NewPCG(uint64(seed), 9))
		fs := vfs.NewCrashableMem()
		for cuts := 0; ; cuts++ {
			c := &crasher{}
			c.left.Store(1 << 40)
			if cuts < 6 {
				c.left.Store(rng.Int64N(70))
			}
			err := convert(errorfs.Wrap(fs, c), l, file)
			fs = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
			whole := named(t, fs, want, seed)
			if err == nil {
				if whole != l.Fragments() {
					t.Fatalf("seed %d: conversion done, %d fragments after the power cut", seed, whole)
				}
				break
			}
			if cuts >= 6 {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
	}
}

func convert(fs vfs.FS, l Layout, file []byte) error {
	s, err := OpenStore(fs, "cold", nil)
	if err != nil {
		return err
	}
	return errors.Join(fill(s, l, file), s.Close())
}

// encodedFiles are the fragments' files as a quiet disk has them.
func encodedFiles(t *testing.T, l Layout, file []byte) [][]byte {
	t.Helper()
	fs := vfs.NewMem()
	s := filled(t, fs, l, file)
	out := make([][]byte, l.Fragments())
	for i := range out {
		out[i] = readFile(t, fs, s.path(Name{l.Volume, l.Generation, i}))
	}
	must(t, s.Close())
	return out
}

// named counts the fragments that have their name, and holds each against what it should be.
func named(t *testing.T, fs vfs.FS, want [][]byte, seed int) (whole int) {
	t.Helper()
	s, err := OpenStore(fs, "cold", nil)
	must(t, err)
	for _, n := range s.List() {
		if got := readFile(t, fs, s.path(n)); !bytes.Equal(got, want[n.Index]) {
			t.Fatalf("seed %d: fragment %d has its name and is not whole", seed, n.Index)
		}
		whole++
	}
	must(t, s.Close())
	return whole
}

// TestAnyCallFails: once, at any place. The error comes out, nothing half made has a name, and the next attempt succeeds.
func TestAnyCallFails(t *testing.T) {
	l := layout(2, 1, 2*BlockRoom*3)
	file := noise(4, l.Length)
	want := encodedFiles(t, l, file)
	for at := 0; ; at++ {
		fs := vfs.NewMem()
		c := &once{}
		c.left.Store(int64(at))
		err := convert(errorfs.Wrap(fs, c), l, file)
		if err != nil && !errors.Is(err, errorfs.ErrInjected) {
			t.Fatalf("call %d: %v", at, err)
		}
		named(t, fs, want, at)
		must(t, convert(fs, l, file))
		if whole := named(t, fs, want, at); whole != l.Fragments() {
			t.Fatalf("call %d: %d fragments", at, whole)
		}
		if c.left.Load() >= 0 {
			return // a conversion makes fewer calls
		}
	}
}

// once fails one call.
type once struct{ left atomic.Int64 }

func (c *once) MaybeError(errorfs.Op) error {
	if c.left.Add(-1) == -1 {
		return errorfs.ErrInjected
	}
	return nil
}

func (c *once) String() string { return "once" }

// TestCrashWhileMending: a block that tears when it is put back was damaged before.
func TestCrashWhileMending(t *testing.T) {
	ctx := context.Background()
	l := layout(2, 1, 2*BlockRoom*4)
	file := noise(5, l.Length)
	for seed := range rounds(60) {
		rng := rand.New(rand.NewPCG(uint64(seed), 2))
		fs := vfs.NewCrashableMem()
		s := filled(t, fs, l, file)
		n := Name{l.Volume, l.Generation, rng.IntN(3)}
		flip(t, fs, s.path(n), position(rng.Int64N(4))+rng.Int64N(BlockSize))
		f, err := s.Get(n)
		must(t, err)
		damaged, err := f.Verify(ctx, nil)
		must(t, err)
		for _, block := range damaged {
			stored, err := storeReader(t, s, l).restore(ctx, n.Index, block, 1)
			must(t, err)
			_, err = f.file.WriteAt(stored[:rng.IntN(len(stored))], position(block))
			must(t, err)
		}
		fs = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rng})
		s2, err := OpenStore(fs, "cold", nil)
		must(t, err)
		expect(t, s2, l, file)
		f, err = s2.Get(n)
		must(t, err)
		damaged, err = f.Verify(ctx, nil)
		must(t, err)
		must(t, f.Mend(ctx, storeReader(t, s2, l), damaged))
		if damaged, err = f.Verify(ctx, nil); err != nil || len(damaged) > 0 {
			t.Fatal(fmt.Sprint("seed ", seed, ": ", damaged, err))
		}
		must(t, errors.Join(s.Close(), s2.Close()))
	}
}
