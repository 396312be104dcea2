package replica

import (
	"context"
	"time"

	"hongyan/cluster/wire"
	"hongyan/engine/volume"
)

// Early is a record that is durable on this node's disk, and on its way to the other copies ("Delivery in one round trip" in
// docs/architecture.md). Wait must be called.
type Early struct {
	Ref volume.Ref

	m      *Manager
	p      *primary
	bytes  uint64
	began  time.Time
	copies chan error // capacity one
	stop   context.CancelFunc
}

// PutEarly is steps 1 and 2: it appends on this node as primary and comes back when the record is durable here. nil: it does not pay, or
// cannot be done at once, and the blob is to be stored with Put. meta must not change afterwards.
func (m *Manager) PutEarly(ctx context.Context, to Place, kind volume.Kind, meta []byte, b *volume.Blob) *Early {
	p := m.earlyVolume(to, meta, b)
	if p == nil {
		return nil
	}
	hold, err := b.Stored() // the owner may close the blob as soon as it is stored elsewhere
	if err != nil {
		return nil
	}
	if err := p.begin(); err != nil {
		_ = hold.Close() // read by nobody: it cannot have failed
		return nil
	}
	ctx, stop := context.WithCancel(ctx)
	e := &Early{m: m, p: p, bytes: b.Length(), began: time.Now(), copies: make(chan error, 1), stop: stop}
	here := make(chan error, 1)
	go func() {
		defer p.end()
		ref, end, err := p.vol.Append(ctx, kind, meta, b)
		_ = hold.Close()
		if err != nil {
			if volumeEnded(err) {
				p.fence(err)
			}
			here <- err
			return
		}
		e.Ref = ref
		here <- nil
		e.copies <- p.await(ctx, end)
	}()
	if err := e.patiently(ctx, here); err != nil {
		stop()
		m.stats.appendRetries.Add(1)
		return nil
	}
	return e
}

// earlyVolume is the volume that an append would go to, if it is one that early entries are for: one with two copies, since a record that is on the disks
// of two is within its sealed length then (spread.go).
func (m *Manager) earlyVolume(to Place, meta []byte, b *volume.Blob) *primary {
	if m.cfg.Volumes == nil || classOf(b) != volume.ClassSmall || len(meta) > maxMeta || b.Length() > m.cfg.MaxBlob {
		return nil
	}
	list := m.candidates(to, volume.ClassSmall)
	if len(list) == 0 || list[0].slow || len(list[0].p.others) > 1 || m.yields(to.Policy) {
		return nil
	}
	if _, pass := m.passTo(); pass {
		return nil
	}
	if rtt, up := m.cfg.Net.RTT(list[0].p.partner); !up || rtt < m.cfg.EarlyFrom {
		return nil
	}
	return list[0].p
}

// Wait is step 4's first half: nil once every copy is durable past the record. After an error the bytes are to be put again: the volume was
// fenced, or does not get on.
func (e *Early) Wait(ctx context.Context) error {
	defer e.stop()
	if err := e.patiently(ctx, e.copies); err != nil {
		e.m.stats.appendRetries.Add(1)
		return err
	}
	e.m.stats.earlyAppends.Add(1)
	e.m.stats.appended(time.Since(e.began), e.bytes)
	return nil
}

// patiently waits for an answer as long as the volume gets on.
func (e *Early) patiently(ctx context.Context, answer <-chan error) error {
	slow := e.m.cfg.AckTimeout / slowAfter
	tick := time.NewTicker(slow / 3)
	defer tick.Stop()
	for {
		select {
		case err := <-answer:
			return err
		case now := <-tick.C:
			if l, _ := e.p.load(now); l.stalled > slow {
				return wire.Errorf(wire.Unavailable, "volume %s made no progress for %s", e.p.entry.ID, l.stalled)
			}
		case <-ctx.Done():
			return wire.FromError(ctx.Err())
		}
	}
}
