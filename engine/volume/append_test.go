package volume

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// tapFunc is a Tap made of a function.
type tapFunc func(off int64, p []byte) error

func (f tapFunc) Append(off int64, p []byte) error { return f(off, p) }

func TestCallersShareOneFsync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := memFS(t)
		gate := make(chan struct{})
		v, err := Create(fs, testDir+"/a", testHeader, Options{Tap: tapFunc(func(int64, []byte) error { <-gate; return nil })})
		must(t, err)
		const writers = 50
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() { put(t, v, "m", fmt.Appendf(nil, "message %d", i)) })
			synctest.Wait() // the first is held at the Tap, the others queue behind it
		}
		close(gate)
		wg.Wait()
		if s := v.Stats(); s.Records != writers || s.Fsyncs != 2 {
			t.Errorf("%d records took %d fsyncs, want 2", s.Records, s.Fsyncs)
		}
		must(t, v.Close())
	})
}

func TestLoneWriterCostsOneFsync(t *testing.T) {
	fs := memFS(t)
	v, err := Create(fs, testDir+"/a", testHeader, Options{})
	must(t, err)
	defer v.Close()
	for i := range 10 {
		put(t, v, "m", []byte("x"))
		if s := v.Stats(); s.Fsyncs != uint64(i)+1 {
			t.Fatalf("%d appends took %d fsyncs", i+1, s.Fsyncs)
		}
	}
}

func TestCallerGivesUpBeforeItsTurnOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := memFS(t)
		gate := make(chan struct{})
		v, err := Create(fs, testDir+"/a", testHeader, Options{Tap: tapFunc(func(int64, []byte) error { <-gate; return nil })})
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		answers := make([]error, 3)
		var wg sync.WaitGroup
		for i := range answers {
			wg.Go(func() {
				b := newBlob(t, fs, testDir, []byte("x"))
				defer b.Close()
				use := ctx
				if i == 2 {
					use = t.Context()
				}
				_, _, answers[i] = v.Append(use, KindMessage, nil, b)
			})
			synctest.Wait()
		}
		cancel()
		synctest.Wait()
		close(gate)
		wg.Wait()
		// The first was with the committer already, so its record is there; the second never was.
		if answers[0] != nil || !errors.Is(answers[1], context.Canceled) || answers[2] != nil {
			t.Errorf("answers %v", answers)
		}
		if s := v.Stats(); s.Records != 2 {
			t.Errorf("%d records, want 2", s.Records)
		}
		must(t, v.Close())
	})
}

func TestSealAnswersEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := memFS(t)
		gate := make(chan struct{})
		v, err := Create(fs, testDir+"/a", testHeader, Options{Tap: tapFunc(func(int64, []byte) error { <-gate; return nil })})
		must(t, err)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { put(t, v, "m", []byte("x")) })
			synctest.Wait()
		}
		sealed := make(chan error)
		go func() { sealed <- v.Seal() }()
		synctest.Wait()
		b := newBlob(t, fs, testDir, []byte("late"))
		if _, _, err := v.Append(t.Context(), KindMessage, nil, b); !errors.Is(err, ErrSealed) {
			t.Errorf("append after Seal: %v", err)
		}
		must(t, b.Close())
		close(gate)
		must(t, <-sealed)
		wg.Wait()
		if s := v.Stats(); s.Records != 3 || !s.Sealed {
			t.Errorf("%+v", s)
		}
		must(t, v.Seal())
		must(t, v.Close())
		must(t, v.Close())
	})
}

func TestVolumeSealsItselfAtItsSize(t *testing.T) {
	fs := memFS(t)
	v, err := Create(fs, testDir+"/a", testHeader, Options{MaxSize: 64 << 10})
	must(t, err)
	defer v.Close()
	rng := rand.New(rand.NewPCG(1, 1))
	for i := 0; ; i++ {
		b := newBlob(t, fs, testDir, mail(rng, 20<<10))
		_, end, err := v.Append(t.Context(), KindMessage, nil, b)
		must(t, b.Close())
		if errors.Is(err, ErrSealed) {
			break
		}
		must(t, err)
		if i > 10 {
			t.Fatalf("still open at %d", end)
		}
	}
	if s := v.Stats(); !s.Sealed || s.Bytes < 64<<10 || s.Failed != nil {
		t.Fatalf("%+v", s)
	}
}

func TestRefusals(t *testing.T) {
	fs := memFS(t)
	v, err := Create(fs, testDir+"/a", testHeader, Options{})
	must(t, err)
	if _, err := Create(fs, testDir+"/a", testHeader, Options{}); !errors.Is(err, ErrExists) {
		t.Errorf("create twice: %v", err)
	}
	b := newBlob(t, fs, testDir, []byte("x"))
	if _, _, err := v.Append(t.Context(), KindMessage, make([]byte, MaxMeta+1), b); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too much metadata: %v", err)
	}
	put(t, v, "m", []byte("x"))
	if err := v.Receive(v.Durable(), []byte("x")); !errors.Is(err, ErrSealed) {
		t.Errorf("receive on the primary: %v", err)
	}
	for _, record := range []uint64{0, 2, 1 << 63} {
		if _, err := v.Get(record); !errors.Is(err, ErrNotFound) {
			t.Errorf("get record %d: %v", record, err)
		}
		if _, err := v.Open(record, 0, 1); !errors.Is(err, ErrNotFound) {
			t.Errorf("open record %d: %v", record, err)
		}
	}
	if err := v.Truncate(fileHeaderSize); !errors.Is(err, ErrMisplaced) {
		t.Errorf("truncate an open volume: %v", err)
	}
	must(t, b.Close())
	if _, _, err := v.Append(t.Context(), KindMessage, nil, b); !errors.Is(err, ErrClosed) {
		t.Errorf("append a closed blob: %v", err)
	}
	must(t, v.Close())
	if _, err := v.Open(1, 0, 1); !errors.Is(err, ErrClosed) {
		t.Errorf("read a closed volume: %v", err)
	}
	if _, err := Open(fs, testDir+"/none", Options{}); err == nil {
		t.Error("opened a file that does not exist")
	}
}

// TestFailureIsFinal: whatever breaks, the callers of the batch and all later ones get an error, what was
// durable is still read, and the file is not touched again.
func TestFailureIsFinal(t *testing.T) {
	noSpace := fmt.Errorf("write: %w", syscall.ENOSPC)
	for name, c := range map[string]struct {
		op   errorfs.OpKind
		err  error
		want error
	}{
		"write":          {errorfs.OpFileWriteAt, errorfs.ErrInjected, ErrFailed},
		"fsync":          {errorfs.OpFileSyncData, errorfs.ErrInjected, ErrFailed},
		"no space":       {errorfs.OpFileWriteAt, noSpace, ErrFull},
		"quota":          {errorfs.OpFileWriteAt, syscall.EDQUOT, ErrFull},
		"fsync no space": {errorfs.OpFileSyncData, noSpace, ErrFull},
	} {
		t.Run(name, func(t *testing.T) {
			var armed bool
			var after int
			mem := memFS(t)
			fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if !armed || op.Kind.ReadOrWrite() == errorfs.OpIsRead || op.Path != testDir+"/a" {
					return nil
				}
				after++
				if op.Kind == c.op {
					return c.err
				}
				return nil
			}))
			v, err := Create(fs, testDir+"/a", testHeader, Options{})
			must(t, err)
			put(t, v, "m", []byte("good"))
			durable := v.Durable()
			armed = true
			b := newBlob(t, mem, testDir, []byte("bad"))
			defer b.Close()
			_, _, err = v.Append(t.Context(), KindMessage, nil, b)
			if !errors.Is(err, c.want) || !errors.Is(err, c.err) {
				t.Fatalf("append: %v", err)
			}
			touched := after
			if _, _, err := v.Append(t.Context(), KindMessage, nil, b); !errors.Is(err, c.want) {
				t.Fatalf("append again: %v", err)
			}
			if err := v.Seal(); !errors.Is(err, c.want) {
				t.Fatalf("seal: %v", err)
			}
			if err := v.Truncate(durable); !errors.Is(err, c.want) {
				t.Fatalf("truncate: %v", err)
			}
			expect(t, v, 1, "m", []byte("good"))
			s := v.Stats()
			must(t, v.Close())
			if after != touched || s.Bytes != durable || !errors.Is(s.Failed, c.want) {
				t.Fatalf("%d operations after the failure, %+v", after-touched, s)
			}
		})
	}
}

func TestTapErrorFailsTheVolume(t *testing.T) {
	fs := memFS(t)
	broken := errors.New("link is down")
	v, err := Create(fs, testDir+"/a", testHeader, Options{Tap: tapFunc(func(int64, []byte) error { return broken })})
	must(t, err)
	defer v.Close()
	b := newBlob(t, fs, testDir, []byte("x"))
	defer b.Close()
	if _, _, err := v.Append(t.Context(), KindMessage, nil, b); !errors.Is(err, broken) || !errors.Is(err, ErrFailed) {
		t.Fatalf("append: %v", err)
	}
	if s := v.Stats(); s.Records != 0 || s.Bytes != fileHeaderSize {
		t.Fatalf("%+v", s)
	}
}

func TestReserveRefusesWithoutHarm(t *testing.T) {
	fs := memFS(t)
	v, err := Create(fs, testDir+"/a", testHeader, Options{Reserve: 1 << 20})
	must(t, err)
	defer v.Close()
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1<<20 + 10, TotalBytes: 1 << 30})
	b := newBlob(t, fs, testDir, []byte("x"))
	defer b.Close()
	if _, _, err := v.Append(t.Context(), KindMessage, nil, b); !errors.Is(err, ErrFull) {
		t.Fatalf("append below the reserve: %v", err)
	}
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 25, TotalBytes: 1 << 30})
	put(t, v, "m", []byte("there is space again"))
}

// TestUnreadableMessage: a message whose temporary file cannot be read fails alone if none of its bytes are out,
// and in any case fails no second volume.
func TestUnreadableMessage(t *testing.T) {
	for name, size := range map[string]int{"small": 300 << 10, "larger than a piece": 5 << 20} {
		t.Run(name, func(t *testing.T) {
			mem := memFS(t)
			rng := rand.New(rand.NewPCG(5, 5))
			broken := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if op.Kind == errorfs.OpFileReadAt && op.Offset+pieceSize >= int64(size)/2 {
					return errorfs.ErrInjected
				}
				return nil
			}))
			s := NewSpool(broken, testDir, 0)
			_, err := s.Write(mail(rng, size))
			must(t, err)
			bad, err := s.Finish()
			must(t, err)
			defer bad.Close()

			first, err := Create(mem, testDir+"/a", testHeader, Options{})
			must(t, err)
			defer first.Close()
			put(t, first, "m", []byte("before"))
			if _, _, err := first.Append(t.Context(), KindMessage, nil, bad); !errors.Is(err, errorfs.ErrInjected) {
				t.Fatalf("append: %v", err)
			}
			if failed := first.Stats().Failed != nil; failed != (size > pieceSize) {
				t.Fatalf("volume failed: %v", failed)
			}
			if size <= pieceSize {
				put(t, first, "m", []byte("after"))
			}
			second, err := Create(mem, testDir+"/b", testHeader, Options{})
			must(t, err)
			defer second.Close()
			if _, _, err := second.Append(t.Context(), KindMessage, nil, bad); !errors.Is(err, errorfs.ErrInjected) {
				t.Fatalf("append to another volume: %v", err)
			}
			put(t, second, "m", []byte("after"))
		})
	}
}
