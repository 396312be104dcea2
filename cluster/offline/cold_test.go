package offline

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/cold"
	"hongyan/engine/keys"
	"hongyan/engine/volume"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const letter = "From: goose\r\n\r\na letter from far away\r\n"

// frozen makes three data directories with two fragments each of an encrypted volume with one message, and no copy of it.
func frozen(t *testing.T) (dirs []string, master string) {
	t.Helper()
	fs, root, ctx := vfs.Default, t.TempDir(), t.Context()
	master = filepath.Join(root, "master.key")
	must(t, keys.CreateKeyFile(fs, master))
	ring, err := keys.OpenKeyFile(fs, master)
	must(t, err)
	at := filepath.Join(root, "whole")
	set, err := volume.OpenSet(fs, at, volume.SetOptions{Master: ring})
	must(t, err)
	v, err := set.Create(volume.Header{ID: 0x1f, Epoch: 1, Primary: "n1", Copies: []string{"n1", "n2"}, Salt: 1}, set.NewSeed(volume.ClassSmall, volume.MaxRecords), nil)
	must(t, err)
	spool := volume.NewSpool(fs, root, 1<<20)
	_, err = spool.Write([]byte(letter))
	must(t, err)
	blob, err := spool.Finish()
	must(t, err)
	_, _, err = v.Append(ctx, volume.KindMessage, []byte{0xa0}, blob)
	must(t, err)
	must(t, blob.Close())
	index, err := set.IndexFile(0x1f)
	must(t, err)
	secret, err := set.Secret(0x1f)
	must(t, err)
	file, err := fs.Open(filepath.Join(at, v.Header().ID.String()+".vol"))
	must(t, err)
	l := cold.Layout{Volume: 0x1f, Seed: v.Seed(), Length: v.Durable(), Data: 4, Parity: 2}
	targets, drafts := make([]cold.Target, 6), make([]*cold.Draft, 6)
	for i := range 3 {
		dir := filepath.Join(root, string(rune('a'+i)))
		dirs = append(dirs, dir)
		node, err := volume.OpenSet(fs, filepath.Join(dir, "volumes"), volume.SetOptions{})
		must(t, err)
		must(t, node.Close())
		s, err := cold.OpenStore(fs, filepath.Join(dir, "cold"), ring)
		must(t, err)
		must(t, s.Attach(0x1f, 0, index, secret))
		for j := i; j < 6; j += 3 {
			drafts[j], err = s.Make(ctx, l, j)
			must(t, err)
			targets[j].Sink = drafts[j]
		}
	}
	must(t, cold.Encode(ctx, file, l, targets, nil))
	for _, d := range drafts {
		must(t, d.Finish(ctx))
		must(t, d.Close())
	}
	must(t, file.Close())
	must(t, set.Close())
	return dirs, master
}

// TestFragments reads a volume through any two of three nodes' fragments, and says so when there are too few, or damaged ones.
func TestFragments(t *testing.T) {
	dirs, master := frozen(t)
	run := func(args ...string) (string, error) {
		var out bytes.Buffer
		err := Run(context.Background(), args, &out)
		return out.String(), err
	}
	for lost := range dirs {
		var two []string
		for i, dir := range dirs {
			if i != lost {
				two = append(two, dir)
			}
		}
		out, err := run(append([]string{"dump", "--master-key", master, "1f/1"}, two...)...)
		if err != nil || out != letter {
			t.Errorf("without %d: %q, %v", lost, out, err)
		}
		for _, command := range []string{"list", "verify"} {
			out, err := run(append([]string{command}, two...)...)
			if err != nil || !strings.Contains(out, "of 4+2") || !strings.Contains(out, "whole") {
				t.Errorf("%s: %q, %v", command, out, err)
			}
		}
	}
	if out, err := run("verify", dirs[0]); err != nil || !strings.Contains(out, "4 are needed") {
		t.Errorf("too few are no damage: %q, %v", out, err)
	}
	path := filepath.Join(dirs[0], "cold", volume.ID(0x1f).String()+"-0-00.frag")
	b, err := os.ReadFile(path)
	must(t, err)
	b[len(b)-1] ^= 1
	must(t, os.WriteFile(path, b, 0o600))
	args := append([]string{"verify", "--contents", "--master-key", master}, dirs...)
	if out, err := run(args...); err == nil || !strings.Contains(out, "fragment 0") || !strings.Contains(out, "whole") {
		t.Errorf("a damaged fragment: %q, %v", out, err)
	}
}
