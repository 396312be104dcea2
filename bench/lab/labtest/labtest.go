// Package labtest builds the real program for tests that run it.
package labtest

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

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
