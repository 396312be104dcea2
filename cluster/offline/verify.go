package offline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"

	"hongyan/cluster/command"
	"hongyan/engine/cold"
	"hongyan/engine/keys"
	"hongyan/engine/volume"
)

// verifyLine is how one copy was found.
type verifyLine struct {
	Volume   string           `json:"volume"`
	Dir      string           `json:"dir"`
	Records  uint64           `json:"records"`
	Damaged  uint64           `json:"damaged"`
	Erased   uint64           `json:"erased,omitempty"`
	Digest   string           `json:"digest,omitempty"` // SHA-256 of the file; copies agree
	Findings []volume.Finding `json:"findings,omitempty"`
	Contents []string         `json:"contents,omitempty"` // what is wrong with messages
	// Fragments is what is wrong with the fragments of a cold volume. The records may still be whole.
	Fragments []string `json:"fragments,omitempty"`
	Error     string   `json:"error,omitempty"`
	bad       bool
}

// verify reads every byte of every copy.
func (s *session) verify() command.Command {
	contents := false
	return command.Command{
		Name: "verify", Args: "DATA…", Summary: "read every byte of every volume and check it; exit status 1 if something is damaged",
		Flags:   "  --contents       decrypt and decompress every message too, and compare it with its hash\n",
		Example: "hongyan volume verify .hongyan/*-1\nhongyan volume verify --contents --master-key .hongyan/master.key .hongyan/south-china-1",
		Define:  func(fs *flag.FlagSet) { fs.BoolVar(&contents, "contents", false, "") },
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			var lines []verifyLine
			bad := 0
			err := s.each(ctx, words, func(f found) error {
				line := verifyLine{Volume: f.id.String(), Dir: f.where}
				if line.all(ctx, f, contents); line.bad {
					bad++
				}
				lines = append(lines, line)
				return nil
			})
			if err == nil && s.asJSON {
				err = command.PrintJSON(out, lines)
			} else if err == nil {
				err = printVerified(out, lines)
			}
			if err == nil && bad > 0 {
				err = fmt.Errorf("%d of %d copies are damaged; running nodes mend them from other copies or fragments", bad, len(lines))
			}
			return err
		},
	}
}

// all checks a copy; of a cold volume its fragments and, if there are enough of them, what they give. That there are not is no damage.
func (l *verifyLine) all(ctx context.Context, f found, contents bool) {
	err := f.err
	if err == nil {
		err = l.check(f.opened, contents)
	}
	few := errors.Is(err, cold.ErrTooFew)
	if f.cold != nil {
		wrong, verifyErr := f.cold.Verify(ctx)
		for _, w := range wrong {
			l.Fragments = append(l.Fragments, w.Error())
		}
		if verifyErr != nil {
			err, few = errors.Join(err, verifyErr), false
		}
	}
	if err != nil {
		l.Error = err.Error()
	}
	l.bad = err != nil && !few || l.Damaged > 0 || len(l.Contents) > 0 || len(l.Fragments) > 0
}

func (l *verifyLine) check(o *opened, contents bool) error {
	c, err := o.Verify(volume.Check{})
	if err != nil {
		return err
	}
	l.Records, l.Damaged, l.Findings = c.Records, c.Damaged, c.Findings
	if c.Damaged == 0 {
		l.Digest = hex.EncodeToString(c.Digest[:])
	}
	h := o.Header()
	for n := uint64(1); contents && n <= max(o.Stats().Records, h.Records); n++ {
		err := checkContent(o, n)
		switch {
		case errors.Is(err, keys.ErrDestroyed):
			l.Erased++
		case errors.Is(err, volume.ErrNotFound):
		case errors.Is(err, volume.ErrNoKeys):
			return err
		case err != nil:
			l.Contents = append(l.Contents, fmt.Sprintf("record %d: %v", n, err))
		}
	}
	return nil
}

// checkContent reads a message. An encrypted one is authenticated by its chunks' tags.
func checkContent(o *opened, n uint64) error {
	info, err := o.Get(n)
	if err != nil {
		return err
	}
	r, err := o.Open(n, 0, info.Length)
	if err != nil {
		return err
	}
	sum := sha256.New()
	length, err := io.Copy(sum, r)
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	if uint64(length) != info.Length || !info.Sealed && hex.EncodeToString(sum.Sum(nil)) != hex.EncodeToString(info.Hash[:]) {
		return errors.New("its content is not what its hash says")
	}
	return nil
}

func printVerified(out io.Writer, lines []verifyLine) error {
	var rows [][]string
	for _, l := range lines {
		state := "whole " + l.Digest[:min(16, len(l.Digest))]
		if l.Damaged > 0 {
			state = fmt.Sprintf("%d damaged", l.Damaged)
		}
		if l.Error != "" {
			state = l.Error
		}
		rows = append(rows, []string{l.Volume, fmt.Sprint(l.Records), l.Dir, state})
		for _, f := range l.Findings {
			rows = append(rows, []string{"", fmt.Sprintf("record %d", f.Record), fmt.Sprintf("bytes %d to %d", f.Start, f.End), f.Reason})
		}
		for _, f := range l.Fragments {
			rows = append(rows, []string{"", "", "fragment", f})
		}
		for _, c := range l.Contents {
			rows = append(rows, []string{"", "", "content", c})
		}
	}
	return command.Table(out, "VOLUME RECORDS DIRECTORY STATE", rows)
}
