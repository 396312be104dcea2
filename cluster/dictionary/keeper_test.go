package dictionary

import (
	"context"
	"log/slog"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/bench/mail"
	"hongyan/cluster/directory"
	"hongyan/cluster/mailbox"
	"hongyan/engine/codec"
	"hongyan/engine/volume"
)

// shelf is a directory's table of dictionaries.
type shelf struct{ list []directory.Dictionary }

func (s *shelf) Dictionaries(_ context.Context, after uint32) ([]directory.Dictionary, error) {
	return s.list[min(int(after), len(s.list)):], nil
}

func (s *shelf) AddDictionary(_ context.Context, d directory.Dictionary) error {
	s.list = append(s.list, d)
	return nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// store appends n messages to a new volume, compressed with d, and says how many bytes the smaller ones take.
func store(t testing.TB, set *volume.Set, id volume.ID, g *mail.Generator, n int, d *volume.Dictionary) (raw, stored uint64) {
	v, err := set.Create(volume.Header{ID: id}, nil, nil)
	must(t, err)
	for n > 0 {
		m := g.Next()
		if len(m.Bytes) > 16<<10 {
			continue
		}
		n--
		s := volume.NewSpool(vfs.NewMem(), "", 1<<20)
		s.Use(d)
		_, err := s.Write(m.Bytes)
		must(t, err)
		b, err := s.Finish()
		must(t, err)
		var o mailbox.Origin
		for _, to := range m.To {
			o.Targets = append(o.Targets, mailbox.Target{Account: uint64(to) + 1, Mailbox: "INBOX"})
		}
		meta, err := codec.Marshal(&o)
		must(t, err)
		_, _, err = v.Append(t.Context(), volume.KindMessage, meta, b)
		must(t, err)
		raw, stored = raw+b.Length(), stored+b.StoredLength()
		must(t, b.Close())
	}
	return raw, stored
}

// TestKeeper trains on a store's mail, enters what it made, learns it, and compresses later mail with it.
func TestKeeper(t *testing.T) {
	set, err := volume.OpenSet(vfs.NewMem(), "volumes", volume.SetOptions{})
	must(t, err)
	defer set.Close()
	g := mail.New(5)
	table := &shelf{}
	k := New(Config{Directory: table, Volumes: set, Log: slog.New(slog.DiscardHandler)})
	step := func() {
		t.Helper()
		must(t, k.learn(t.Context()))
		k.look(t.Context())
		must(t, k.learn(t.Context()))
	}
	step()
	if len(table.list) != 0 || k.Newest() != nil {
		t.Fatal("trained on nothing")
	}
	raw, before := store(t, set, 1, g, 330, nil)
	step()
	if len(table.list) != 1 || k.Newest() == nil || k.Get(directory.DictionaryID(1)) != k.Newest() || k.Get(1) != nil {
		t.Fatalf("%d dictionaries entered, newest %v", len(table.list), k.Newest())
	}
	later, after := store(t, set, 2, g, 60, k.Newest())
	was, is := float64(before)/float64(raw), float64(after)/float64(later)
	t.Logf("messages of up to 16 KiB are stored in %.3f of their bytes, before %.3f; the dictionary has %d bytes", is, was, len(k.Newest().Bytes()))
	if is > 0.9*was {
		t.Error("the dictionary is of little use")
	}
	step()
	if len(table.list) != 1 {
		t.Error("trained again although the newest is young")
	}
}
