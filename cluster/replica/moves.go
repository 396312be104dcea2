package replica

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"hongyan/cluster/pause"
	"hongyan/cluster/policy"
	"hongyan/cluster/wire"
	"hongyan/engine/volume"
)

// Copies of sealed volumes leave nodes that are being drained, or were given up as lost. Steps ("Moving copies" in docs/architecture.md):
//
//  1. Drive. Of the nodes with a copy the first that is up and stays drives the volume's move, or if none stays the first that is up. Nothing
//     but the directory says how far a move is, so whoever drives next goes on with it, and two that drive at once only get in each other's way.
//  2. Choose. A volume that has fewer copies on nodes that stay than its policy wants gets another, where the policy allows: in a region that has none if
//     that is possible (of copies that are to survive a zone only: in a zone), then in the region of the copy that goes, then by weight. The node says that it has room.
//  3. Enter. AddCopy names it, if the entry is as the driver saw it. The node's repairer finds itself without a file and makes the copy.
//  4. Confirm. The driver asks every node of the entry whether its copy is whole and on its disk, and what is known of its bytes.
//  5. Take out. When as many others as the policy wants are whole and none lacks what the one that goes may have (sound.go), RemoveCopy takes that out, if the entry is
//     still as the driver saw it.
//  6. Remove. A node that is no longer named asks the directory anew, and those that are named as in 4 and 5. Then its file goes.
//
// Invariants:
//
//   - M1. A copy leaves the entry only if all that its policy wants, two at least, were whole under the same entry (4, 5: the epoch), and its file goes later still (6);
//     or if every node of the entry answers that it has no file: both disks were lost, and a drain must come to its end.
//   - M2. A file is never removed for what a stale view says (6), nor while this node may be about to be named: the repairer, which alone says that a
//     copy is whole, does both, one after the other.
//   - M3. A compaction is entered only with the copies that prepared it (Entry.moved).

// move is what the mover remembers of a volume whose last step failed. Only its goroutine uses it.
type move struct {
	until time.Time
	wait  time.Duration
}

// mover is the goroutine of steps 1 to 5.
func (m *Manager) mover() {
	failed := make(map[volume.ID]move)
	for pause.For(m.ctx, moveEvery) {
		if !m.cfg.Paused() {
			m.moveRound(failed)
		}
	}
}

// moving is a volume that this node drives.
type moving struct {
	entry Entry
	stay  []string // its nodes that stay
	going []string // those that leave
}

// moveRound takes the next step of some volumes: those under way first.
func (m *Manager) moveRound(failed map[volume.ID]move) {
	list := m.driven()
	underWay, asked := 0, 0
	now := time.Now()
	for _, v := range list {
		if m.ctx.Err() != nil {
			return
		}
		begun := len(v.stay) >= v.entry.Wanted()
		if begun {
			underWay++
		}
		if now.Before(failed[v.entry.ID].until) || asked >= moveAsks {
			continue
		}
		var err error
		if begun && !m.forsaken(v, now) {
			asked++
			err = m.takeOut(v)
		} else if begun || underWay < moveAtOnce {
			if err = m.give(v); err == nil && !begun {
				underWay++
			}
		}
		m.noteMove(failed, v.entry.ID, err)
	}
	m.stats.moving.Store(int64(underWay))
	for id := range failed {
		if !slices.ContainsFunc(list, func(v moving) bool { return v.entry.ID == id }) {
			delete(failed, id)
		}
	}
}

// errNotYet is the state of a move that waits for its new copy: no failure.
var errNotYet = errors.New("not yet")

func (m *Manager) noteMove(failed map[volume.ID]move, id volume.ID, err error) {
	if err == nil || errors.Is(err, errNotYet) || m.ctx.Err() != nil {
		delete(failed, id)
		return
	}
	wait := max(moveRetry, min(2*failed[id].wait, moveAtMost))
	failed[id] = move{until: time.Now().Add(wait), wait: wait}
	m.stats.moveFailures.Add(1)
	m.log.Warn("copy not moved yet", "volume", id, "retry", wait, "err", err)
}

// driven is step 1: the volumes whose move is this node's to drive, those under way first.
func (m *Manager) driven() []moving {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []moving
	for _, e := range m.entries {
		if e.movable(e.Epoch) != nil {
			continue
		}
		v := moving{entry: e}
		for _, node := range e.Copies {
			if m.byID[node].Leaving {
				v.going = append(v.going, node)
			} else {
				v.stay = append(v.stay, node)
			}
		}
		if (len(v.going) > 0 || len(v.stay) < e.Wanted()) && cmp.Or(m.firstUp(v.stay), m.firstUp(v.going)) == m.cfg.ID {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b moving) int {
		return cmp.Or(last(len(a.stay) < a.entry.Wanted(), len(b.stay) < b.entry.Wanted()), cmp.Compare(a.entry.ID, b.entry.ID))
	})
	return out
}

// forsaken says that a move waits for a node that has been down too long, and may have another one instead.
func (m *Manager) forsaken(v moving, now time.Time) bool {
	if len(v.entry.Copies) >= v.entry.MaxCopies() {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	left := 0
	for _, node := range v.stay {
		if since, down := m.downSince[node]; !down || now.Sub(since) < moveGiveUp {
			left++
		}
	}
	return left < v.entry.Wanted()
}

// give is steps 2 and 3.
func (m *Manager) give(v moving) error {
	var reasons error
	for _, peer := range m.homes(v) {
		ctx, stop := context.WithTimeout(m.ctx, fenceTimeout)
		err := m.cfg.Net.Call(ctx, peer.ID, methodOffer, &offerRequest{Class: v.entry.Class, Bytes: v.entry.Length}, &offerReply{})
		stop()
		if err != nil {
			reasons = errors.Join(reasons, fmt.Errorf("%s: %w", peer.ID, err))
			continue
		}
		ctx, stop = context.WithTimeout(m.ctx, directoryWait)
		e, err := m.cfg.Directory.AddCopy(ctx, v.entry, peer.ID)
		stop()
		if errors.Is(err, wire.ErrInvalid) {
			return errNotYet // it has changed: the next round sees how
		}
		if err != nil {
			return fmt.Errorf("enter a copy on %s: %w", peer.ID, err)
		}
		m.noteEntry(e)
		m.log.Info("copy begins to move", "volume", e.ID, "from", v.going, "to", peer.ID, "bytes", e.Length)
		return nil
	}
	if reasons == nil {
		reasons = fmt.Errorf("no other node takes copies (%s)", policy.Of(v.entry.Policy))
	}
	return fmt.Errorf("find a node for a copy besides those on %v, where %v leave: %w", v.stay, v.going, reasons)
}

// homes lists the nodes that may get a copy, best first.
func (m *Manager) homes(v moving) []Peer {
	m.mu.Lock()
	peers, now := slices.Clone(m.peers), time.Now()
	peers = slices.DeleteFunc(peers, func(p Peer) bool { return now.Before(m.refused[p.ID]) })
	m.mu.Unlock()
	usable := func(node string) bool {
		return m.Up(node) && !m.cfg.Net.InDoubt(node)
	}
	return homesFor(v, peers, usable)
}

// homesFor is step 2's rule.
func homesFor(v moving, peers []Peer, usable func(node string) bool) []Peer {
	held, left, rule := make(map[string]bool), "", policy.Of(v.entry.Policy)
	for _, p := range peers {
		if slices.Contains(v.stay, p.ID) {
			held[rule.Fails(p.Place())] = true
		}
		if len(v.going) > 0 && p.ID == v.going[0] {
			left = p.Region
		}
	}
	fit := slices.DeleteFunc(slices.Clone(peers), func(p Peer) bool {
		return !p.Takes() || !v.entry.MayLie(p) || v.entry.Holds(p.ID) || !usable(p.ID)
	})
	score := func(p Peer) float64 {
		h := fnv.New64a()
		_, _ = h.Write([]byte(v.entry.ID.String() + p.ID)) // a hash never fails
		return rendezvous(h.Sum64(), p.Weight)
	}
	slices.SortFunc(fit, func(a, b Peer) int {
		return cmp.Or(last(held[rule.Fails(a.Place())], held[rule.Fails(b.Place())]), last(a.Region != left, b.Region != left), cmp.Compare(score(a), score(b)))
	})
	return fit
}

// takeOut is steps 4 and 5.
func (m *Manager) takeOut(v moving) error {
	replies, whole := m.askAll(v.entry)
	// Of several that leave one that is not whole goes first, then a damaged one: what is whole is wanted longest.
	going := slices.Clone(v.going)
	slices.SortStableFunc(going, func(a, b string) int {
		return cmp.Or(last(replies[a].Complete, replies[b].Complete), last(!replies[a].Damaged, !replies[b].Damaged))
	})
	others := whole
	if replies[going[0]].Complete {
		others--
	}
	if others < v.entry.Wanted() && (whole > 0 || !m.gone(v.entry)) {
		return errNotYet
	}
	if err := m.mayGo(v.entry, going[0], replies); err != nil {
		return fmt.Errorf("take out the copy on %s: %w", going[0], err)
	}
	ctx, stop := context.WithTimeout(m.ctx, directoryWait)
	defer stop()
	e, err := m.cfg.Directory.RemoveCopy(ctx, v.entry, going[0])
	if errors.Is(err, wire.ErrInvalid) {
		return errNotYet
	}
	if err != nil {
		return fmt.Errorf("take out the copy on %s: %w", going[0], err)
	}
	m.noteEntry(e)
	m.stats.moves.Add(1)
	m.log.Info("copy has moved", "volume", e.ID, "from", going[0], "copies", e.Copies)
	return nil
}

// askAll is step 4: what the nodes of an entry say of their copies, and how many are as long as they should be.
func (m *Manager) askAll(e Entry) (replies map[string]wholeReply, whole int) {
	replies = make(map[string]wholeReply, len(e.Copies))
	for _, node := range e.Copies {
		replies[node] = m.askWhole(node, e, wholeRequest{})
		if replies[node].Complete {
			whole++
		}
	}
	return replies, whole
}

// gone says that every node with a copy of a sealed volume answers, and none has a file: there is nothing that could be moved.
func (m *Manager) gone(e Entry) bool {
	replies, silent := m.fenceOthers(m.ctx, e, false)
	if silent != nil {
		return false
	}
	if e.Holds(m.cfg.ID) {
		own, err := m.fenceHere(e.ID, e.Epoch)
		if err != nil {
			return false
		}
		replies = append(replies, &own)
	}
	return vanished(replies)
}

// removeMoved is step 6, for files whose entry names others. It runs in the repairer (M2).
func (m *Manager) removeMoved(state *mending) {
	now := time.Now()
	unnamed := m.unnamed()
	for id := range state.unnamed {
		if _, still := unnamed[id]; !still {
			delete(state.unnamed, id)
		}
	}
	for id := range unnamed {
		since, seen := state.unnamed[id]
		if !seen {
			state.unnamed[id] = now
		}
		if !seen || now.Sub(since) < removedAfter {
			continue
		}
		asked, err := m.removeOne(id)
		if !asked {
			m.log.Debug("copies that their entries do not name stay for now", "err", err)
			return
		}
		if err != nil {
			state.unnamed[id] = now.Add(mendEvery)
			m.log.Info("copy that its entry does not name stays for now", "volume", id, "err", err)
		}
	}
}

// unnamed are the files of sealed volumes whose entries do not name this node. A cold volume's whole copies are package cold's.
func (m *Manager) unnamed() map[volume.ID]Entry {
	out := make(map[volume.ID]Entry)
	ids := m.cfg.Volumes.List()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range ids {
		e, known := m.entries[id]
		_, sealing := m.sealing[id]
		if known && e.State == Sealed && e.Cold == nil && !e.Holds(m.cfg.ID) && !sealing && m.own[id] == nil && m.followers[id] == nil {
			out[id] = e
		}
	}
	return out
}

// removeOne says whether the directory could be asked.
func (m *Manager) removeOne(id volume.ID) (asked bool, err error) {
	ctx, stop := context.WithTimeout(m.ctx, directoryWait)
	defer stop()
	e, known, err := m.cfg.Directory.Volume(ctx, id)
	if err != nil {
		return false, fmt.Errorf("ask the directory: %w", err)
	}
	if !known {
		return true, nil // sweep has a rule for those
	}
	if e.State != Sealed || e.Cold != nil || e.Holds(m.cfg.ID) {
		m.noteEntry(e)
		return true, nil
	}
	if e.Length > 0 {
		replies, whole := m.askAll(e)
		if whole < min(e.Wanted(), max(len(e.Copies), 2)) {
			return true, fmt.Errorf("%d of its copies on %v are known to be whole", whole, e.Copies)
		}
		if err := m.mayGo(e, m.cfg.ID, replies); err != nil {
			return true, err
		}
	}
	if err := m.remove(id); err != nil {
		return true, err
	}
	m.log.Info("copy removed that moved to others", "volume", id, "copies", e.Copies)
	return true, nil
}

// Holding is what the directory has on one node: copies of volumes, open ones too, and fragments of cold ones, and about how many bytes these are. Of open
// volumes the length is not known.
type Holding struct {
	Node      string `cbor:"1,keyasint"`
	Copies    int    `cbor:"2,keyasint,omitempty"`
	Fragments int    `cbor:"3,keyasint,omitempty"`
	Bytes     int64  `cbor:"4,keyasint,omitempty"`
}

// Holdings adds up entries, by nodes. A node that is in none of them can be switched off for good, if these were all.
type Holdings map[string]*Holding

// Add counts one more entry.
func (h Holdings) Add(e Entry) {
	for _, node := range e.Copies {
		on := h.of(node)
		on.Copies++
		on.Bytes += e.Length
	}
	if e.Cold == nil {
		return
	}
	for _, node := range e.Cold.Nodes {
		on := h.of(node)
		on.Fragments++
		on.Bytes += e.Length / int64(max(e.Cold.Data, 1))
	}
}

func (h Holdings) of(node string) *Holding {
	if h[node] == nil {
		h[node] = &Holding{Node: node}
	}
	return h[node]
}
