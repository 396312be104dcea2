package scrub_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"hongyan/cluster"
	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
	"hongyan/cluster/scrub"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// mailstore is a cluster with mail in sealed volumes.
type mailstore struct {
	t    *testing.T
	c    *clustertest.Cluster
	a    client.Account
	sent map[string]bool
}

func within(t *testing.T) context.Context {
	t.Helper()
	c, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return c
}

// newMailstore delivers mail through every node and restarts each, so that its volumes are sealed.
func newMailstore(t *testing.T, messages int) *mailstore {
	t.Helper()
	m := &mailstore{t: t, c: clustertest.Start(t, "south", "north", "overseas"), sent: make(map[string]bool)}
	m.a = m.c.Account(t, "u1")
	noise := rand.NewChaCha8([32]byte{1})
	for i := range messages {
		body := make([]byte, 1000+(i%4)*40_000)
		if _, err := noise.Read(body); err != nil {
			t.Fatal(err)
		}
		raw := fmt.Appendf(nil, "Subject: %d\r\n\r\n%x\r\n", i, body)
		door := m.c.Nodes[i%len(m.c.Nodes)].Client()
		d := door.NewDraft()
		_, err := d.Write(raw)
		for _, refusal := range door.Deliver(within(t), d, client.Delivery{From: "a@remote.test", Recipients: []client.Account{m.a}}) {
			err = errors.Join(err, refusal)
		}
		d.Close()
		if err != nil {
			t.Fatal(err)
		}
		m.sent[string(raw)] = true
	}
	for i := range m.c.Nodes {
		m.c.StopNode(t, i)
		m.c.StartNode(t, i)
		m.c.WaitReady(t)
	}
	clustertest.Eventually(t, 20*time.Second, func() bool { return len(m.large()) > 0 && m.differing() == "" }, m.differing)
	return m
}

// volumes are the sealed ones.
func (m *mailstore) volumes() (out []cluster.VolumeStatus) {
	status, err := m.c.Nodes[0].Status(within(m.t))
	if err != nil {
		m.t.Fatal(err)
	}
	for _, v := range status.(*cluster.Status).Volumes {
		if v.State == "sealed" && v.Length > 0 {
			out = append(out, v)
		}
	}
	return out
}

// large are those whose beginning and end are different records.
func (m *mailstore) large() []cluster.VolumeStatus {
	return slices.DeleteFunc(m.volumes(), func(v cluster.VolumeStatus) bool { return v.Length < 500_000 })
}

func (m *mailstore) path(id uint64, node string) string {
	for _, n := range m.c.Configs {
		if n.ID == node {
			return filepath.Join(n.Data, "volumes", volume.ID(id).String()+".vol")
		}
	}
	m.t.Fatalf("no node %s", node)
	return ""
}

// differing says which volume's copies are not the same bytes of the right length.
func (m *mailstore) differing() string {
	for _, v := range m.volumes() {
		var first []byte
		for i, node := range v.Copies {
			b, err := os.ReadFile(m.path(v.ID, node))
			if err != nil || int64(len(b)) != v.Length || i > 0 && !bytes.Equal(b, first) {
				return fmt.Sprintf("volume %x on %s: %d bytes of %d, %v", v.ID, node, len(b), v.Length, err)
			}
			first = b
		}
	}
	return ""
}

// readable checks that every node gives every message.
func (m *mailstore) readable() {
	m.t.Helper()
	for _, n := range m.c.Nodes {
		door, got := n.Client(), 0
		s, err := door.Select(within(m.t), m.a, "INBOX")
		if err != nil {
			m.t.Fatal(err)
		}
		err = door.Messages(within(m.t), m.a, s.Mailbox.ID, s.UIDs, index.WantImmutable, func(msg *client.Message) error {
			r, err := door.Read(within(m.t), msg.Ref, 0, msg.Size)
			if err != nil {
				return err
			}
			b, err := io.ReadAll(r)
			if at := bytes.Index(b, []byte("Subject: ")); at < 0 || !m.sent[string(b[at:])] {
				m.t.Errorf("other bytes than were sent, %d", len(b))
			}
			got++
			return errors.Join(err, r.Close())
		})
		if err != nil || got != len(m.sent) {
			m.t.Fatalf("%d messages of %d: %v", got, len(m.sent), err)
		}
	}
}

func (m *mailstore) reports() []scrub.Report {
	return m.c.Nodes[0].ScrubReports(within(m.t)).([]scrub.Report)
}

// total adds up what all nodes report.
func (m *mailstore) total() (sum scrub.Totals, damaged uint64) {
	for _, r := range m.reports() {
		sum.Copies += r.Totals.Copies
		sum.Found += r.Totals.Found
		sum.Mended += r.Totals.Mended
		sum.Compared += r.Totals.Compared
		sum.Mismatches += r.Totals.Mismatches
		sum.Missing += r.Totals.Missing
		for _, d := range r.Damaged {
			damaged += d.Records
		}
	}
	return sum, damaged
}

func (m *mailstore) scrubAll() {
	for _, s := range m.c.Nodes[1].Scrub(within(m.t), 0).([]scrub.Started) {
		if s.Error != "" {
			m.t.Fatalf("%+v", s)
		}
	}
}

func overwrite(t *testing.T, path string, change func(f *os.File) error) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(change(f), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestCopiesOfACluster damages the copies of a cluster that serves, in every way, one after the other.
func TestCopiesOfACluster(t *testing.T) {
	m := newMailstore(t, 40)
	t.Run("a read queues mending", m.readsQueueMending)
	t.Run("mended while serving", m.mendedWhileServing)
	t.Run("damage in all copies", m.damageInAllCopies)
	t.Run("whole copies that differ", m.wholeCopiesThatDiffer)
}

// damage are ways to hurt a volume of some length: one copy, or both in different places.
func damage(rng *rand.Rand) []func(t *testing.T, length int64, one, two string) {
	zero := func(off, end int64) func(f *os.File) error {
		return func(f *os.File) error { _, err := f.WriteAt(make([]byte, end-off), off); return err }
	}
	inside := func(length int64) int64 { return 4096 + rng.Int64N(length-4096) }
	return []func(t *testing.T, length int64, one, two string){
		func(t *testing.T, length int64, one, _ string) { // a bit
			overwrite(t, one, func(f *os.File) error {
				at := inside(length)
				var b [1]byte
				_, err := f.ReadAt(b[:], at)
				b[0] ^= 4
				_, writeErr := f.WriteAt(b[:], at)
				return errors.Join(err, writeErr)
			})
		},
		func(t *testing.T, length int64, one, _ string) { // sectors
			at := inside(length) &^ 4095
			overwrite(t, one, zero(at, min(at+5*4096, length)))
		},
		func(t *testing.T, _ int64, one, _ string) { // header block
			overwrite(t, one, zero(0, 4096))
		},
		func(t *testing.T, length int64, one, two string) { // the first record here, the last one there
			overwrite(t, one, zero(4096, 4196))
			overwrite(t, two, zero(length-200, length))
		},
		func(t *testing.T, length int64, one, _ string) {
			if err := os.Truncate(one, inside(length)); err != nil {
				t.Fatal(err)
			}
		},
		func(t *testing.T, _ int64, one, _ string) {
			if err := os.Remove(one); err != nil {
				t.Fatal(err)
			}
		},
	}
}

func (m *mailstore) mendedWhileServing(t *testing.T) {
	m.t = t
	ways := damage(rand.New(rand.NewPCG(1, 2)))
	for turn := 0; len(ways) > 0; turn++ {
		for i, v := range m.large() {
			if len(ways) > 0 {
				ways[0](t, v.Length, m.path(v.ID, v.Copies[(i+turn)%2]), m.path(v.ID, v.Copies[(i+turn+1)%2]))
				ways = ways[1:]
			}
		}
		m.readable()
		m.scrubAll()
		clustertest.Eventually(t, 60*time.Second, func() bool { return m.differing() == "" }, m.differing)
		m.readable()
	}
	// Once more: nothing is left, and the copies are compared.
	before, _ := m.total()
	m.scrubAll()
	clustertest.Eventually(t, 60*time.Second, func() bool {
		now, damaged := m.total()
		return now.Copies >= before.Copies+uint64(2*len(m.volumes())) && now.Compared > before.Compared && damaged == 0
	}, func() string { return fmt.Sprintf("%+v", m.reports()) })
	if now, _ := m.total(); now.Mended == 0 || now.Missing == 0 || now.Mismatches > 0 {
		t.Errorf("%+v", now)
	}
	for _, r := range m.reports() {
		for _, f := range r.Findings {
			if !f.Mended {
				t.Errorf("%s: %+v", r.Node, f)
			}
		}
	}
}

// readsQueueMending: nobody asks for a check; reading the mail is enough.
func (m *mailstore) readsQueueMending(t *testing.T) {
	m.t = t
	largest := slices.MaxFunc(m.volumes(), func(a, b cluster.VolumeStatus) int { return cmp.Compare(a.Length, b.Length) })
	overwrite(t, m.path(largest.ID, largest.Copies[1]), func(f *os.File) error {
		_, err := f.WriteAt([]byte("rot"), largest.Length/2)
		return err
	})
	clustertest.Eventually(t, 60*time.Second, func() bool { m.readable(); return m.differing() == "" }, m.differing)
}

// damageInAllCopies is reported and left alone; what is restored by hand is taken up.
func (m *mailstore) damageInAllCopies(t *testing.T) {
	m.t = t
	v := m.large()[0]
	good, err := os.ReadFile(m.path(v.ID, v.Copies[0]))
	if err != nil {
		t.Fatal(err)
	}
	before, _ := m.total()
	for _, node := range v.Copies {
		overwrite(t, m.path(v.ID, node), func(f *os.File) error { _, err := f.WriteAt([]byte("rot"), 4096+120); return err })
	}
	m.scrubAll()
	clustertest.Eventually(t, 60*time.Second, func() bool { _, damaged := m.total(); return damaged == 2 },
		func() string { return fmt.Sprintf("%+v", m.reports()) })
	if s, _ := m.total(); s.Mended > before.Mended {
		t.Errorf("%+v", s)
	}
	overwrite(t, m.path(v.ID, v.Copies[1]), func(f *os.File) error { _, err := f.WriteAt(good, 0); return err })
	m.scrubAll()
	clustertest.Eventually(t, 60*time.Second, func() bool { _, damaged := m.total(); return damaged == 0 && m.differing() == "" },
		func() string { return fmt.Sprintf("%+v", m.reports()) })
}

// wholeCopiesThatDiffer: a message that is not what its hash says, under checksums that are right, is found by comparing.
func (m *mailstore) wholeCopiesThatDiffer(t *testing.T) {
	m.t = t
	v := m.large()[0]
	overwrite(t, m.path(v.ID, v.Copies[0]), func(f *os.File) error {
		// The first message: other records may be dead, and their keys gone.
		var head [80]byte
		at := int64(4096)
		for head[6] != byte(volume.KindMessage) {
			if size := 80 + int64(binary.LittleEndian.Uint32(head[32:])) + int64(binary.LittleEndian.Uint64(head[24:])); head[6] != 0 {
				at += (size + 7) &^ 7
			}
			if _, err := f.ReadAt(head[:], at); err != nil {
				return err
			}
		}
		at += 80 + int64(binary.LittleEndian.Uint32(head[32:]))
		var word [8]byte
		if _, err := f.ReadAt(word[:], at); err != nil {
			return err
		}
		size := binary.LittleEndian.Uint32(word[:]) &^ (1 << 31)
		chunk := make([]byte, 8+size)
		if _, err := f.ReadAt(chunk, at); err != nil {
			return err
		}
		chunk[20] ^= 1
		table := crc32.MakeTable(crc32.Castagnoli)
		binary.LittleEndian.PutUint32(chunk[4:], crc32.Update(crc32.Checksum(chunk[:4], table), table, chunk[8:]))
		_, err := f.WriteAt(chunk, at)
		return err
	})
	m.scrubAll()
	clustertest.Eventually(t, 60*time.Second, func() bool { return m.differing() == "" }, m.differing)
	if s, _ := m.total(); s.Mismatches == 0 {
		t.Errorf("%+v", s)
	}
	m.readable()
}
