package cold

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/policy"
	"hongyan/cluster/replica"
	"hongyan/cluster/wire"
	"hongyan/engine/cold"
	"hongyan/engine/volume"
)

// thawPiece is read and written at a time, commitEvery between two fsyncs.
const (
	thawPiece   = 1 << 20
	commitEvery = 8 << 20
	thawTimeout = 30 * time.Minute
)

// Census implements replica.ColdVolumes.
func (m *Manager) Census(ctx context.Context, e replica.Entry, live *roaring.Bitmap) (volume.Census, error) {
	_, src, v, err := m.view(ctx, e)
	if err != nil {
		return volume.Census{}, err
	}
	return v.Census(src, live)
}

// Erase implements replica.ColdVolumes.
func (m *Manager) Erase(id volume.ID, stay *roaring.Bitmap) (uint64, error) {
	erased, err := m.cfg.Fragments.Erase(id, func(n uint64) bool { return stay.Contains(uint32(n)) })
	return erased, m.noteDamage(id, err)
}

// Thaw implements replica.ColdVolumes: this node and others with fragments, one of them in another region (or zone), make whole copies, then the directory
// names these in place of the fragments, which are swept later, when the copies are known to be whole. Copies that the policy
// wants and that no node with fragments is left for are made afterwards.
func (m *Manager) Thaw(ctx context.Context, e replica.Entry) (replica.Entry, error) {
	others, ok := m.partners(e)
	if !ok {
		return e, fmt.Errorf("thaw volume %s: no node of another %s with fragments is up", e.ID, policy.Of(e.Policy).Survive)
	}
	copies := append([]string{m.cfg.ID}, others...)
	for _, node := range copies {
		call, stop := context.WithTimeout(ctx, thawTimeout)
		err := m.cfg.Net.Call(call, node, methodThaw, &thawRequest{Entry: e}, &thawReply{})
		stop()
		if err != nil {
			return e, fmt.Errorf("thaw volume %s on %s: %w", e.ID, node, err)
		}
	}
	enter, stop := context.WithTimeout(ctx, directoryTTL)
	defer stop()
	thawed, err := m.cfg.Directory.ThawVolume(enter, e, copies)
	if err != nil {
		return e, fmt.Errorf("enter the copies of volume %s: %w", e.ID, err)
	}
	m.stats.thaws.Add(1)
	m.log.Info("volume is thawed", "volume", e.ID, "copies", copies)
	return thawed, nil
}

// partners are nodes that have fragments, as many as make the copies complete if there are so many: first one of another region (or zone), which there must
// be; those that take copies come before others.
func (m *Manager) partners(e replica.Entry) ([]string, bool) {
	rule, peers := policy.Of(e.Policy), make(map[string]replica.Peer)
	for _, p := range m.cfg.Peers() {
		peers[p.ID] = p
	}
	away := func(node string) bool { return rule.Fails(peers[node].Place()) != rule.Fails(peers[m.cfg.ID].Place()) }
	nodes := slices.DeleteFunc(e.Sources(), func(node string) bool { return node == m.cfg.ID || !m.up(node) })
	slices.SortStableFunc(nodes, func(a, b string) int {
		return cmp.Or(first(away(a), away(b)), first(peers[a].Takes(), peers[b].Takes()))
	})
	if len(nodes) == 0 || !away(nodes[0]) {
		return nil, false
	}
	return nodes[:min(len(nodes), e.Wanted()-1)], true
}

// serveThaw makes a whole copy here.
func (m *Manager) serveThaw(ctx context.Context, from string, req *thawRequest) (*thawReply, error) {
	e := req.Entry
	if e.Cold == nil {
		return nil, wire.Errorf(wire.Invalid, "volume %s is not cold", e.ID)
	}
	if p := policy.Of(e.Policy); !p.Allows(m.cfg.Region) {
		return nil, wire.Errorf(wire.Denied, "volume %s (%s) may not lie on %s in region %s", e.ID, p, m.cfg.ID, m.cfg.Region)
	}
	m.mu.Lock()
	_, busy := m.thawing[e.ID]
	if !busy {
		m.thawing[e.ID] = struct{}{}
	}
	m.mu.Unlock()
	if busy {
		return nil, wire.Errorf(wire.Unavailable, "volume %s is being thawed on %s", e.ID, m.cfg.ID)
	}
	err := m.thawHere(ctx, e)
	m.mu.Lock()
	delete(m.thawing, e.ID)
	m.since[copyOf(e.ID)] = time.Now().Add(thawTimeout) // not dropped while the other copy is made
	m.mu.Unlock()
	if err != nil {
		return nil, failed(fmt.Errorf("thaw volume %s for %s: %w", e.ID, from, err))
	}
	return &thawReply{}, nil
}

// thawHere makes the file, or goes on with what an earlier attempt left. Every byte's place in a record is checked as it is written.
func (m *Manager) thawHere(ctx context.Context, e replica.Entry) error {
	r, err := m.reader(e, bulkSilence)
	if err != nil {
		return err
	}
	v, err := m.cfg.Volumes.Get(e.ID)
	if errors.Is(err, volume.ErrNotFound) {
		v, err = m.beginCopy(ctx, e, r)
	}
	if err != nil {
		return err
	}
	if err := v.Seal(); err != nil {
		return err
	}
	for off, dirty := v.Durable(), int64(0); off < e.Length; {
		p := make([]byte, min(thawPiece, e.Length-off))
		if _, err := r.ReadAt(ctx, p, off); err != nil {
			return err
		}
		if err := v.Extend(off, p); err != nil {
			return err
		}
		off, dirty = off+int64(len(p)), dirty+int64(len(p))
		if dirty < commitEvery && off < e.Length {
			continue
		}
		dirty = 0
		if _, err := v.Commit(); err != nil {
			return err
		}
	}
	if got := v.Durable(); got != e.Length {
		return fmt.Errorf("the copy is %d bytes long, not %d", got, e.Length)
	}
	return v.Seal() // saves the record index
}

// beginCopy makes an empty copy with the header block and the keys.
func (m *Manager) beginCopy(ctx context.Context, e replica.Entry, src *cold.Reader) (*volume.Volume, error) {
	a, err := m.attached(ctx, e)
	if err != nil {
		return nil, err
	}
	block, err := firstBlock(ctx, e, src)
	if err != nil {
		return nil, err
	}
	return m.cfg.Volumes.CreateCopy(block, a.Keys)
}

// firstBlock reads the header block that a volume's file begins with.
func firstBlock(ctx context.Context, e replica.Entry, src *cold.Reader) ([]byte, error) {
	block := make([]byte, min(4096, e.Length))
	if _, err := src.ReadAt(ctx, block, 0); err != nil {
		return nil, fmt.Errorf("header block: %w", err)
	}
	return block, nil
}
