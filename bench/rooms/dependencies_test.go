package rooms

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDependenciesAreExplained holds docs/dependencies.md against the direct requirements of go.mod, both ways.
func TestDependenciesAreExplained(t *testing.T) {
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(root(t), name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	var required, explained []string
	for _, m := range regexp.MustCompile(`(?m)^\t(\S+) v\S+$`).FindAllStringSubmatch(read("go.mod"), -1) {
		required = append(required, strings.TrimPrefix(m[1], "github.com/"))
	}
	for _, m := range regexp.MustCompile(`(?m)^\| ([^ |]+/[^ |]+)`).FindAllStringSubmatch(read("docs/dependencies.md"), -1) {
		explained = append(explained, m[1])
	}
	if len(required) == 0 || len(explained) == 0 {
		t.Fatal("nothing found: the files have another form than this test expects")
	}
	for _, m := range required {
		if !slices.Contains(explained, m) {
			t.Errorf("docs/dependencies.md does not explain %s", m)
		}
	}
	for _, m := range explained {
		if !slices.Contains(required, m) {
			t.Errorf("docs/dependencies.md explains %s, which go.mod does not require", m)
		}
	}
}
