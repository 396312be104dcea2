// Package labtest builds the real program for tests that run it.
package labtest

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// Program is the real program, built once for the tests of a package. The zero value is ready; safe for concurrent use.
type Program struct {
	mu  sync.Mutex // guards dir
	dir string     // "" until it is built
}

// Build is the path of the program, as Build makes it.
func (p *Program) Build(t testing.TB, root string) (bin string) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dir == "" {
		dir, err := os.MkdirTemp("", "hongyan-test-")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(Build(t, root), filepath.Join(dir, "hongyan")); err != nil {
			t.Fatal(err)
		}
		p.dir = dir
	}
	return filepath.Join(p.dir, "hongyan")
}

// Remove removes it, after the last test.
func (p *Program) Remove() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dir == "" {
		return nil
	}
	return os.RemoveAll(p.dir)
}

// Build builds the real program as `make build` does, which shares what it compiles, with further flags if there are any. It looks at every source
// file below root, the repository's folder, by which the go command's test cache learns that the result depends on them.
func Build(t testing.TB, root string, flags ...string) (bin string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".go" {
			_, err = os.Stat(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	bin = filepath.Join(t.TempDir(), "hongyan")
	args := append([]string{"build", "-trimpath", "-buildvcs=false", "-o", bin}, flags...)
	build := exec.Command("go", append(args, "hongyan")...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return bin
}
