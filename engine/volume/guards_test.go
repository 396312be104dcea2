package volume

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// openedByChild makes the test binary open a directory of volumes, as another process.
const openedByChild = "HONGYAN_TEST_OPEN_VOLUMES"

// TestTwoProcesses: the second process on a directory is refused, and may have it when the first is gone.
func TestTwoProcesses(t *testing.T) {
	if dir := os.Getenv(openedByChild); dir != "" {
		s, err := OpenSet(vfs.Default, dir, SetOptions{})
		if err != nil {
			t.Fatalf("refused: %v", err)
		}
		must(t, s.Close())
		return
	}
	dir := t.TempDir()
	child := func() (string, error) {
		cmd := exec.Command(os.Args[0], "-test.run=^TestTwoProcesses$")
		cmd.Env = append(os.Environ(), openedByChild+"="+dir)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	s, err := OpenSet(vfs.Default, dir, SetOptions{})
	must(t, err)
	if out, err := child(); err == nil || !strings.Contains(out, "refused: open volumes in "+dir+": lock") {
		t.Fatalf("a second process opened the directory: %v\n%s", err, out)
	}
	must(t, s.Close())
	if out, err := child(); err != nil {
		t.Fatalf("the directory is free: %v\n%s", err, out)
	}
}

// TestNewerVolumeIsLeftAlone: a file of a newer program is refused by name of its version, and not touched.
func TestNewerVolumeIsLeftAlone(t *testing.T) {
	file, _ := example(t, []byte("x"))
	file[8] = 9
	fs := memFS(t)
	path := testDir + "/" + testHeader.ID.String() + volumeSuffix
	writeFile(t, fs, path, append(file, "more than this version would keep"...))
	s := newSet(t, fs)
	defer s.Close()
	for _, get := range []func(ID) (*Volume, error){s.Get, s.Reopen} {
		_, err := get(testHeader.ID)
		if !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), "version 9, this program reads 1") || !strings.Contains(err.Error(), path) {
			t.Fatalf("open: %v", err)
		}
	}
	if _, err := s.Create(testHeader, nil, nil); !errors.Is(err, ErrExists) {
		t.Fatalf("create over it: %v", err)
	}
	if got := readFile(t, fs, path); !bytes.HasPrefix(got, file) || len(got) == len(file) {
		t.Fatal("the file was changed")
	}
}

// TestReadsFailWhileOpening: whichever reads fail for once while a volume is opened, nothing in it is given up: opened again, it has
// all its records.
func TestReadsFailWhileOpening(t *testing.T) {
	messages := mails(12, 5000, 6000, 9000, 1000, 100, 10)
	file, _ := example(t, messages...)
	for seed := range seeds(t, 1000) {
		rng := rand.New(rand.NewPCG(uint64(seed), 12))
		mem := memFS(t)
		writeFile(t, mem, testDir+"/a", file)
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == errorfs.OpFileReadAt && op.Offset > 0 && rng.IntN(3) == 0 {
				return errorfs.ErrInjected
			}
			return nil
		}))
		v, err := Open(fs, testDir+"/a", Options{})
		must(t, err)
		must(t, v.Close())
		v, err = Open(mem, testDir+"/a", Options{})
		must(t, err)
		if st := v.Stats(); st.Records != 6 || st.Damaged != 0 {
			t.Fatalf("seed %d: %+v", seed, st)
		}
		must(t, v.Close())
	}
}
