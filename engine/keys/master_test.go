package keys

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/durable"
)

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	if _, err := OpenKeyFile(vfs.Default, path); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("no file: %v", err)
	}
	must(t, CreateKeyFile(vfs.Default, path))
	k, err := OpenKeyFile(vfs.Default, path)
	must(t, err)
	first := k.ID()
	must(t, CreateKeyFile(vfs.Default, path)) // it is there
	must(t, k.Reload(t.Context()))
	if k.ID() != first {
		t.Fatal("the file was made anew")
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	must(t, os.Chmod(path, 0o644))
	if _, err := OpenKeyFile(vfs.Default, path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Fatalf("a file for everybody: %v", err)
	}
}

func TestRotateKeyFile(t *testing.T) {
	fs := memFS(t)
	text := plainHeading + "\n# of the safe in room 7\nfirst " + strings.Repeat("ab", 32) + "\n"
	must(t, durable.Replace(fs, testPath, []byte(text), diskCategory))
	k, err := OpenKeyFile(fs, testPath)
	must(t, err)
	id, wrapped, err := k.Wrap(t.Context(), []byte("a key"), nil)
	must(t, err)
	must(t, k.Rotate(t.Context()))
	if ids := k.IDs(); len(ids) != 2 || ids[0] != "first" || k.ID() != ids[1] {
		t.Fatalf("keys %v, newest %s", ids, k.ID())
	}
	if key, err := k.Unwrap(t.Context(), id, wrapped, nil); err != nil || string(key) != "a key" {
		t.Fatalf("the old key is of no use any more: %v", err)
	}
	now, err := vfsRead(fs, testPath)
	must(t, err)
	if !strings.HasPrefix(string(now), text) {
		t.Fatalf("the operator's text is gone:\n%s", now)
	}
	// Another node that shares the file takes the key that is there now, and adds none.
	other, err := OpenKeyFile(fs, testPath)
	must(t, err)
	must(t, k.Rotate(t.Context()))
	must(t, other.Rotate(t.Context()))
	if other.ID() != k.ID() || len(other.IDs()) != 3 {
		t.Fatalf("two nodes have %v and %v", k.IDs(), other.IDs())
	}
	lock, err := fs.Lock(testPath + ".lock")
	must(t, err)
	if k.Rotate(t.Context()) == nil {
		t.Fatal("rotated while another did")
	}
	must(t, lock.Close())
	// A file that became bad leaves the keys as they are.
	must(t, durable.Replace(fs, testPath, []byte(plainHeading+"\n"), diskCategory))
	if k.Reload(t.Context()) == nil || len(k.IDs()) != 3 {
		t.Fatal("took a file without keys")
	}
}

func TestKeyFileRefused(t *testing.T) {
	key := strings.Repeat("0c", 32)
	for name, text := range map[string]string{
		"empty":          "",
		"no heading":     "k " + key,
		"newer":          "hongyan-master-keys 2\nk " + key,
		"no key":         plainHeading + "\n# none\n",
		"short key":      plainHeading + "\nk " + key[2:],
		"no digits":      plainHeading + "\nk " + strings.Repeat("zz", 32),
		"bad name":       plainHeading + "\nk! " + key,
		"name twice":     plainHeading + "\nk " + key + "\nk " + key,
		"three words":    plainHeading + "\nk " + key + " " + key,
		"too many":       plainHeading + strings.Repeat("\nk "+key, maxMasterKeys+1),
		"too large":      plainHeading + "\n" + strings.Repeat("#", maxKeyringFile),
		"wrapped, plain": wrappedHeading + "\nk " + key,
	} {
		fs := memFS(t)
		must(t, durable.Replace(fs, testPath, []byte(text), diskCategory))
		if _, err := OpenKeyFile(fs, testPath); err == nil {
			t.Errorf("%s: taken", name)
		} else if strings.Contains(err.Error(), key[:16]) {
			t.Errorf("%s: the error tells a key: %v", name, err)
		}
	}
}

// script writes a command that stands for a key service.
func script(t *testing.T, body string) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kms")
	must(t, os.WriteFile(path, []byte("#!/bin/sh\n"+body), 0o700))
	return []string{"/bin/sh", path, "zone"}
}

const goodService = `case "$2" in
wrap) printf 'vault:v1:%s\n' "$(tr A-Za-z N-ZA-Mn-za-m)";;
unwrap) sed 's/^vault:v1://' | tr A-Za-z N-ZA-Mn-za-m;;
esac
`

func TestKeyCommand(t *testing.T) {
	fs, argv := memFS(t), script(t, goodService)
	k, err := OpenKeyCommand(t.Context(), fs, testPath, argv)
	must(t, err)
	id, wrapped, err := k.Wrap(t.Context(), []byte("a key"), nil)
	must(t, err)
	must(t, k.Rotate(t.Context()))
	k, err = OpenKeyCommand(t.Context(), fs, testPath, argv)
	must(t, err)
	if key, err := k.Unwrap(t.Context(), id, wrapped, nil); err != nil || string(key) != "a key" || len(k.IDs()) != 2 {
		t.Fatalf("unwrapped %q with %v: %v", key, k.IDs(), err)
	}
}

func TestKeyCommandFails(t *testing.T) {
	for name, body := range map[string]string{
		"refuses":         "echo no such key >&2\nexit 3\n",
		"says nothing":    "cat >/dev/null\n",
		"says too much":   "cat >/dev/null\nhead -c 100000 /dev/zero | tr '\\0' x\n",
		"forgets the key": "cat >/dev/null\nif [ \"$2\" = wrap ]; then echo x; else echo AAAA; fi\n",
	} {
		fs := memFS(t)
		if _, err := OpenKeyCommand(t.Context(), fs, testPath, script(t, body)); err == nil {
			t.Errorf("%s: taken", name)
		} else if name == "refuses" && !strings.Contains(err.Error(), "no such key") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := fs.Stat(testPath); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the file was made: %v", name, err)
		}
	}
	if _, err := OpenKeyCommand(t.Context(), memFS(t), testPath, nil); err == nil {
		t.Error("no command: taken")
	}
}
