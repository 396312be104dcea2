package volume

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// TestFill: a copy that ends early gets what another one has, damage included, and serves all records but the damaged one. Whatever
// call fails, and if the power is cut then, the copy is as before or filled.
func TestFill(t *testing.T) {
	messages := mails(14, 3000, 5000, 9000, 700)
	file, ends := example(t, messages...)
	source := bytes.Clone(file)
	source[ends[1]+200] ^= 1 // in the third record
	path := testDir + "/" + testHeader.ID.String() + volumeSuffix
	for call := 0; ; call++ {
		mem := memFS(t)
		writeFile(t, mem, path, file[:ends[0]])
		n, armed, injected := 0, false, false
		s, err := OpenSet(errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if !armed {
				return nil
			}
			if n++; n-1 != call {
				return nil
			}
			injected = true
			return fmt.Errorf("call %d: %w", call, errorfs.ErrInjected)
		})), testDir, SetOptions{})
		must(t, err)
		_, err = s.Get(testHeader.ID)
		must(t, err)
		armed = true
		err = s.Fill(testHeader.ID, int64(len(file)), bytes.NewReader(source))
		armed = false
		if err != nil && !injected {
			t.Fatalf("call %d: %v", call, err)
		}
		done := err == nil
		clone := mem.CrashClone(vfs.CrashCloneCfg{})
		must(t, s.Close())
		for _, fs := range []vfs.FS{mem, clone} {
			again, err := OpenSet(fs, testDir, SetOptions{})
			must(t, err)
			v, err := again.Get(testHeader.ID)
			must(t, err)
			switch got := v.Durable(); {
			case got != ends[0] && got != int64(len(file)), done && got != int64(len(file)):
				t.Fatalf("call %d: %d bytes", call, got)
			case got == int64(len(file)):
				for i, p := range messages {
					var corrupt *CorruptError
					if _, err := fetch(v, uint64(i)+1, 0, MaxLength); i == 2 && !errors.As(err, &corrupt) {
						t.Fatalf("call %d: damaged record: %v", call, err)
					} else if i != 2 {
						expect(t, v, uint64(i)+1, fmt.Sprintf("meta %d", i+1), p)
					}
				}
			}
			must(t, again.Close())
		}
		if !injected {
			if err := s.Fill(testHeader.ID, 1<<20, bytes.NewReader(source)); !errors.Is(err, ErrClosed) {
				t.Errorf("a closed set: %v", err)
			}
			return
		}
	}
}
