package offline

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"hongyan/cluster/command"
	"hongyan/engine/cold"
	"hongyan/engine/keys"
	"hongyan/engine/volume"
)

// dump writes messages as they came.
func (s *session) dump() command.Command {
	to := ""
	return command.Command{
		Name: "dump", Args: "[VOLUME[/RECORD]] DATA…", Summary: "a message as it came, to standard output; or all messages, to files",
		Flags:   "  --out DIR        write each message to DIR/VOLUME-RECORD.eml, also those that no folder has any more\n",
		Example: "hongyan volume dump 1f/12 .hongyan/south-china-1 --master-key .hongyan/master.key\nhongyan volume dump --out /tmp/mail .hongyan/south-china-1 --master-key .hongyan/master.key",
		Define:  func(fs *flag.FlagSet) { fs.StringVar(&to, "out", "", "") },
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			if to != "" {
				return s.dumpAll(ctx, words, to, out)
			}
			if len(words) < 2 {
				return command.Usagef("expected VOLUME/RECORD and data directories, or --out DIR")
			}
			t, err := parseTarget(words[0])
			if err != nil {
				return err
			}
			if t.record == 0 {
				return command.Usagef("expected VOLUME/RECORD, or --out DIR for a whole volume")
			}
			done := false
			return s.find(ctx, t, words[1:], func(o *opened) error {
				if done {
					return nil
				}
				done = true
				return copyRecord(o, t.record, out)
			})
		},
	}
}

// copyRecord writes a record's message.
func copyRecord(o *opened, record uint64, out io.Writer) error {
	info, err := o.Stat(record)
	if err != nil {
		return err
	}
	r, err := o.Open(record, 0, info.Length)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, r)
	return errors.Join(err, r.Close())
}

// dumpAll writes every message of all volumes, or of one, each once.
func (s *session) dumpAll(ctx context.Context, words []string, to string, out io.Writer) error {
	var only target
	if len(words) > 0 {
		if t, err := parseTarget(words[0]); err == nil {
			if _, statErr := os.Stat(words[0]); statErr != nil { // it is no directory
				only, words = t, words[1:]
			}
		}
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return fmt.Errorf("make a folder for the messages: %w", err)
	}
	written, skipped := 0, 0
	copied := make(map[volume.ID]bool)
	err := s.each(ctx, words, func(f found) error {
		id, o := f.id, f.opened
		switch {
		case only.id != 0 && id != only.id, copied[id] && errors.Is(f.err, cold.ErrTooFew):
			return nil
		case errors.Is(f.err, cold.ErrTooFew):
			skipped++
			_, err := fmt.Fprintf(out, "left out: %v\n", f.err)
			return err
		case f.err != nil:
			return f.err
		}
		copied[id] = true
		for n := uint64(1); n <= max(o.Stats().Records, o.Header().Records); n++ {
			if only.record != 0 && n != only.record {
				continue
			}
			made, err := dumpOne(o, n, filepath.Join(to, fmt.Sprintf("%s-%d.eml", id, n)))
			switch {
			case err == nil && made:
				written++
			case err == nil, errors.Is(err, volume.ErrNotFound), errors.Is(err, keys.ErrDestroyed):
			case errors.Is(err, volume.ErrNoKeys), errors.Is(err, errOut):
				return err
			default:
				skipped++
				if _, err := fmt.Fprintf(out, "volume %s record %d: %v\n", id, n, err); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "%d messages written to %s\n", written, to); err != nil {
		return err
	}
	if skipped > 0 {
		return fmt.Errorf("%d messages or volumes cannot be read from these copies", skipped)
	}
	return nil
}

// errOut is wrapped by failures of the folder that messages go to.
var errOut = errors.New("write a message")

// dumpOne writes a message to a file that is not there yet. What is no message is passed over.
func dumpOne(o *opened, n uint64, path string) (made bool, err error) {
	info, err := o.Stat(n)
	if err != nil || info.Kind != volume.KindMessage {
		return false, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		return false, nil // from another copy
	}
	if err != nil {
		return false, fmt.Errorf("%w: %w", errOut, err)
	}
	err = copyRecord(o, n, f)
	if err := errors.Join(err, f.Close()); err != nil {
		return false, errors.Join(err, os.Remove(path))
	}
	return true, nil
}
