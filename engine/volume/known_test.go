package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// TestSealedLengthIsKept: a file that is as long as its volume was sealed is not cut, whatever is damaged at its end and how often it is opened; and what another
// copy has of that is mended in place.
func TestSealedLengthIsKept(t *testing.T) {
	messages := mails(15, 3000, 5000, 9000, 700)
	file, ends := example(t, messages...)
	length := int64(len(file))
	path := testDir + "/" + testHeader.ID.String() + volumeSuffix
	for name, c := range map[string]struct {
		spoil func([]byte) []byte
		start int64    // of the damage
		lost  []uint64 // records
	}{
		"content of the last record":       {func(b []byte) []byte { b[length-100] ^= 1; return b }, ends[2], []uint64{4}},
		"header of the last record":        {func(b []byte) []byte { b[ends[2]] ^= 1; return b }, ends[2], []uint64{4}},
		"two records":                      {func(b []byte) []byte { b[ends[1]] ^= 1; b[length-100] ^= 1; return b }, ends[1], []uint64{3, 4}},
		"not as long, so it may be a tail": {func(b []byte) []byte { return b[:length-8] }, 0, nil},
		"longer, so it may be a tail":      {func(b []byte) []byte { b[length-100] ^= 1; return append(b, make([]byte, 8)...) }, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			fs := memFS(t)
			writeFile(t, fs, path, c.spoil(bytes.Clone(file)))
			for range 2 {
				s, err := OpenSet(fs, testDir, SetOptions{})
				must(t, err)
				s.KnowSealed(func(ID) Sealed { return Sealed{Length: length, Last: 4} })
				v, err := s.Get(testHeader.ID)
				must(t, err)
				if c.lost == nil {
					if v.Durable() != ends[2] || len(v.Damage()) > 0 {
						t.Errorf("%d bytes, damage %v", v.Durable(), v.Damage())
					}
					must(t, s.Close())
					return
				}
				if d := v.Damage(); v.Durable() != length || len(d) != 1 || d[0] != (Span{c.start, length}) {
					t.Fatalf("%d bytes, damage %v", v.Durable(), d)
				}
				must(t, v.Truncate(length)) // as repair does
				for i := range messages {
					record := uint64(i) + 1
					var corrupt *CorruptError
					if record < c.lost[0] {
						expect(t, v, record, fmt.Sprintf("meta %d", record), messages[i])
					} else if _, err := fetch(v, record, 0, MaxLength); !errors.As(err, &corrupt) {
						t.Errorf("record %d: %v", record, err)
					}
				}
				must(t, s.Close())
			}
			s, err := OpenSet(fs, testDir, SetOptions{})
			must(t, err)
			s.KnowSealed(func(ID) Sealed { return Sealed{Length: length} }) // nobody told which record is the last
			v, err := s.Get(testHeader.ID)
			must(t, err)
			var corrupt *CorruptError
			if _, err := fetch(v, 4, 0, MaxLength); !errors.As(err, &corrupt) {
				t.Errorf("record 4 of a volume whose last is not known: %v", err)
			}
			if blind := name == "header of the last record"; blind && v.Stats().Damaged == 0 {
				t.Errorf("%+v", v.Stats())
			} else if _, err := fetch(v, 5, 0, MaxLength); errors.As(err, &corrupt) != blind {
				t.Errorf("record 5: %v", err)
			}
			out, err := s.Verify(testHeader.ID, Check{Others: []io.ReaderAt{bytes.NewReader(file)}})
			if err != nil || out.Damaged > 0 || out.Mended != uint64(len(c.lost)) {
				t.Errorf("%+v, %v", out, err)
			}
			v, err = s.Get(testHeader.ID)
			must(t, err)
			if len(v.Damage()) > 0 || v.Stats().Damaged > 0 || v.Durable() != length {
				t.Errorf("mended, and %d bytes with damage %v", v.Durable(), v.Damage())
			}
			for i, p := range messages {
				expect(t, v, uint64(i)+1, fmt.Sprintf("meta %d", i+1), p)
			}
			must(t, s.Close())
			if !bytes.Equal(readFile(t, fs, path), file) {
				t.Error("the mended file differs")
			}
		})
	}
}

// TestUnreadableForAMoment: the disk does not give the end of a file while that is opened, and then it does. The check that finds nothing wrong has it opened anew.
func TestUnreadableForAMoment(t *testing.T) {
	messages := mails(16, 3000, 5000, 700)
	file, ends := example(t, messages...)
	mem, bad := memFS(t), true
	writeFile(t, mem, testDir+"/"+testHeader.ID.String()+volumeSuffix, file)
	s, err := OpenSet(errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if bad && op.Kind == errorfs.OpFileReadAt && op.Offset > 0 {
			return syscall.EIO
		}
		return nil
	})), testDir, SetOptions{})
	must(t, err)
	s.KnowSealed(func(ID) Sealed { return Sealed{Length: ends[2], Last: 3} })
	v, err := s.Get(testHeader.ID)
	must(t, err)
	if d := v.Damage(); len(d) != 1 || d[0].End != ends[2] || v.Stats().Failed != nil {
		t.Fatalf("damage %v, %v", d, v.Stats().Failed)
	}
	bad = false
	_, err = s.Verify(testHeader.ID, Check{})
	must(t, err)
	v, err = s.Get(testHeader.ID)
	must(t, err)
	for i, p := range messages {
		expect(t, v, uint64(i)+1, fmt.Sprintf("meta %d", i+1), p)
	}
	must(t, s.Close())
}
