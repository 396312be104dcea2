package fulltext

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/effort"
)

// TestCorpus indexes mail that people and programs really wrote, much of it broken, and looks for random pieces of what it says.
func TestCorpus(t *testing.T) {
	archive, err := filepath.Abs("../../../shared/corpus.tar.xz")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(archive); err != nil {
		t.Skipf("needs the corpus of test messages: %v", err)
	}
	if _, err := exec.LookPath("xz"); err != nil {
		t.Skip("needs the xz program to unpack the corpus of test messages")
	}
	dir := t.TempDir()
	if out, err := exec.Command("tar", "-xJf", archive, "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("unpack %s: %v: %s", archive, err, out)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.eml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d messages in %s, %v", len(files), archive, err)
	}
	db := openIn(t, vfs.NewMem())
	b := NewBatch(box, validity, 0)
	all := make([][][]byte, len(files)+1) // by UID
	for i, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts, err := said(raw)
		if err != nil {
			t.Fatal(err)
		}
		b.Begin(uint32(i) + 1)
		for _, s := range texts {
			if b.Text(s) {
				break
			}
			all[i+1] = append(all[i+1], bytes.ToLower(s))
		}
		if b.Len() == 100 || i == len(files)-1 {
			if err := db.Commit(b, uint32(i)+1); err != nil {
				t.Fatal(err)
			}
			b = NewBatch(box, validity, uint32(i)+1)
		}
	}
	db.tend(t, upTo(uint32(len(files))))
	rng := rand.New(rand.NewPCG(9, 9))
	candidates, real := uint64(0), 0
	for range effort.Of(20, 100, 3000) {
		from := all[1+rng.IntN(len(files))]
		if len(from) == 0 {
			continue
		}
		needle := partOf(rng, string(from[rng.IntN(len(from))]), 1+rng.IntN(20))
		a := db.find(t, needle)
		candidates += a.UIDs.GetCardinality()
		for uid := 1; uid <= len(files); uid++ {
			for _, s := range all[uid] {
				if bytes.Contains(s, bytes.ToLower([]byte(needle))) {
					real++
					if !a.UIDs.Contains(uint32(uid)) {
						t.Errorf("%q is in %s and not found", needle, files[uid-1])
					}
					break
				}
			}
		}
	}
	t.Logf("%d candidates, of which %d were right", candidates, real)
}
