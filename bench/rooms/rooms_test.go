// Package rooms holds the tests of the repository's shape: which folders there are, which way imports run, how long a
// file may be. It has no code of its own.
package rooms

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	module   = "hongyan/"
	maxLines = 700
)

// rooms are the layers from the bottom up: a package may import those of its own room and of rooms below that the
// list of its room names.
var rooms = map[string][]string{
	"engine":    {"engine"},
	"cluster":   {"cluster", "engine"},
	"frontends": {"frontends", "cluster"},
	"bench":     {"bench", "cluster", "engine"},
}

// values are the packages of the engine whose types and constants pass through the door, cluster/client, and are named by
// frontends too: what a mailbox and a message consist of. No frontend opens anything of theirs.
var values = []string{"engine/index", "engine/message"}

// order lists the packages inside a room whose imports must only run towards the front of the list. Those that are not
// listed may import, and be imported, freely; the compiler forbids cycles.
var order = [][]string{
	{"engine/codec", "engine/recode", "engine/volume", "engine/index", "engine"},
	{"engine/codec", "engine/message", "engine"},
	{"engine/codec", "engine/keys", "engine/volume"},
	{"engine/atrest", "engine/index"},
	{"engine/codec", "engine/fulltext", "engine"},
	{
		"cluster/wire", "cluster/transport", "cluster/placement", "cluster/shard", "cluster/replica", "cluster/directory", "cluster/mailbox",
		"cluster/checkpoint", "cluster/textsearch", "cluster/client", "cluster/custody", "cluster",
	},
	{"frontends/listen", "frontends/auth", "frontends/smtp"},
	{"frontends/listen", "frontends/auth", "frontends/imap"},
	{"frontends/imap/wire", "frontends/imap/command", "frontends/imap"},
	{"frontends/listen", "frontends/auth", "frontends/pop3"},
}

type listed struct {
	ImportPath string
	Dir        string
	Doc        string
	Imports    []string
	GoFiles    []string
}

// packages asks the go command for all of ours.
func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Dir,Doc,Imports,GoFiles", "./...")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// root is the repository's folder.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestImportsRunDownwards(t *testing.T) {
	for _, p := range packages(t) {
		own, ok := strings.CutPrefix(p.ImportPath, module)
		if !ok {
			continue // the main package, which wires everything
		}
		room, _, _ := strings.Cut(own, "/")
		for _, imp := range p.Imports {
			other, ok := strings.CutPrefix(imp, module)
			if !ok {
				continue
			}
			otherRoom, _, _ := strings.Cut(other, "/")
			named := room == "frontends" && slices.Contains(values, other)
			if !slices.Contains(rooms[room], otherRoom) && !named {
				t.Errorf("%s imports %s: %s may use %v only", own, other, room, rooms[room])
			}
			for _, list := range order {
				i, j := slices.Index(list, own), slices.Index(list, other)
				if i >= 0 && j > i {
					t.Errorf("%s imports %s, which stands above it", own, other)
				}
			}
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

func TestTopLevel(t *testing.T) {
	allowed := []string{"engine", "cluster", "frontends", "bench", "deploy", "docs", "main.go", "go.mod", "go.sum", "Makefile", "README.md", "LICENSE",
		"bin", "hongyan"} // the last two are what builds leave here, and .gitignore names
	entries, err := os.ReadDir(root(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(allowed, e.Name()) {
			t.Errorf("%s does not belong at the top level", e.Name())
		}
	}
}

// TestFilesAreShort reads every file, which also tells the go command's test cache what these tests depend on.
func TestFilesAreShort(t *testing.T) {
	err := filepath.WalkDir(root(t), func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".go":
			return nil
		}
		b, err := os.ReadFile(path)
		if n := strings.Count(string(b), "\n"); n > maxLines {
			t.Errorf("%s has %d lines; at most %d are read in one sitting", path, n, maxLines)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
