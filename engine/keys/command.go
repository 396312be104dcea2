package keys

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/durable"
)

const (
	maxCommandOutput = 4096
	maxCommandError  = 512
	// commandKill is how long a command that was told to end may keep its output open.
	commandKill = time.Second
)

// commandFile is a source: keys in a file, each wrapped by a command that asks a key service. The service is asked when the
// node starts and when keys are rotated, and not for each volume, so that a store of many volumes opens without it.
type commandFile struct {
	fs   vfs.FS
	path string
	argv []string
}

// OpenKeyCommand takes the master keys from the file at path, which holds them as the command wrapped them; it makes the file
// with one new key if there is none.
//
// The command is run as `ARGV… wrap` with a key in base64 as its input, and says on one line of its output what it makes of it;
// run as `ARGV… unwrap` with that line as its input it gives the key back. An exit status other than 0 is a failure.
func OpenKeyCommand(ctx context.Context, fs vfs.FS, path string, argv []string) (*Keyring, error) {
	if len(argv) == 0 {
		return nil, errors.New("open the wrapped master keys: no command")
	}
	c := commandFile{fs, path, argv}
	if _, err := fs.Stat(path); errors.Is(err, iofs.ErrNotExist) {
		key, err := generateMasterKey(time.Now())
		if err != nil {
			return nil, err
		}
		if err := c.add(ctx, nil, key); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, fmt.Errorf("look for the wrapped master keys: %w", err)
	}
	return openKeyring(ctx, c)
}

func (c commandFile) lock() (io.Closer, error) { return lockKeyring(c.fs, c.path) }

func (c commandFile) load(ctx context.Context) ([]*masterKey, error) {
	text, err := readKeyringFile(c.fs, c.path)
	if err != nil {
		return nil, fmt.Errorf("read the wrapped master keys %s: %w", c.path, err)
	}
	lines, err := parseKeyring(text, wrappedHeading)
	if err != nil {
		return nil, fmt.Errorf("wrapped master keys %s: %w", c.path, err)
	}
	all := make([]*masterKey, len(lines))
	for i, l := range lines {
		out, err := c.run(ctx, "unwrap", l.value)
		if err != nil {
			return nil, fmt.Errorf("unwrap master key %s of %s: %w", l.name, c.path, err)
		}
		key, err := base64.StdEncoding.DecodeString(out)
		if err != nil {
			return nil, fmt.Errorf("unwrap master key %s of %s: the command's output is not base64", l.name, c.path)
		}
		if all[i], err = newMasterKey(l.name, key); err != nil {
			return nil, fmt.Errorf("unwrap master keys of %s: %w", c.path, err)
		}
	}
	return all, nil
}

// add wraps the old keys anew as well, so that a rotation also follows one of the key service's own key. What the command makes
// of a key is tried before it replaces anything.
func (c commandFile) add(ctx context.Context, old []*masterKey, fresh *masterKey) error {
	var lines []line
	for _, m := range append(slices.Clone(old), fresh) {
		key := base64.StdEncoding.EncodeToString(m.key[:])
		wrapped, err := c.run(ctx, "wrap", key)
		if err != nil {
			return fmt.Errorf("wrap master key %s: %w", m.id, err)
		}
		if !printable(wrapped) {
			return fmt.Errorf("wrap master key %s: the command's output is not one line of printable characters", m.id)
		}
		back, err := c.run(ctx, "unwrap", wrapped)
		if err != nil {
			return fmt.Errorf("unwrap master key %s for a trial: %w", m.id, err)
		}
		if back != key {
			return fmt.Errorf("the command gives back another master key than it was given for %s: %w", m.id, ErrWrongKey)
		}
		lines = append(lines, line{m.id, wrapped})
	}
	if err := durable.Replace(c.fs, c.path, formatKeyring(lines, wrappedHeading), diskCategory); err != nil {
		return fmt.Errorf("write the wrapped master keys: %w", err)
	}
	return nil
}

// run asks the command once. Its output is never part of an error: it may be a key.
func (c commandFile) run(ctx context.Context, verb, input string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	out, complaint := limited{max: maxCommandOutput}, limited{max: maxCommandError}
	cmd := exec.CommandContext(ctx, c.argv[0], append(slices.Clone(c.argv[1:]), verb)...)
	cmd.Stdin = strings.NewReader(input + "\n")
	cmd.Stdout, cmd.Stderr = &out, &complaint
	cmd.WaitDelay = commandKill
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = errors.Join(err, ctx.Err())
		}
		return "", fmt.Errorf("%s %s: %w: %s", c.argv[0], verb, err, strings.TrimSpace(complaint.b.String()))
	}
	if out.over {
		return "", fmt.Errorf("%s %s: more than %d bytes of output", c.argv[0], verb, maxCommandOutput)
	}
	return strings.TrimSpace(out.b.String()), nil
}

// limited keeps the first bytes written to it.
type limited struct {
	b    bytes.Buffer
	max  int
	over bool
}

// Write implements io.Writer.
func (l *limited) Write(p []byte) (int, error) {
	keep := min(len(p), l.max-l.b.Len())
	l.over = l.over || keep < len(p)
	l.b.Write(p[:keep])
	return len(p), nil
}
