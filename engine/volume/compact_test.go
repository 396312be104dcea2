package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

func unpaced(int) error { return nil }

// filled makes volume 7 of a set with these messages.
func filled(t testing.TB, s *Set, messages [][]byte) *Volume {
	t.Helper()
	v, err := s.Create(header(7), nil, nil)
	must(t, err)
	for i, m := range messages {
		put(t, v, fmt.Sprintf("meta %d", i+1), m)
	}
	must(t, v.Seal())
	return v
}

// holds checks that the volume has those of the messages, and no others.
func holds(t testing.TB, v *Volume, messages [][]byte, numbers []uint32) {
	t.Helper()
	for i, m := range messages {
		n := uint64(i + 1)
		if slices.Contains(numbers, uint32(n)) {
			expect(t, v, n, fmt.Sprintf("meta %d", n), m)
		} else if _, err := v.Get(n); !errors.Is(err, ErrNotFound) {
			t.Fatalf("record %d: %v", n, err)
		}
	}
}

// A generation has the records that stay under their old numbers, in the order asked for, the same on every copy. Readers of the old
// file go on; a third generation is made of the second as well.
func TestCompact(t *testing.T) {
	messages := mails(30, 3000, 100, 0, 20_000, 5, 700_000, 40)
	a, b := newSet(t, memFS(t)), newSet(t, memFS(t))
	defer a.Close()
	defer b.Close()
	va := filled(t, a, messages)
	block, err := va.FileHeader()
	must(t, err)
	vb, err := b.CreateCopy(block, nil)
	must(t, err)
	must(t, vb.Receive(fileHeaderSize, content(t, va)[fileHeaderSize:]))
	_, err = vb.Commit()
	must(t, err)
	must(t, vb.Seal())

	all, err := va.Census(roaring.BitmapOf(1, 2, 3, 4, 5, 6, 7))
	must(t, err)
	if all.Here.GetCardinality() != 7 || all.Bytes != va.Durable() || all.StayBytes != all.Bytes {
		t.Fatalf("all stays: %+v", all)
	}
	reader, err := va.Open(6, 0, MaxLength)
	must(t, err)
	for generation, order := range [][]uint32{{6, 2, 7, 3}, {7, 6}} {
		g := uint32(10 * (generation + 1))
		v, err := a.Get(7)
		must(t, err)
		census, err := v.Census(roaring.BitmapOf(order...))
		must(t, err)
		block, err := v.NextBlock(g, 77)
		must(t, err)
		var made [2]Prepared
		for i, s := range []*Set{a, b} {
			made[i], err = s.Prepare(t.Context(), 7, block, order, unpaced)
			must(t, err)
			if got, length, err := s.Next(7); err != nil || got != g || length != made[i].Length {
				t.Fatalf("next file: generation %d, %d bytes, %v", got, length, err)
			}
		}
		if made[0] != made[1] || made[0].Length != census.StayBytes {
			t.Fatalf("copies differ or are not as long as was said: %+v, %+v", made, census)
		}
		for _, s := range []*Set{a, b} {
			if err := s.Switch(7, g, made[0].Length+8); !errors.Is(err, ErrMisplaced) {
				t.Fatalf("switched to another length: %v", err)
			}
			must(t, s.Switch(7, g, made[0].Length))
			v, err := s.Get(7)
			must(t, err)
			if h := v.Header(); h.Generation != g || h.Records != 7 || h.Salt != 77 {
				t.Fatalf("%+v", h)
			}
			holds(t, v, messages, order)
			if len(s.Nexts()) != 0 {
				t.Error("a next file is left")
			}
		}
	}
	var got bytes.Buffer
	_, err = got.ReadFrom(reader)
	must(t, errors.Join(err, reader.Close()))
	if !bytes.Equal(got.Bytes(), messages[5]) {
		t.Error("a reader of the old generation got other bytes")
	}
	if _, err := va.Get(6); !errors.Is(err, ErrClosed) {
		t.Errorf("the old generation's volume: %v", err)
	}
}

// What is damaged or missing is not carried on, and nothing is left behind.
func TestCompactRefuses(t *testing.T) {
	messages := mails(31, 3000, 20_000, 5)
	fs := memFS(t)
	s := newSet(t, fs)
	v := filled(t, s, messages)
	block, err := v.NextBlock(1, 2)
	must(t, err)
	file := readFile(t, fs, s.path(7))
	_, at, err := v.record(2)
	must(t, errors.Join(err, s.Close()))
	for name, c := range map[string]struct {
		flip    int64
		records []uint32
		stop    bool
	}{
		"a damaged record": {flip: at + 5000, records: []uint32{1, 2}}, "a damaged header": {flip: at + 40, records: []uint32{1, 2}},
		"a record that is not there": {records: []uint32{1, 4}}, "a record twice": {records: []uint32{1, 3, 1}}, "the end of patience": {records: []uint32{1}, stop: true},
	} {
		t.Run(name, func(t *testing.T) {
			bad := bytes.Clone(file)
			if c.flip > 0 {
				bad[c.flip] ^= 1
			}
			fs := memFS(t)
			writeFile(t, fs, s.path(7), bad)
			s := newSet(t, fs)
			defer s.Close()
			ctx, cancel := context.WithCancel(t.Context())
			if c.stop {
				cancel()
			}
			defer cancel()
			if _, err := s.Prepare(ctx, 7, block, c.records, unpaced); err == nil {
				t.Error("prepared")
			}
			if _, _, err := s.Next(7); !errors.Is(err, ErrNotFound) || len(s.Nexts()) != 0 {
				t.Errorf("left behind: %v", err)
			}
		})
	}
}

// A power cut at any step leaves one generation whole, and the way to the next open: by the file that was prepared, or anew.
func TestPowerCutWhileCompacting(t *testing.T) {
	messages := mails(32, 3000, 100, 9000, 20_000, 5, 60)
	live := []uint32{5, 2, 4}
	for seed := range seeds(t, 30) {
		mem := memFS(t)
		s := newSet(t, mem)
		v := filled(t, s, messages)
		block, err := v.NextBlock(3, uint64(seed))
		must(t, err)
		must(t, s.Close())
		cuts := newPowerCuts(mem, uint64(seed))
		s = newSet(t, errorfs.Wrap(mem, cuts))
		made, err := s.Prepare(t.Context(), 7, block, live, unpaced)
		must(t, err)
		prepared := len(cuts.cuts)
		cuts.cut("before the switch")
		must(t, s.Switch(7, 3, made.Length))
		cuts.cut("after the switch")
		must(t, s.Close())
		for i, c := range cuts.cuts {
			carryOn(t, c, block, live, messages, made, i >= prepared, i == len(cuts.cuts)-1)
		}
	}
}

// carryOn starts on what a power cut left, and finishes the compaction.
func carryOn(t *testing.T, c powerCut, block []byte, live []uint32, messages [][]byte, made Prepared, prepared, switched bool) {
	t.Helper()
	s := newSet(t, c.fs)
	defer s.Close()
	v, err := s.Get(7)
	if err != nil {
		t.Fatalf("%s: %v", c.at, err)
	}
	for _, n := range live {
		expect(t, v, uint64(n), fmt.Sprintf("meta %d", n), messages[n-1])
	}
	generation, length, err := s.Next(7)
	switch {
	case v.Header().Generation == 3:
	case switched:
		t.Fatalf("%s: the switch is undone", c.at)
	case prepared && (err != nil || generation != 3 || length != made.Length):
		t.Fatalf("%s: what was prepared is gone: generation %d, %d bytes, %v", c.at, generation, length, err)
	case !prepared:
		again, err := s.Prepare(t.Context(), 7, block, live, unpaced)
		must(t, err)
		if again != made {
			t.Fatalf("%s: prepared otherwise: %+v, %+v", c.at, again, made)
		}
		fallthrough
	default:
		must(t, s.Switch(7, 3, made.Length))
	}
	v, err = s.Get(7)
	must(t, err)
	holds(t, v, messages, live)
}

// An error of any call of the file system fails the compaction, loses nothing, and does not stand in the way of the next.
func TestDiskFailsWhileCompacting(t *testing.T) {
	messages := mails(33, 3000, 100, 9000)
	for n := 0; ; n++ {
		mem := memFS(t)
		s := newSet(t, mem)
		v := filled(t, s, messages)
		block, err := v.NextBlock(3, 1)
		must(t, err)
		must(t, s.Close())
		left, armed := n, false
		s = newSet(t, errorfs.Wrap(mem, errorfs.InjectorFunc(func(errorfs.Op) error {
			if armed {
				left--
			}
			if armed && left == -1 {
				return errorfs.ErrInjected
			}
			return nil
		})))
		_, err = s.Get(7)
		must(t, err)
		armed = true
		made, err := s.Prepare(t.Context(), 7, block, []uint32{3, 1}, unpaced)
		if err == nil {
			err = s.Switch(7, 3, made.Length)
		}
		armed = false
		if left >= 0 {
			must(t, errors.Join(err, s.Close()))
			return // there are no more calls
		}
		v, err = s.Get(7)
		must(t, err)
		for _, n := range []uint32{1, 3} {
			expect(t, v, uint64(n), fmt.Sprintf("meta %d", n), messages[n-1])
		}
		if v.Header().Generation == 0 {
			made, err = s.Prepare(t.Context(), 7, block, []uint32{3, 1}, unpaced)
			must(t, err)
			must(t, s.Switch(7, 3, made.Length))
		}
		must(t, s.Close())
	}
}

// A partly prepared file is completed with bytes of another copy.
func TestOpenNext(t *testing.T) {
	messages := mails(34, 3000, 100, 9000)
	whole := newSet(t, memFS(t))
	defer whole.Close()
	v := filled(t, whole, messages)
	block, err := v.NextBlock(3, 1)
	must(t, err)
	made, err := whole.Prepare(t.Context(), 7, block, []uint32{3, 1}, unpaced)
	must(t, err)
	must(t, whole.Switch(7, 3, made.Length))
	v, err = whole.Get(7)
	must(t, err)
	file := content(t, v)

	s := newSet(t, memFS(t))
	defer s.Close()
	filled(t, s, messages)
	rng := rand.New(rand.NewPCG(1, 1))
	for {
		next, err := s.OpenNext(block)
		must(t, err)
		at := next.Durable()
		if at == made.Length {
			must(t, next.Close())
			break
		}
		must(t, next.Extend(at, file[at:min(at+int64(4000+rng.IntN(9000)), int64(len(file)))]))
		_, err = next.Commit()
		must(t, errors.Join(err, next.Close()))
	}
	must(t, s.Switch(7, 3, made.Length))
	v, err = s.Get(7)
	must(t, err)
	holds(t, v, messages, []uint32{3, 1})
	other, err := v.NextBlock(4, 1)
	must(t, err)
	next, err := s.OpenNext(other)
	must(t, err)
	must(t, errors.Join(next.Close(), s.DropNext(7)))
	if _, _, err := s.Next(7); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}
