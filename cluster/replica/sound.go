package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"hongyan/engine/volume"
)

// A copy that is as long as it should be may still have rotted, or was filled with damage. Before the file of a copy that leaves is given up (steps 5 and 6
// of moves.go) those that stay are asked what is known of their bytes:
//
//   - S1. While one of them is damaged, or was filled with damage and not verified since, the file that goes stays: the damaged copy is mended
//     from it first. Its node is told who has the file, and verifies the copy with that among its sources.
//   - S2. If that node has answered for each place that was damaged and the damage is there nevertheless, the file has not what is lacking. Then it may go, and
//     the log says what is lost: otherwise a node with such a copy could never be emptied.
//   - S3. One of them at least was verified to the end in this generation, by scrubbing or as its bytes came.

// soundness is what this process knows of the bytes of a copy that is as long as it should be.
type soundness uint8

const (
	unproved soundness = iota
	proved             // each byte passed its checksum when it was written, by this process
	flawed             // it was filled with damage, or opened with some
)

// Checked is what checking has found of a copy in a generation.
type Checked struct {
	Proved  bool     // it was verified to the end, nothing is damaged, and no read has met damage since
	Doubted bool     // a read has met damage since, or it was filled with some: it will be verified
	Damaged uint64   // records that no other copy had
	Records []uint64 // the first of them, as far as they are known
	Asked   []string // nodes that answered for all that was damaged
}

const (
	seekAgain = 5 * time.Minute // a copy is verified at another node's wish so often at most
	spareFor  = time.Minute     // a node that asked may have its file so long
	lostFor   = 30 * time.Minute
)

// spare is a node that has a file of a volume of whose entry it goes, or has gone.
type spare struct {
	node   string
	told   time.Time
	sought time.Time // when the copy here was last to be verified for it
}

// wholeHere answers for this node's copy: is it named in the entry, and did its repairer find or make it as long as the entry says? Such a copy
// is fsynced and closed.
func (m *Manager) wholeHere(req *wholeRequest) (reply wholeReply) {
	if m.cfg.Volumes == nil {
		return reply
	}
	m.mu.Lock()
	e := m.entries[req.Volume]
	how, whole := m.whole[req.Volume]
	m.mu.Unlock()
	if !whole || !e.Holds(m.cfg.ID) || e.Generation != req.Generation || e.Length != req.Length {
		return reply
	}
	vol, err := m.cfg.Volumes.Get(req.Volume)
	if err != nil || vol.Header().Generation != req.Generation || vol.Durable() < req.Length {
		return reply
	}
	if req.Rotten && m.due(req.Volume, "") {
		m.noteDamage(req.Volume, 0)
	}
	known := Checked{Proved: how != flawed} // where nobody verifies there is no more to wait for
	if m.cfg.Checked != nil {
		known = m.cfg.Checked(req.Volume, req.Generation)
	}
	reply.Complete = true
	reply.Damaged = known.Damaged > 0 || known.Doubted || len(vol.Damage()) > 0 || how == flawed && !known.Proved
	reply.Proved = !reply.Damaged && (known.Proved || how == proved)
	reply.Whole = !reply.Damaged
	switch {
	case reply.Damaged:
		reply.Records = known.Records
		reply.Tried = known.Damaged > 0 && !known.Doubted && slices.Contains(known.Asked, req.Leaving)
		if !reply.Tried && req.Leaving != "" && m.Up(req.Leaving) {
			m.seek(req.Volume, req.Leaving)
		}
	case req.Prove && !reply.Proved:
		m.seek(req.Volume, "")
	}
	return reply
}

// seek has this node's copy verified soon, with the file of a node that is about to give it up among its sources.
func (m *Manager) seek(id volume.ID, node string) {
	if m.due(id, node) && m.cfg.Verify != nil {
		m.cfg.Verify(id)
	}
}

// due notes that another node wants the copy here verified, with the file of a node that may not be named, and says whether it is time for that.
func (m *Manager) due(id volume.ID, node string) bool {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	for other, s := range m.spares {
		if now.Sub(s.told) > seekAgain {
			delete(m.spares, other)
		}
	}
	s := m.spares[id]
	due := s.node != node || now.Sub(s.sought) >= seekAgain
	if due {
		s.sought = now
	}
	s.node, s.told = node, now
	m.spares[id] = s
	return due
}

// holders lists the other nodes that have a file of a volume, nearest first, and last one that its entry does not name any more.
func (m *Manager) holders(ctx context.Context, id volume.ID) []string {
	nodes := m.sources(ctx, id)
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.spares[id]
	if _, known := m.byID[s.node]; known && s.node != m.cfg.ID && time.Since(s.told) < spareFor && !slices.Contains(nodes, s.node) {
		nodes = append(nodes, s.node)
	}
	return nodes
}

// WholeOn asks a node whether its copy is as long as the entry says, and nothing in it is known to be damaged.
func (m *Manager) WholeOn(node string, e Entry) bool {
	return m.askWhole(node, e, wholeRequest{}).Whole
}

// CompleteOn asks a node whether its copy is as long as the entry says, damaged or not.
func (m *Manager) CompleteOn(node string, e Entry) bool {
	return m.askWhole(node, e, wholeRequest{}).Complete
}

// askWhole asks a node for its copy, with what the request says besides.
func (m *Manager) askWhole(node string, e Entry, req wholeRequest) (reply wholeReply) {
	req.Volume, req.Generation, req.Length = e.ID, e.Generation, e.Length
	if node == m.cfg.ID {
		return m.wholeHere(&req)
	}
	if !m.cfg.Net.Up(node) {
		return reply
	}
	ctx, stop := context.WithTimeout(m.ctx, fenceTimeout)
	defer stop()
	if err := m.cfg.Net.Call(ctx, node, methodWhole, &req, &reply); err != nil {
		m.log.Debug("copy not confirmed", "volume", e.ID, "node", node, "err", err)
		return wholeReply{}
	}
	reply.Complete = reply.Complete || reply.Whole // earlier programs say only the one
	return reply
}

func (m *Manager) serveWhole(_ context.Context, _ string, req *wholeRequest) (*wholeReply, error) {
	reply := m.wholeHere(req)
	return &reply, nil
}

// mayGo says why the file of a node is needed, other copies of the volume being as the replies say (S1 to S3).
func (m *Manager) mayGo(e Entry, leaving string, replies map[string]wholeReply) error {
	var needed error
	var damaged, doubtful []string
	var records []uint64
	sure := false
	for _, node := range e.Copies {
		r := replies[node]
		if node == leaving || !r.Complete {
			continue
		}
		if r.Damaged {
			r = m.askWhole(node, e, wholeRequest{Leaving: leaving})
		}
		switch {
		case !r.Complete: // it was a moment ago
			needed = errors.Join(needed, fmt.Errorf("the copy on %s: %w", node, errNotYet))
		case r.Damaged && !r.Tried && !m.lost(leaving):
			needed = errors.Join(needed, fmt.Errorf("the copy on %s is damaged, or was filled from a damaged one, at records %v: it is verified and mended from the file on %s first (see `admin scrub`), unless that node stays down for %s", node, r.Records, leaving, lostFor))
		case r.Damaged:
			damaged, records = append(damaged, node), append(records, r.Records...)
		case r.Proved:
			sure = true
		default:
			doubtful = append(doubtful, node)
		}
	}
	if needed != nil {
		return fmt.Errorf("volume %s: %w", e.ID, needed)
	}
	if !sure && len(doubtful) > 0 {
		for _, node := range doubtful {
			m.askWhole(node, e, wholeRequest{Leaving: leaving, Prove: true})
		}
		return fmt.Errorf("volume %s: %w: no copy on %v was verified in this generation; they are verified now", e.ID, errNotYet, doubtful)
	}
	if len(damaged) > 0 {
		slices.Sort(records)
		m.log.Error("a copy goes though others are damaged: its node has not what they lack, or was given up; these records are lost unless a backup has them", "volume", e.ID,
			"records", slices.Compact(records), "damaged", damaged, "goes", leaving)
	}
	return nil
}

// lost says that a node has been away so long that nobody waits for it. Should it come back with its file, that stays as long as S1 wants it.
func (m *Manager) lost(node string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	since, down := m.downSince[node]
	return down && m.byID[node].Leaving && time.Since(since) >= lostFor
}

// Answered says of a file that Others gave that its node has answered every read: with bytes, or that its disk has them not.
func Answered(file io.ReaderAt) bool {
	o, ok := file.(*otherCopy)
	return ok && !o.silent
}
