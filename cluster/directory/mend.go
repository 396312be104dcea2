package directory

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"hongyan/cluster/placement"
	"hongyan/cluster/policy"
	"hongyan/cluster/replica"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// spare is how far behind the highest number seen the next one is given: one that nobody has seen may be on a disk that is gone.
const spare = 1000

// Found is a volume's file that was found where the directory was lost.
type Found struct {
	Header volume.Header `cbor:"1,keyasint"`
	Length int64         `cbor:"2,keyasint"`
	Nodes  []string      `cbor:"3,keyasint,omitempty"` // where whole copies were found, as far as that is known
	// Cold says where its fragments are, if there is no whole copy any more.
	Cold *replica.Cold `cbor:"4,keyasint,omitempty"`
}

// EachAccount calls fn for every account.
func EachAccount(v *index.View, fn func(a *Account) error) error { return each(v, accountTable, fn) }

// Opened is the highest number of a volume that a directory gave.
func Opened(v *index.View) (volume.ID, error) {
	c, err := loadIf[counters](v, []byte(counterKey))
	return volume.ID(c.Volume), err
}

// EachVolume calls fn for every volume.
func EachVolume(v *index.View, fn func(e *replica.Entry) error) error {
	return each(v, volumeTable, fn)
}

// Unsure says whether a directory that goes on from a survivor may not know all volumes yet.
func Unsure(v *index.View) (bool, error) {
	_, err := load[RecoveryNote](v, numberKey(recoveryTable, uint64(placement.DirectoryShard)))
	if errors.Is(err, errNoRecord) {
		return false, nil
	}
	return err == nil, err
}

// Mend brings a directory that was loaded from a checkpoint up to date with the volumes that were found, and numbers new accounts
// and volumes behind those that were seen. It says how many volumes it entered. Those are open: their nodes seal them. There are no
// mailbox shards but those of groups; accounts in moved are in the shard that it says, and none is on its way.
func Mend(t *index.Txn, found []Found, lastAccount uint64, groups []placement.Group, moved map[uint64]uint32) (entered int, err error) {
	var lastVolume uint64
	for _, f := range found {
		lastVolume = max(lastVolume, uint64(f.Header.ID))
		added, err := mendVolume(t, f)
		if err != nil {
			return 0, err
		}
		if added {
			entered++
		}
	}
	if err := forget(t, nodeTable, groupTable, shardTable, relocationTable, recoveryTable); err != nil { // the cluster is founded again
		return 0, err
	}
	if err := mendAccounts(t, groups, moved); err != nil {
		return 0, err
	}
	return entered, count(t, func(c *counters) {
		c.Topology, c.Waiting = 0, 0 // none
		c.Volume = max(c.Volume, lastVolume) + spare
		c.Account = max(c.Account, lastAccount) + spare
	})
}

// mendAccounts enters the shards, and where accounts are.
func mendAccounts(t *index.Txn, groups []placement.Group, moved map[uint64]uint32) error {
	counts := make(map[uint32]uint64)
	var change []Account
	err := each(t, accountTable, func(a *Account) error {
		if to, ok := moved[a.ID]; ok {
			a.Shard = to
			change = append(change, *a)
		}
		counts[a.Shard]++
		return nil
	})
	for _, a := range change {
		err = errors.Join(err, save(t, []byte(accountTable+a.Address), &a))
	}
	for _, g := range groups {
		if g.Shard != placement.DirectoryShard {
			err = errors.Join(err, save(t, numberKey(shardTable, uint64(g.Shard)), &Shard{Number: g.Shard, Home: g.Home, Accounts: counts[g.Shard]}))
		}
	}
	return err
}

// forget empties tables.
func forget(t *index.Txn, tables ...string) error {
	var keys [][]byte
	for _, table := range tables {
		err := t.Scan([]byte(table), func(key, _ []byte) error {
			keys = append(keys, bytes.Clone(key))
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, key := range keys {
		if err := t.Delete(key); err != nil {
			return err
		}
	}
	return nil
}

// mendVolume enters a volume that the table lacks, or the generation that was agreed to after the checkpoint.
func mendVolume(t *index.Txn, f Found) (added bool, err error) {
	key := numberKey(volumeTable, uint64(f.Header.ID))
	e, err := load[replica.Entry](t, key)
	switch {
	case errors.Is(err, errNoRecord):
		e = replica.Entry{ID: f.Header.ID, Epoch: max(f.Header.Epoch, 1), Primary: f.Header.Primary, Copies: f.Header.Copies, Class: f.Header.Class}
		p, err := policy.Decode(f.Header.Policy)
		if err != nil {
			return false, fmt.Errorf("volume %s: %w", e.ID, err)
		}
		e.Policy = p.Stored()
		added = true
	case err != nil:
		return false, err
	case f.Cold != nil && e.Cold == nil && e.Generation <= f.Header.Generation: // it turned cold after the checkpoint
	case e.Generation >= f.Header.Generation:
		if copies := foundOn(e, f.Nodes); !slices.Equal(copies, e.Copies) {
			return false, save(t, key, nameCopies(e, copies))
		}
		return false, nil
	}
	if f.Header.Generation > 0 || f.Cold != nil { // only sealed volumes are compacted, or turn cold
		e.State, e.Length, e.Generation = replica.Sealed, f.Length, f.Header.Generation
		e.Attempt = max(e.Attempt, f.Header.Generation)
		e.SealedAt = max(e.SealedAt, f.Header.Created)
		e.Epoch++
	}
	if f.Cold != nil {
		e.Copies, e.Cold = nil, f.Cold
		e.Attempt++ // as when it was frozen
	}
	return added, save(t, key, nameCopies(e, foundOn(e, f.Nodes)))
}

// foundOn gives the copies of an entry by where files were found: copies move, so the checkpoint, or a file's header, may name others. Where two
// were found the rest is forgotten; else those that are named stay, to be filled from what was found.
func foundOn(e replica.Entry, nodes []string) []string {
	moved := slices.DeleteFunc(slices.Clone(nodes), func(node string) bool { return e.Holds(node) })
	if e.Cold != nil || len(moved) == 0 {
		return e.Copies
	}
	copies := append(slices.Clone(e.Copies), moved...)
	if len(nodes) >= 2 {
		copies = slices.DeleteFunc(copies, func(node string) bool { return !slices.Contains(nodes, node) })
	}
	return copies[:min(len(copies), e.MaxCopies())]
}

func nameCopies(e replica.Entry, copies []string) *replica.Entry {
	if e.Copies = copies; len(copies) > 0 && !e.Holds(e.Primary) {
		e.Primary = copies[0]
	}
	return &e
}
