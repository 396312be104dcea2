package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
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

// TestSealNotKnownYet: while nobody can say whether the end of a file is a torn tail it is neither cut nor taken for the end, and records that may lie there are not
// denied. Who asks for the volume once that is known gets it so.
func TestSealNotKnownYet(t *testing.T) {
	messages := mails(17, 3000, 5000, 700)
	file, ends := example(t, messages...)
	length := int64(len(file))
	path := testDir + "/" + testHeader.ID.String() + volumeSuffix
	spoilt := bytes.Clone(file)
	spoilt[length-100] ^= 1
	open := func(t *testing.T, content []byte, known *Sealed) (vfs.FS, *Set, *Volume) {
		fs := memFS(t)
		writeFile(t, fs, path, content)
		s, err := OpenSet(fs, testDir, SetOptions{})
		must(t, err)
		s.KnowSealed(func(ID) Sealed { return *known })
		v, err := s.Get(testHeader.ID)
		must(t, err)
		return fs, s, v
	}
	for name, c := range map[string]struct {
		content []byte
		then    Sealed
		durable int64 // then
	}{
		"sealed at its length":     {spoilt, Sealed{Length: length, Last: 3}, length},
		"open":                     {spoilt, Sealed{}, ends[1]},
		"open, with zeros":         {append(bytes.Clone(file), make([]byte, 1<<16)...), Sealed{}, length},
		"sealed at less than that": {spoilt, Sealed{Length: ends[1], Last: 2}, ends[1]},
	} {
		t.Run(name, func(t *testing.T) {
			known := Sealed{Unsure: true}
			fs, s, v := open(t, c.content, &known)
			whole := ends[1]
			if c.durable == length && c.then.Length == 0 {
				whole = length
			}
			if st := v.Stats(); st.Bytes != whole || !st.Unsure || !st.Unreadable || st.Damaged == 0 {
				t.Errorf("%+v", st)
			}
			if err := v.Seal(); !errors.Is(err, ErrFailed) {
				t.Errorf("seal: %v", err)
			}
			if err := v.Truncate(whole); !errors.Is(err, ErrFailed) {
				t.Errorf("truncate: %v", err)
			}
			var corrupt *CorruptError
			if _, err := fetch(v, 4, 0, MaxLength); !errors.As(err, &corrupt) {
				t.Errorf("a record that may be there: %v", err)
			}
			for i, p := range messages[:2] {
				expect(t, v, uint64(i)+1, fmt.Sprintf("meta %d", i+1), p)
			}
			if again, err := s.Get(testHeader.ID); again != v || err != nil {
				t.Errorf("opened anew, %v", err)
			}
			if !bytes.Equal(readFile(t, fs, path), c.content) {
				t.Error("the file was changed")
			}
			known = c.then
			v, err := s.Get(testHeader.ID)
			must(t, err)
			if st := v.Stats(); st.Bytes != c.durable || st.Unsure || st.Failed != nil {
				t.Errorf("then %+v", st)
			}
			must(t, s.Close())
			got := readFile(t, fs, path)
			if want := c.content[:c.durable]; !bytes.HasPrefix(got, want) || !zeros(got[len(want):]) { // memFS cannot cut
				t.Errorf("the file has %d bytes, expected %d", len(bytes.TrimRight(got, "\x00")), len(want))
			}
		})
	}
	t.Run("whole", func(t *testing.T) {
		_, s, v := open(t, file, &Sealed{Unsure: true})
		if st := v.Stats(); st.Bytes != length || st.Unsure || st.Failed != nil || st.Damaged != 0 {
			t.Errorf("%+v", st)
		}
		if _, err := fetch(v, 4, 0, MaxLength); !errors.Is(err, ErrNotFound) {
			t.Errorf("a record that is not there: %v", err)
		}
		must(t, s.Close())
	})
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
