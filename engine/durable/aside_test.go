package durable

import (
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestSetAside keeps what was damaged last, and only that.
func TestSetAside(t *testing.T) {
	fs := vfs.NewMem()
	if err := fs.MkdirAll("/node/index.damaged-before", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := fs.MkdirAll("/node/index/pebble", 0o700); err != nil {
		t.Fatal(err)
	}
	to, err := SetAside(fs, "/node/index")
	if err != nil || !strings.HasPrefix(to, "/node/index.damaged-2") {
		t.Errorf("%q, %v", to, err)
	}
	names, err := fs.List("/node")
	if err != nil || len(names) != 1 || "/node/"+names[0] != to {
		t.Errorf("%q, %v", names, err)
	}
}
