package directory

import (
	"context"
	"errors"

	"hongyan/cluster/placement"
	"hongyan/cluster/replica"
	"hongyan/engine/codec"
	"hongyan/engine/index"
)

// fenced is the incarnation of a node that was given up for ever. No data folder has that name, so that whatever it comes back with is other data than it is
// known with: an empty disk is taken as such, anything else by `hongyan admin node replace` only.
const fenced = "fenced"

// recoveryShift is where the version of a topology counts recoveries: one that holds a recovery is newer than any of the past that it gave up.
const recoveryShift = 32

// Fenced says that the node was given up for ever, with what it had.
func (n *Node) Fenced() bool { return n.Incarnation == fenced }

// Fenced lists the nodes that were given up for ever, removed ones as well.
func (t *Topology) Fenced() (ids []string) {
	for _, n := range t.Nodes {
		if n.Fenced() {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

// Recoveries counts how often shards were recovered without their majority.
func (t *Topology) Recoveries() uint64 { return t.Version >> recoveryShift }

// Recover gives nodes up for ever. Behind: the directory itself is that of a survivor, and numbers of accounts and volumes may have been given that it does not know.
type Recover struct {
	Lost   []string `cbor:"1,keyasint"`
	Behind bool     `cbor:"2,keyasint,omitempty"`
}

// EnterFound enters volumes that were found on disks and that the directory does not know, or not in the generation that was found.
type EnterFound struct {
	Found []Found `cbor:"1,keyasint"`
}

// RecoveryNote is what is left to do for a shard that goes on from a survivor: to look for messages that arrived in a time, or of the directory itself for volumes
// that were opened after the survivor's last entry. Until then it is not certain that one which it does not know is gone.
type RecoveryNote struct {
	Shard   uint32 `cbor:"1,keyasint"`
	Since   int64  `cbor:"2,keyasint,omitempty"` // unix seconds
	Until   int64  `cbor:"3,keyasint"`
	Certain bool   `cbor:"4,keyasint,omitempty"` // what the shard neither has nor remembers of that time was never entered
	// Hold is until when the shard keeps what it entered in vain (package settle), whose bytes may be found elsewhere, in unix seconds. 0: that is over, and what it had may be gone.
	Hold int64 `cbor:"5,keyasint,omitempty"`
}

// holdMargin is by how many seconds clocks may differ.
const holdMargin = 120

// Held says whether the shard keeps what it entered in vain.
func (n *RecoveryNote) Held(now int64) bool { return n.Hold > now }

// SurelyHeld says whether it has kept all of that, by whichever node's clock.
func (n *RecoveryNote) SurelyHeld(now int64) bool { return n.Held(now + holdMargin) }

// NoteRecovery enters such notes, or changes them, and takes out those of shards for which that was done. A hold that is over does not begin again.
type NoteRecovery struct {
	Notes []RecoveryNote `cbor:"1,keyasint,omitempty"`
	Done  []uint32       `cbor:"2,keyasint,omitempty"`
}

func noteRecovery(t *index.Txn, now int64, c *NoteRecovery) (*Result, error) {
	for i := range c.Notes {
		key := numberKey(recoveryTable, uint64(c.Notes[i].Shard))
		old, err := load[RecoveryNote](t, key)
		if err != nil && !errors.Is(err, errNoRecord) {
			return nil, err
		}
		n := c.Notes[i]
		if err == nil { // of a recovery that was interrupted, before another one
			n.Since, n.Certain = min(n.Since, old.Since), n.Certain && old.Certain
			if !old.SurelyHeld(now) {
				n.Hold = 0
			}
		}
		if err := save(t, key, &n); err != nil {
			return nil, err
		}
	}
	for _, number := range c.Done {
		if err := t.Delete(numberKey(recoveryTable, uint64(number))); err != nil {
			return nil, err
		}
	}
	return &Result{}, nil
}

func recoverFrom(t *index.Txn, now int64, c *Recover) (*Result, error) {
	changed := c.Behind
	for _, id := range c.Lost {
		n, err := load[Node](t, []byte(nodeTable+id))
		if errors.Is(err, errNoRecord) {
			return nil, refuse("node %s is no member", id)
		}
		if err != nil {
			return nil, err
		}
		if n.Fenced() {
			continue
		}
		n.Incarnation, n.Emptied, n.Lost, n.Since, changed = fenced, "", true, now, true
		if err := save(t, []byte(nodeTable+id), &n); err != nil {
			return nil, err
		}
	}
	if !changed {
		return &Result{}, nil
	}
	return &Result{}, count(t, func(known *counters) {
		if c.Behind {
			known.Volume += spare
			known.Account += spare
		}
		known.Topology += 1 << recoveryShift
	})
}

func enterFound(t *index.Txn, c *EnterFound) (*Result, error) {
	for _, f := range c.Found {
		key := numberKey(volumeTable, uint64(f.Header.ID))
		e, err := load[replica.Entry](t, key)
		if err != nil && !errors.Is(err, errNoRecord) {
			return nil, err
		}
		if err == nil && e.Generation >= f.Header.Generation {
			continue
		}
		if _, err := mendVolume(t, f); err != nil {
			return nil, err
		}
	}
	return &Result{}, nil
}

// EncodeBehind are the bodies of the first commands of a directory that goes on from a survivor: it cannot be asked yet.
func EncodeBehind(lost []string, now int64) (bodies [][]byte, err error) {
	note := RecoveryNote{Shard: placement.DirectoryShard, Until: now}
	for _, c := range []Command{{Recover: &Recover{Lost: lost, Behind: true}}, {NoteRecovery: &NoteRecovery{Notes: []RecoveryNote{note}}}} {
		body, err := codec.Marshal(&c)
		if err != nil {
			return nil, err
		}
		bodies = append(bodies, body)
	}
	return bodies, nil
}

// Recover gives nodes up for ever.
func (s *Service) Recover(ctx context.Context, c Recover) error {
	_, err := s.propose(ctx, &Command{Recover: &c})
	return err
}

// EnterFound enters volumes that the directory does not know.
func (s *Service) EnterFound(ctx context.Context, found []Found) error {
	_, err := s.propose(ctx, &Command{EnterFound: &EnterFound{Found: found}})
	return err
}

// NoteRecoveries enters what is to be looked for.
func (s *Service) NoteRecoveries(ctx context.Context, notes []RecoveryNote) error {
	_, err := s.propose(ctx, &Command{NoteRecovery: &NoteRecovery{Notes: notes}})
	return err
}

// ForgetRecovery says that it was looked for.
func (s *Service) ForgetRecovery(ctx context.Context, shard uint32) error {
	_, err := s.propose(ctx, &Command{NoteRecovery: &NoteRecovery{Done: []uint32{shard}}})
	return err
}

// RecoveryNotes lists what is left to be looked for, as this node's replica has it.
func (s *Service) RecoveryNotes() ([]RecoveryNote, error) {
	return list[RecoveryNote](s, recoveryTable)
}

// Accounts lists all accounts, as this node's replica has them.
func (s *Service) Accounts() ([]Account, error) { return list[Account](s, accountTable) }

// AccountOf gives the account of a number as this node's replica has it.
func (s *Service) AccountOf(id uint64) (a Account, known bool, err error) {
	v, err := s.view()
	if err != nil {
		return a, false, err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	address, known, err := v.Get(numberKey(idTable, id))
	if err == nil && known {
		a, err = loadIf[Account](v, []byte(accountTable+string(address)))
	}
	return a, known && a.ID == id, err
}
