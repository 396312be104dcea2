package cold

import (
	"context"
	"errors"
	"fmt"

	"hongyan/cluster/replica"
	"hongyan/engine/cold"
	"hongyan/engine/keys"
	"hongyan/engine/volume"
)

// What lies beside the fragments of a volume: its record index, and if it is encrypted its keys. Every node with a fragment has both, and each is the
// backup of the others: what is gone or damaged here is fetched from one of them.

// attach keeps what belongs to a volume's fragments, if it is of use.
func (m *Manager) attach(a *attachment) error {
	if err := volume.CheckIndex(a.Index, a.Volume, a.Generation); err != nil {
		return err
	}
	m.views.forget(a.Volume)
	return m.cfg.Fragments.Attach(a.Volume, a.Generation, a.Index, a.Keys)
}

// beside gives what this node has beside the fragments of a volume, which may be no keys. What is damaged is no good to others.
func (m *Manager) beside(id volume.ID, generation uint32) (*attachment, error) {
	index, secret, err := m.cfg.Fragments.Attached(id, generation)
	if err == nil {
		err = volume.CheckIndex(index, id, generation)
	}
	if err != nil {
		return nil, m.noteDamage(id, err)
	}
	return &attachment{Volume: id, Generation: generation, Index: index, Keys: secret}, nil
}

// attached is beside for who is to have the same: all of it or an error.
func (m *Manager) attached(ctx context.Context, e replica.Entry) (*attachment, error) {
	a, err := m.beside(e.ID, e.Generation)
	if err != nil {
		return nil, err
	}
	if a.Keys == nil {
		switch encrypted, err := m.encrypted(ctx, e); {
		case err != nil:
			return nil, err
		case encrypted:
			return nil, fmt.Errorf("the keys of cold volume %s are not on this node: they have to come back from another first", e.ID)
		}
	}
	return a, nil
}

// encrypted looks into the header of a cold volume, through its fragments.
func (m *Manager) encrypted(ctx context.Context, e replica.Entry) (bool, error) {
	m.mu.Lock()
	_, plain := m.plain[e.ID]
	m.mu.Unlock()
	if plain {
		return false, nil
	}
	r, err := m.reader(e, bulkSilence)
	if err != nil {
		return false, err
	}
	block, err := firstBlock(ctx, e, r)
	if err != nil {
		return false, err
	}
	h, err := volume.DecodeHeader(block)
	if err != nil {
		return false, fmt.Errorf("header block: %w", err)
	}
	if !h.Encrypted {
		m.mu.Lock()
		m.plain[e.ID] = struct{}{}
		m.mu.Unlock()
	}
	return h.Encrypted, nil
}

// rebuildAttached fetches what is missing beside the fragments of this node, or was found damaged there.
func (m *Manager) rebuildAttached(e replica.Entry) error {
	m.mu.Lock()
	_, suspect := m.suspect[e.ID]
	m.mu.Unlock()
	if suspect {
		if err := m.mendBeside(e); err != nil {
			return err
		}
	}
	lost := !m.cfg.Fragments.HasAttached(e.ID, e.Generation)
	if !lost {
		missing, err := m.cfg.Fragments.KeysMissing(e.ID)
		if err == nil && missing {
			lost, err = m.encrypted(m.ctx, e)
		}
		if err != nil {
			return err
		}
	}
	if !lost {
		return nil
	}
	a, err := m.fetchAttachment(e)
	if err != nil {
		return err
	}
	if err := m.attach(a); err != nil {
		return err
	}
	m.log.Info("index and keys fetched from another node", "volume", e.ID)
	return nil
}

// fetchAttachment gets index and keys from another node that has fragments. One that lost the keys of an encrypted volume is no source.
func (m *Manager) fetchAttachment(e replica.Entry) (*attachment, error) {
	encrypted, err := m.encrypted(m.ctx, e)
	if err != nil {
		return nil, fmt.Errorf("fetch index and keys: %w", err)
	}
	var reasons error
	for _, node := range e.Sources() {
		if node == m.cfg.ID || !m.up(node) {
			continue
		}
		ctx, stop := context.WithTimeout(m.ctx, callTimeout)
		var a attachment
		err := m.cfg.Net.Call(ctx, node, methodFetch, &fetchRequest{Volume: e.ID, Generation: e.Generation}, &a)
		stop()
		switch {
		case err != nil:
		case a.Volume != e.ID || a.Generation != e.Generation:
			err = fmt.Errorf("it answered for volume %s, generation %d", a.Volume, a.Generation)
		case encrypted && a.Keys == nil:
			err = errors.New("it has no keys")
		default:
			if err = volume.CheckIndex(a.Index, e.ID, e.Generation); err == nil {
				return &a, nil
			}
		}
		reasons = errors.Join(reasons, fmt.Errorf("%s: %w", node, err))
	}
	return nil, fmt.Errorf("fetch index and keys: %w", errors.Join(reasons, errors.New("no node that is up has them: bring back a node or disk with fragments of the volume")))
}

// mendBeside looks for damage in all that lies beside the fragments of this node. What is missing is rebuildAttached's.
func (m *Manager) mendBeside(e replica.Entry) error {
	if err := m.mendKeys(e); err != nil {
		return err
	}
	if err := m.mendIndex(e); err != nil {
		return err
	}
	m.mu.Lock()
	delete(m.suspect, e.ID)
	m.mu.Unlock()
	return nil
}

// mendIndex has a record index that is of no use made anew from another node's.
func (m *Manager) mendIndex(e replica.Entry) error {
	found := m.cfg.Fragments.CheckIndex(e.ID, e.Generation)
	if found == nil || errors.Is(found, cold.ErrNotFound) {
		return nil
	}
	a, err := m.fetchAttachment(e)
	if err == nil {
		err = m.attach(a)
	}
	if err != nil {
		return fmt.Errorf("mend the index beside fragments: %w", err)
	}
	m.log.Warn("index beside fragments mended", "volume", e.ID, "found", found)
	return nil
}

// mendKeys looks for damage in the key file beside the fragments of this node. Damaged sectors are mended in place, so that what is destroyed in others stays so;
// a file that cannot be used at all is made anew.
func (m *Manager) mendKeys(e replica.Entry) error {
	var found []int64
	err := m.cfg.Fragments.UseKeys(e.ID, func(f *keys.File) (err error) {
		found, err = f.Damage()
		return err
	})
	unusable := cold.KeysDamaged(err)
	if errors.Is(err, cold.ErrNotFound) || errors.Is(err, cold.ErrNoMaster) { // the one is rebuildAttached's, of the other every read tells
		err = nil
	}
	if unusable || len(found) > 0 {
		err = m.replaceKeys(e, found, unusable)
	}
	return err
}

func (m *Manager) replaceKeys(e replica.Entry, found []int64, unusable bool) error {
	a, err := m.fetchAttachment(e)
	if err == nil && unusable {
		err = m.attach(a)
	} else if err == nil {
		err = m.cfg.Fragments.UseKeys(e.ID, func(f *keys.File) error {
			_, err := f.Mend(a.Keys)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("mend the keys beside fragments: %w", err)
	}
	m.log.Warn("keys beside fragments mended", "volume", e.ID, "places", len(found), "anew", unusable)
	return nil
}

// noteDamage has what lies beside the fragments mended soon if it is that that an error is about.
func (m *Manager) noteDamage(id volume.ID, err error) error {
	if cold.KeysDamaged(err) || errors.Is(err, volume.ErrIndex) {
		m.suspectBeside(id)
	}
	return err
}

func (m *Manager) suspectBeside(id volume.ID) {
	m.mu.Lock()
	m.suspect[id] = struct{}{}
	m.mu.Unlock()
	m.kick()
}
