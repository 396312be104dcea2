package recovery

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/cluster/directory"
	"hongyan/cluster/mailbox"
	"hongyan/cluster/replica"
	"hongyan/engine/codec"
	"hongyan/engine/keys"
	"hongyan/engine/volume"
)

// looker is a node with some volumes of account 5's mail: of each its number and when the messages in it arrived. A volume without any is a file that is none.
func looker(t *testing.T, volumes map[volume.ID][]int64) *Recovery {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	fs := vfs.NewMem()
	must(fs.MkdirAll("volumes", 0o700))
	for id, arrived := range volumes {
		if len(arrived) == 0 {
			f, err := fs.Create("volumes/"+id.String()+".vol", vfs.WriteCategoryUnspecified)
			must(err)
			_, err = f.Write(make([]byte, 8192))
			must(err)
			must(f.Close())
		}
	}
	set, err := volume.OpenSet(fs, "volumes", volume.SetOptions{})
	must(err)
	t.Cleanup(func() { must(set.Close()) })
	for id, arrived := range volumes {
		if len(arrived) == 0 {
			continue
		}
		v, err := set.Create(volume.Header{ID: id}, nil, nil)
		must(err)
		for _, at := range arrived {
			appendMail(t, fs, v, at)
		}
	}
	unknown := func(volume.ID) (replica.Entry, bool) { return replica.Entry{}, false }
	return &Recovery{cfg: Config{Self: "a", Volumes: set, Entry: unknown, Log: slog.New(slog.DiscardHandler)}}
}

// appendMail adds a message to account 5 that arrived then.
func appendMail(t *testing.T, fs vfs.FS, v *volume.Volume, arrived int64) {
	t.Helper()
	meta, err := codec.Marshal(&mailbox.Origin{Targets: []mailbox.Target{{Account: 5, Mailbox: mailbox.Inbox}}, Arrived: arrived})
	s := volume.NewSpool(fs, "", 1<<10)
	_, failed := s.Write([]byte("Subject: x\r\n\r\n"))
	b, unfinished := s.Finish()
	if err = errors.Join(err, failed, unfinished); err == nil {
		_, _, err = v.Append(t.Context(), volume.KindMessage, meta, b)
	}
	if err = errors.Join(err, b.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestLookThrough finds what arrived in the time that is looked for, in front of a message that arrived long before and was put here again.
func TestLookThrough(t *testing.T) {
	const since, long = 1_700_000_000, 100 * 24 * 3600
	r := looker(t, map[volume.ID][]int64{1: {since - 5, since, since + 50, since - long, since + 60, since + 101}})
	v, err := r.cfg.Volumes.Get(1)
	if err != nil {
		t.Fatal(err)
	}
	var found []uint64
	resp := new(mailResponse)
	err = r.lookThrough(t.Context(), v, directory.RecoveryNote{Since: since, Until: since + 100}, map[uint64]bool{5: true}, resp, func(c *candidate) error {
		found = append(found, c.at.Record)
		return nil
	})
	if err != nil || !slices.Equal(found, []uint64{5, 3, 2}) || resp.Unread != 0 {
		t.Errorf("found records %v, %+v, %v", found, resp, err)
	}
}

// TestUnopened names the volumes of which nobody can say what they have.
func TestUnopened(t *testing.T) {
	r := looker(t, map[volume.ID][]int64{1: {100}, 7: nil})
	mail, err := r.serveMail(t.Context(), "b", &mailRequest{Note: directory.RecoveryNote{Since: 1000, Until: 2000}})
	if err != nil || !slices.Equal(mail.Unopened, []volume.ID{7}) || mail.Unread != 0 {
		t.Errorf("mail: %+v, %v", mail, err)
	}
	volumes, err := r.serveFound(context.Background(), "b", nil)
	if err != nil || !slices.Equal(volumes.Unopened, []volume.ID{7}) || len(volumes.Found) != 1 {
		t.Errorf("volumes: %+v, %v", volumes, err)
	}
	if note := unopened("a", mail.Unopened); note != "1 volumes at a could not be opened, among them [0000000000000007]. " {
		t.Errorf("%q", note)
	}
}

// TestErased: a record whose key was destroyed was dead, so it is none that could not be read.
func TestErased(t *testing.T) {
	fs := vfs.NewMem()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(keys.CreateKeyFile(fs, "master.key"))
	master, err := keys.OpenKeyFile(fs, "master.key")
	must(err)
	set, err := volume.OpenSet(fs, "volumes", volume.SetOptions{Master: master})
	must(err)
	defer func() { must(set.Close()) }()
	v, err := set.Create(volume.Header{ID: 1}, set.NewSeed(volume.ClassSmall, volume.MaxRecords), nil)
	must(err)
	appendMail(t, fs, v, 1000)
	appendMail(t, fs, v, 1000)
	must(set.UseKeys(1, func(f *keys.File) error { return f.Destroy([]uint64{1}) }))
	r := &Recovery{cfg: Config{Log: slog.New(slog.DiscardHandler)}}
	resp, found := new(mailResponse), 0
	err = r.lookThrough(t.Context(), v, directory.RecoveryNote{Until: 2000}, map[uint64]bool{5: true}, resp, func(*candidate) error { found++; return nil })
	if err != nil || found != 1 || resp.Unread != 0 {
		t.Errorf("%d messages were found, %d records not read, %v", found, resp.Unread, err)
	}
}
