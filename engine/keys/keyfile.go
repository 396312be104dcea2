package keys

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"regexp"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/durable"
)

// A file of master keys is text: a first line that says its kind and version, then a line a key, NAME VALUE, the newest last.
// Empty lines and those that begin with # are comments.
const (
	plainHeading   = "hongyan-master-keys 1"  // the value is the key, 64 hexadecimal digits
	wrappedHeading = "hongyan-wrapped-keys 1" // the value is what the command made of it

	maxKeyringFile = 1 << 20
)

var keyName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// line is a key as it stands in a file.
type line struct{ name, value string }

// parseKeyring reads a file of either kind.
func parseKeyring(text []byte, heading string) ([]line, error) {
	var all []line
	seen := make(map[string]bool)
	scan := bufio.NewScanner(bytes.NewReader(text))
	for number := 1; scan.Scan(); number++ {
		s := strings.TrimSpace(scan.Text())
		if number == 1 {
			if s != heading {
				return nil, fmt.Errorf("line 1: expected %q: %w", heading, ErrVersion)
			}
			continue
		}
		if s == "" || s[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(s, " ")
		value = strings.TrimSpace(value)
		switch {
		case !ok || !keyName.MatchString(name) || !printable(value):
			return nil, fmt.Errorf("line %d: expected a name and a key", number) // never the line: it may be a key
		case seen[name]:
			return nil, fmt.Errorf("line %d: expected each name once, got %s again", number, name)
		case len(all) == maxMasterKeys:
			return nil, fmt.Errorf("line %d: expected at most %d keys", number, maxMasterKeys)
		}
		seen[name] = true
		all = append(all, line{name, value})
	}
	if err := scan.Err(); err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, errors.New("expected at least one key")
	}
	return all, nil
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}

// formatKeyring writes what parseKeyring reads.
func formatKeyring(all []line, heading string) []byte {
	b := []byte(heading + "\n")
	for _, l := range all {
		b = fmt.Appendf(b, "%s %s\n", l.name, l.value)
	}
	return b
}

// readKeyringFile reads a file of bounded size that others on the machine cannot read.
func readKeyringFile(fs vfs.FS, path string) ([]byte, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	onDisk := f.Fd() != vfs.InvalidFd // others have no modes
	b, err := io.ReadAll(io.LimitReader(f, maxKeyringFile+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if len(b) > maxKeyringFile {
		return nil, fmt.Errorf("larger than %d bytes", maxKeyringFile)
	}
	if onDisk && info.Mode().Perm()&0o007 != 0 {
		return nil, errors.New("every user of the machine can read or write it: chmod 600")
	}
	return b, nil
}

// plainFile is a source: the operator's file.
type plainFile struct {
	fs   vfs.FS
	path string
}

// OpenKeyFile takes the master keys from a file. It is not made here: a wrong path must not look like a first start.
func OpenKeyFile(fs vfs.FS, path string) (*Keyring, error) {
	return openKeyring(context.Background(), plainFile{fs, path})
}

// CreateKeyFile makes a file with one new key, if there is none.
func CreateKeyFile(fs vfs.FS, path string) error {
	if _, err := fs.Stat(path); err == nil {
		return nil
	} else if !errors.Is(err, iofs.ErrNotExist) {
		return fmt.Errorf("look for the master key file: %w", err)
	}
	key, err := generateMasterKey(time.Now())
	if err != nil {
		return err
	}
	return plainFile{fs, path}.add(context.Background(), nil, key)
}

func (p plainFile) lock() (io.Closer, error) { return lockKeyring(p.fs, p.path) }

// lockKeyring takes the lock beside a file of keys, which several nodes of one machine may share.
func lockKeyring(fs vfs.FS, path string) (io.Closer, error) {
	lock, err := fs.Lock(path + ".lock")
	if err != nil {
		return nil, fmt.Errorf("lock the master keys (perhaps another node rotates them now: try again): %w", err)
	}
	return lock, nil
}

func (p plainFile) load(context.Context) ([]*masterKey, error) {
	text, err := readKeyringFile(p.fs, p.path)
	if err != nil {
		return nil, fmt.Errorf("read the master key file %s: %w", p.path, err)
	}
	lines, err := parseKeyring(text, plainHeading)
	if err != nil {
		return nil, fmt.Errorf("master key file %s: %w", p.path, err)
	}
	all := make([]*masterKey, len(lines))
	for i, l := range lines {
		key, err := hex.DecodeString(l.value)
		if err != nil {
			return nil, fmt.Errorf("master key file %s: key %s: expected 64 hexadecimal digits", p.path, l.name)
		}
		if all[i], err = newMasterKey(l.name, key); err != nil {
			return nil, fmt.Errorf("master key file %s: %w", p.path, err)
		}
	}
	return all, nil
}

func (p plainFile) add(_ context.Context, _ []*masterKey, fresh *masterKey) error {
	text, err := readKeyringFile(p.fs, p.path)
	if errors.Is(err, iofs.ErrNotExist) {
		text, err = []byte(plainHeading), nil
	}
	if err != nil {
		return fmt.Errorf("read the master key file %s: %w", p.path, err)
	}
	text = bytes.TrimRight(text, "\n") // the operator's comments stay
	text = fmt.Appendf(text, "\n%s %s\n", fresh.id, hex.EncodeToString(fresh.key[:]))
	if err := durable.Replace(p.fs, p.path, text, diskCategory); err != nil {
		return fmt.Errorf("write the master key file: %w", err)
	}
	return nil
}
