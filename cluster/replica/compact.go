package replica

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/pause"
	"hongyan/cluster/transport"
	"hongyan/cluster/wire"
	"hongyan/engine/volume"
)

// A volume's next generation, from the side of the nodes that keep copies. Who decides what stays is package collect; here is
// what each copy's node does:
//
//  6. Prepare. It fences its copy, makes the next generation's file beside it from its own bytes, fsyncs, and says how long the file is and what
//     its sum is. All copies must say the same before the directory enters the generation. One file is made at a time, at a
//     bounded rate, and only while the disk has room for it.
//  7. Switch. A copy whose generation is below its entry's is behind, like one that is too short: the repairer switches to the file that was
//     prepared. A node that lost that, or never had it, fetches it from another copy.
//
// Attempts at a volume have numbers, which become its generation (Entry.Attempt). A prepared file is given up only once the directory can
// no longer enter it: when a later attempt has begun.

// prepareFrame is how many record numbers one message has.
const prepareFrame = 16 << 10

// Prepare has a node make its file of a volume's next generation: that header block, then those records in that order, about that many
// bytes. It takes as long as it takes to copy them at the node's rate. wire.ErrUnavailable: later, another one is at work.
func (m *Manager) Prepare(ctx context.Context, node string, e Entry, block []byte, records []uint32, bytes int64) (volume.Prepared, error) {
	var made volume.Prepared
	s, err := m.cfg.Net.Open(ctx, node, methodPrepare)
	if err != nil {
		return made, err
	}
	defer hangUp(s)
	if err := s.SendValue(prepareRequest{Volume: e.ID, Epoch: e.Epoch, Generation: e.Generation, Block: block, Bytes: bytes, Records: len(records)}); err != nil {
		return made, err
	}
	for len(records) > 0 {
		n := min(len(records), prepareFrame)
		b := make([]byte, 0, 4*n)
		for _, r := range records[:n] {
			b = binary.LittleEndian.AppendUint32(b, r)
		}
		if err := s.Send(b); err != nil {
			return made, refusalOf(s, err)
		}
		records = records[n:]
	}
	var reply prepareReply
	if err := s.RecvValue(&reply); err != nil {
		return made, err
	}
	return volume.Prepared{Length: reply.Length, Sum: reply.Sum}, nil
}

// refusalOf prefers what the other end said to how a send failed.
func refusalOf(s *transport.Stream, err error) error {
	if _, why := s.Recv(); why != nil && !errors.Is(why, io.EOF) {
		return why
	}
	return err
}

// servePrepare is step 6.
func (m *Manager) servePrepare(ctx context.Context, from string, s *transport.Stream) error {
	if m.cfg.Volumes == nil {
		return wire.Errorf(wire.Denied, "%s stores no volumes", m.cfg.ID)
	}
	var req prepareRequest
	if err := s.RecvValue(&req); err != nil {
		return fmt.Errorf("prepare for %s: %w", from, err)
	}
	if req.Records < 0 || req.Records > volume.MaxRecords {
		return wire.Errorf(wire.Limit, "prepare for %s: %d records", from, req.Records)
	}
	select {
	case m.compacting <- struct{}{}:
		defer func() { <-m.compacting }()
	default:
		return wire.Errorf(wire.Unavailable, "%s: another compaction is under way", m.cfg.ID)
	}
	records, err := recvRecords(s, req.Records)
	if err != nil {
		return fmt.Errorf("prepare for %s: %w", from, err)
	}
	made, err := m.prepare(ctx, from, &req, records)
	if err != nil {
		return storageError(fmt.Errorf("prepare for %s: %w", from, err))
	}
	m.stats.prepared.Add(1)
	return s.SendValue(prepareReply{Length: made.Length, Sum: made.Sum})
}

func recvRecords(s *transport.Stream, count int) ([]uint32, error) {
	records := make([]uint32, 0, count)
	for len(records) < count {
		b, err := s.Recv()
		if err != nil {
			return nil, err
		}
		if len(b)%4 != 0 || len(records)+len(b)/4 > count {
			return nil, wire.Errorf(wire.Invalid, "%d bytes of record numbers", len(b))
		}
		for ; len(b) > 0; b = b[4:] {
			records = append(records, binary.LittleEndian.Uint32(b))
		}
	}
	return records, nil
}

func (m *Manager) prepare(ctx context.Context, from string, req *prepareRequest, records []uint32) (volume.Prepared, error) {
	if _, err := m.serveFence(ctx, from, &fenceRequest{Volume: req.Volume, Epoch: req.Epoch}); err != nil {
		return volume.Prepared{}, err
	}
	next, _, err := m.cfg.Volumes.Next(req.Volume)
	if err == nil && next == req.Generation {
		signal(m.mend)
		return volume.Prepared{}, wire.Errorf(wire.Unavailable, "%s: volume %s is not switched to generation %d yet", m.cfg.ID, req.Volume, next)
	}
	if block, err := volume.DecodeHeader(req.Block); err != nil || next > block.Generation {
		return volume.Prepared{}, wire.Errorf(wire.Invalid, "volume %s: generation %d after %d: %v", req.Volume, block.Generation, next, err)
	}
	free, err := m.cfg.Volumes.FreeBytes()
	if err == nil && free < uint64(req.Bytes) {
		return volume.Prepared{}, wire.Errorf(wire.Full, "%s: %d bytes free beyond the reserve, %d wanted to compact volume %s", m.cfg.ID, free, req.Bytes, req.Volume)
	}
	began, done := time.Now(), int64(0)
	return m.cfg.Volumes.Prepare(ctx, req.Volume, req.Block, records, func(bytes int) error {
		done += int64(bytes)
		pause.For(ctx, time.Until(began.Add(time.Duration(float64(done)/float64(m.cfg.CompactRate)*float64(time.Second)))))
		return errors.Join(ctx.Err(), m.ctx.Err())
	})
}

// advance is step 7: it brings this node's copy to the generation and length that its entry has.
func (m *Manager) advance(ctx context.Context, e Entry) error {
	select {
	case m.compacting <- struct{}{}: // whoever prepares another next file would be in the way
		defer func() { <-m.compacting }()
	default:
		return errors.New("another compaction is under way")
	}
	generation, length, err := m.cfg.Volumes.Next(e.ID)
	if err != nil && !errors.Is(err, volume.ErrNotFound) {
		m.log.Warn("prepared generation not readable, fetched from another copy", "volume", e.ID, "err", err)
	}
	if err != nil || generation != e.Generation || length != e.Length {
		if err := m.fetchNext(ctx, e); err != nil {
			return err
		}
	}
	if err := m.cfg.Volumes.Switch(e.ID, e.Generation, e.Length); err != nil {
		return err
	}
	m.stats.switches.Add(1)
	m.log.Info("copy switched to its next generation", "volume", e.ID, "generation", e.Generation, "length", e.Length)
	return nil
}

// fetchNext makes or completes the next file with bytes of a copy that has switched.
func (m *Manager) fetchNext(ctx context.Context, e Entry) error {
	head, err := m.fetchHead(ctx, e, false)
	if err != nil {
		return err
	}
	next, err := m.cfg.Volumes.OpenNext(head.Block)
	if err != nil {
		return err
	}
	if next.Durable() < e.Length {
		err = m.complete(ctx, next, e)
	}
	return errors.Join(err, next.Close())
}

// dropStaleNext removes next files that the directory can no longer enter.
func (m *Manager) dropStaleNext(state *mending) {
	now := time.Now()
	for _, id := range m.cfg.Volumes.Nexts() {
		e, known := m.entry(id)
		generation, _, err := m.cfg.Volumes.Next(id)
		stale := err == nil && known && generation < e.Attempt && generation != e.Generation
		if !known {
			since, seen := state.orphans[id]
			stale = seen && now.Sub(since) >= orphanAfter
		}
		if !stale {
			continue
		}
		select {
		case m.compacting <- struct{}{}:
		default:
			return
		}
		err = m.cfg.Volumes.DropNext(id)
		<-m.compacting
		if err != nil {
			m.log.Warn("given-up generation not removed", "volume", id, "err", err)
		}
	}
}

// dropCollected removes this node's copy of a volume in which nothing was live, and the entry once no node has a copy any more: a
// file without an entry is kept for good.
func (m *Manager) dropCollected(ctx context.Context, e Entry) error {
	if err := m.remove(e.ID); err != nil {
		return err
	}
	if e.Primary != m.cfg.ID && m.cfg.Net.Up(e.Primary) {
		return nil
	}
	for _, node := range e.Copies {
		if node == m.cfg.ID || m.peer(node).Leaving && !m.cfg.Net.Up(node) { // a lost node is not waited for
			continue
		}
		reply, err := m.fenceThere(ctx, m.cfg.Net.Call, node, e)
		if err != nil {
			return fmt.Errorf("ask %s whether it still has a copy: %w", node, err)
		}
		if reply.Exists {
			return fmt.Errorf("%s still has a copy", node)
		}
	}
	return m.dropEntry(ctx, e)
}

// Erase has a node destroy the keys of all records of a volume but these: what was in the others is gone for good. It says how many
// keys there were. On a volume that is not encrypted it does nothing.
func (m *Manager) Erase(ctx context.Context, node string, id volume.ID, stay *roaring.Bitmap) (uint64, error) {
	b, err := stay.ToBytes()
	if err != nil {
		return 0, fmt.Errorf("encode live records: %w", err)
	}
	var reply eraseReply
	err = m.cfg.Net.Call(ctx, node, methodErase, &eraseRequest{Volume: id, Stay: b}, &reply)
	return reply.Erased, err
}

func (m *Manager) serveErase(_ context.Context, from string, req *eraseRequest) (*eraseReply, error) {
	if m.cfg.Volumes == nil {
		return nil, wire.Errorf(wire.Denied, "%s stores no volumes", m.cfg.ID)
	}
	stay := roaring.New()
	if n, err := stay.FromBuffer(req.Stay); err != nil || n != int64(len(req.Stay)) {
		return nil, wire.Errorf(wire.Invalid, "live records from %s: %v", from, err)
	}
	if err := stay.Validate(); err != nil {
		return nil, wire.Errorf(wire.Invalid, "live records from %s: %v", from, err)
	}
	erased, err := m.eraseHere(req.Volume, stay)
	if err != nil {
		return nil, storageError(fmt.Errorf("erase for %s: %w", from, err))
	}
	m.stats.erased.Add(erased)
	return &eraseReply{Erased: erased}, nil
}

// eraseHere destroys keys of a copy, and those beside fragments: while a volume turns cold a node may have both.
func (m *Manager) eraseHere(id volume.ID, stay *roaring.Bitmap) (uint64, error) {
	erased, err := m.cfg.Volumes.Erase(id, stay)
	if m.cfg.Cold == nil {
		return erased, err
	}
	if e, _ := m.entry(id); e.Cold != nil && errors.Is(err, volume.ErrNotFound) {
		err = nil
	}
	if err != nil {
		return erased, err
	}
	cold, err := m.cfg.Cold.Erase(id, stay)
	return erased + cold, err
}

// ColdCensus holds a cold volume against what is live.
func (m *Manager) ColdCensus(ctx context.Context, e Entry, live *roaring.Bitmap) (volume.Census, error) {
	if m.cfg.Cold == nil {
		return volume.Census{}, wire.Errorf(wire.Denied, "%s keeps no cold volumes", m.cfg.ID)
	}
	return m.cfg.Cold.Census(ctx, e, live)
}

// Thaw gives a cold volume whole copies again.
func (m *Manager) Thaw(ctx context.Context, e Entry) error {
	if m.cfg.Cold == nil {
		return wire.Errorf(wire.Denied, "%s keeps no cold volumes", m.cfg.ID)
	}
	e, err := m.cfg.Cold.Thaw(ctx, e)
	if err == nil {
		m.noteEntry(e)
	}
	return err
}

// Entered takes note of an entry as the directory answered it, so that this node acts on it before its replica has it.
func (m *Manager) Entered(e Entry) { m.noteEntry(e) }

// Collectable lists the sealed volumes whose garbage is this node's to collect: of the nodes with a copy, or fragments, that are up
// it is the first.
func (m *Manager) Collectable() []Entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Entry
	for _, e := range m.entries {
		if e.State == Sealed && e.Length > 0 && m.firstUp(e.Sources()) == m.cfg.ID {
			out = append(out, e)
		}
	}
	return out
}

// Up says that a node answers.
func (m *Manager) Up(node string) bool { return node == m.cfg.ID || m.cfg.Net.Up(node) }

func (m *Manager) firstUp(nodes []string) string {
	for _, node := range nodes {
		if m.Up(node) {
			return node
		}
	}
	return ""
}
