package columns

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hongyan/engine/effort"

	"github.com/RoaringBitmap/roaring/v2"
)

// checked holds what a cache says of itself against what is in it.
func (c *Cache) checked(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	all := int64(0)
	for _, o := range c.owners {
		bytes := int64(0)
		for e := o.columns.Front(); e != nil; e = e.Next() {
			col := e.Value.(*column)
			size := int64(columnCost)
			for _, b := range col.blocks {
				size += b.cost()
			}
			if c.columns[col.key] != col || col.bytes != size {
				t.Fatalf("%v: %d bytes, counted as %d", col.key, size, col.bytes)
			}
			bytes += size
		}
		if o.columns.Len() == 0 || o.bytes != bytes || o.bytes > c.limit/2 {
			t.Fatalf("account %d: %d columns, %d bytes, counted as %d", o.account, o.columns.Len(), bytes, o.bytes)
		}
		all += bytes
	}
	if c.bytes != all || all > c.limit || len(c.owners) != c.byUse.Len() {
		t.Fatalf("%d bytes, counted as %d, of %d", all, c.bytes, c.limit)
	}
}

func (h *Column) empty() bool { return len(h.numbers()) == 0 }

func get(h *Column, uid uint32) []byte {
	var out [1][]byte
	h.Values([]uint32{uid}, out[:])
	return out[0]
}

// A column says what a table would, whatever is added, asked for and gone, in any order.
func TestColumn(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 11))
	c := New(1 << 30)
	for round := range effort.Of(4, 25, 500) {
		key := Key{Account: uint64(round % 3), Mailbox: uint32(round), UIDValidity: 7, Name: "x"}
		model, span := map[uint32][]byte{}, uint32(1+rng.IntN(3*blockUIDs))
		first, width := rng.Uint32()>>1, rng.IntN(3) // values of one length only, at times
		valueOf := func(uid uint32) []byte {
			v := make([]byte, width)
			if width == 2 {
				v = make([]byte, uid*7%50)
			}
			for i := range v {
				v[i] = byte(uid) + byte(i)
			}
			return v
		}
		for range 30 {
			h := c.Column(key)
			if h.empty() != (len(model) == 0) {
				t.Fatal("empty:", h.empty())
			}
			for range rng.IntN(300) {
				uid := first + rng.Uint32N(span)
				h.Add(uid, valueOf(uid))
				model[uid] = valueOf(uid)
				if rng.IntN(100) == 0 {
					h.Flush()
				}
			}
			h.Flush()
			uids := slices.Sorted(maps.Keys(model))
			for range 100 {
				uids = append(uids, first+rng.Uint32N(span))
			}
			slices.Sort(uids)
			out := make([][]byte, len(uids))
			h.Values(uids, out)
			for i, uid := range uids {
				if want := model[uid]; !bytes.Equal(out[i], want) || (out[i] == nil) != (want == nil) {
					t.Fatalf("UID %d: %x, want %x", uid, out[i], want)
				}
			}
			if rng.IntN(3) > 0 {
				continue
			}
			there, next := roaring.New(), first+rng.Uint32N(span+10)
			for range rng.IntN(int(span)) {
				there.Add(first + rng.Uint32N(span))
			}
			h.Keep(there, next)
			maps.DeleteFunc(model, func(uid uint32, _ []byte) bool { return uid < next && !there.Contains(uid) })
			if len(model) == 0 {
				break
			}
		}
		c.checked(t)
	}
	if s := c.Stats(); s.Hits == 0 || s.Misses == 0 || s.Bytes == 0 {
		t.Errorf("%+v", s)
	}
}

// Columns are told apart by all that names them.
func TestKeys(t *testing.T) {
	c := New(1 << 20)
	keys := []Key{{1, 1, 1, "a"}, {2, 1, 1, "a"}, {1, 2, 1, "a"}, {1, 1, 2, "a"}, {1, 1, 1, "b"}}
	for i, k := range keys {
		h := c.Column(k)
		if !h.empty() || get(h, 5) != nil {
			t.Errorf("%v is there", k)
		}
		h.Add(5, []byte{byte(i)})
		h.Flush()
	}
	for i, k := range keys {
		if got := get(c.Column(k), 5); !bytes.Equal(got, []byte{byte(i)}) {
			t.Errorf("%v: %x", k, got)
		}
	}
}

// What is too long is not remembered, neither value nor name.
func TestTooLong(t *testing.T) {
	c := New(1 << 20)
	h := c.Column(Key{Name: "x"})
	h.Add(1, make([]byte, maxValue+1))
	h.Add(2, make([]byte, maxValue))
	h.Flush()
	if get(h, 1) != nil || len(get(h, 2)) != maxValue {
		t.Error("the bound of a value is another")
	}
	h = c.Column(Key{Name: string(make([]byte, maxName+1))})
	h.Add(1, nil)
	if h.Flush(); !h.empty() {
		t.Error("a column of a long name")
	}
}

// fill adds messages to a column, and says how many of them are remembered.
func fill(h *Column, messages uint32, value []byte) (kept int) {
	for uid := range messages {
		h.Add(uid+1, value)
	}
	h.Flush()
	for uid := range messages {
		if get(h, uid+1) != nil {
			kept++
		}
	}
	return kept
}

// Memory is bounded; what has no room is not remembered, and what is in use stays.
func TestBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 1 << 20
		c := New(limit)
		value := make([]byte, 100)
		large := func(account uint64, name string) *Column { return c.Column(Key{Account: account, Name: name}) }
		first := fill(large(1, "a"), 20_000, value)
		if first < 3000 || first > 6000 { // half of all, by 104 bytes each
			t.Errorf("%d messages of an account are remembered", first)
		}
		c.checked(t)
		if n := fill(large(1, "b"), 20_000, value); n != 0 {
			t.Errorf("%d messages pushed others of the same account out", n)
		}
		if n := fill(large(2, "a"), 20_000, value); n < first-2*blockUIDs {
			t.Errorf("%d messages of another account are remembered", n)
		}
		if n := fill(large(3, "a"), 20_000, value); n > 2*blockUIDs {
			t.Errorf("%d messages of a third account are remembered", n)
		}
		c.checked(t)
		if n := fill(large(1, "a"), 20_000, value); n < first {
			t.Errorf("%d messages are left of %d", n, first)
		}
		time.Sleep(rest + time.Second)
		large(2, "a") // is used
		if n := fill(large(3, "a"), 20_000, value); n < first-2*blockUIDs {
			t.Errorf("%d messages are remembered in the place of what was not used", n)
		}
		if large(2, "a").empty() || !large(1, "a").empty() {
			t.Error("not what was used longest ago was forgotten")
		}
		c.checked(t)
	})
}

// What nobody used for Age is gone, at the latest then; what is used stays.
func TestAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(1 << 20)
		for _, name := range []string{"used", "unused"} {
			fill(c.Column(Key{Name: name}), 10, []byte("x"))
		}
		for range 20 {
			time.Sleep(Age / 20)
			c.Column(Key{Name: "used"})
		}
		synctest.Wait()
		if c.Column(Key{Name: "used"}).empty() || !c.Column(Key{Name: "unused"}).empty() {
			t.Error("not what was not used is gone")
		}
		time.Sleep(Age)
		synctest.Wait()
		if s := c.Stats(); s.Bytes != 0 {
			t.Errorf("%d bytes are left", s.Bytes)
		}
		c.mu.Lock()
		if c.sweeps {
			t.Error("an empty cache is swept")
		}
		c.mu.Unlock()
		fill(c.Column(Key{Name: "later"}), 10, []byte("x"))
		time.Sleep(2 * Age)
		synctest.Wait()
		if s := c.Stats(); s.Bytes != 0 {
			t.Errorf("%d bytes are left of later", s.Bytes)
		}
	})
}

// A message costs few bytes beside its value, and the count of them is about what the runtime says.
func TestMemory(t *testing.T) {
	for _, tt := range []struct {
		name       string
		size       func(i int) int
		atMost     float64
		everyOther uint32
	}{
		{"dates", func(int) int { return 8 }, 8.5, 1},
		{"a field that none has", func(int) int { return 0 }, 0.5, 1},
		{"texts", func(i int) int { return 20 + i%20 }, 34.5, 1},
		{"dates of every eighth UID", func(int) int { return 8 }, 12, 8},
	} {
		var before, after runtime.MemStats
		c := New(1 << 30)
		runtime.GC()
		runtime.ReadMemStats(&before)
		h := c.Column(Key{Name: "x"})
		const messages = 100_000
		value := make([]byte, maxValue)
		for i := range messages {
			h.Add(uint32(i+1)*tt.everyOther, value[:tt.size(i)])
		}
		h.Flush()
		runtime.GC()
		runtime.ReadMemStats(&after)
		counted, real := float64(c.Stats().Bytes)/messages, (float64(after.HeapAlloc)-float64(before.HeapAlloc))/messages
		if counted > tt.atMost || real > 1.3*counted+0.5 {
			t.Errorf("%s: %.1f bytes a message, counted as %.1f, at most %.1f", tt.name, real, counted, tt.atMost)
		}
		runtime.KeepAlive(c)
	}
}

// Many use the same columns at once, while others push them out and take messages away. Whatever is remembered is right.
func TestConcurrent(t *testing.T) {
	c := New(200 << 10)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(worker), 12))
			uids, out := make([]uint32, 500), make([][]byte, 500)
			for range 200 {
				k := Key{Account: uint64(rng.IntN(3)), Mailbox: uint32(rng.IntN(2)), Name: fmt.Sprint(rng.IntN(3))}
				h, start := c.Column(k), rng.Uint32N(3*blockUIDs)
				for i := range uids {
					uids[i] = start + uint32(i)
				}
				h.Values(uids, out)
				there := roaring.New()
				for i, uid := range uids {
					want := fmt.Appendf(nil, "%v %d", k, uid)
					if out[i] != nil && !bytes.Equal(out[i], want) {
						t.Errorf("%s, want %s", out[i], want)
					}
					if out[i] == nil {
						h.Add(uid, want)
					}
					if rng.IntN(10) > 0 {
						there.Add(uid)
					}
				}
				h.Flush()
				if rng.IntN(4) == 0 {
					h.Keep(there, start+300)
				}
				if rng.IntN(50) == 0 {
					c.sweep()
				}
			}
		})
	}
	wg.Wait()
	c.checked(t)
}
