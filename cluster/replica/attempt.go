package replica

import (
	"context"
	"errors"
	"slices"
	"time"

	"hongyan/cluster/wire"
	"hongyan/engine/volume"
)

// attempts is one append's way through the volumes. Only its caller's goroutine touches the fields.
type attempts struct {
	m     *Manager
	to    Place
	class uint8
	kind  volume.Kind
	meta  []byte
	blob  *volume.Blob

	tried   map[*primary]bool // every volume that was asked; true while its answer is out
	out     int               // answers that are out
	reasons error
}

type outcome struct {
	p   *primary
	ref volume.Ref
	err error
}

// run asks one volume after the other. The first success counts.
func (a *attempts) run(ctx context.Context) (volume.Ref, error) {
	outcomes := make(chan outcome, 1) // one ask per volume and answer, read or abandoned with ctx
	tick := time.NewTicker(a.m.cfg.AckTimeout / (3 * slowAfter))
	defer tick.Stop()
	a.next(ctx, outcomes, true)
	for a.out > 0 {
		select {
		case o := <-outcomes:
			if o.err == nil {
				return o.ref, nil
			}
			if ctx.Err() != nil || !retryable(o.err) {
				return volume.Ref{}, o.err
			}
			a.failed(o)
			if a.out == 0 {
				a.next(ctx, outcomes, true)
			}
		case now := <-tick.C:
			if a.m.cfg.Net.InDoubt(a.m.cfg.ID) {
				return volume.Ref{}, wire.Errorf(wire.Unavailable, "append on %s: the node ails: %v", a.m.cfg.ID, a.reasons)
			}
			stalled, doubtful := a.stalled(now)
			switch {
			case stalled > a.m.cfg.AckTimeout/slowAfter && a.next(ctx, outcomes, false):
				a.m.stats.appendHedges.Add(1)
			case stalled > 2*a.m.cfg.AckTimeout, doubtful && a.m.othersSound():
				return volume.Ref{}, wire.Errorf(wire.Unavailable, "append on %s: no progress for %s: %v", a.m.cfg.ID, stalled, a.reasons)
			}
		case <-ctx.Done():
			return volume.Ref{}, wire.FromError(ctx.Err())
		}
	}
	return volume.Ref{}, a.exhausted()
}

// next asks the best volume that was not asked yet, a small one if there is none of the class. One that makes no progress
// itself is asked only if it must be.
func (a *attempts) next(ctx context.Context, outcomes chan<- outcome, must bool) bool {
	list := a.m.candidates(a.to, a.class)
	if a.class != volume.ClassSmall {
		list = append(list, a.m.candidates(a.to, volume.ClassSmall)...)
	}
	for _, c := range list {
		if _, asked := a.tried[c.p]; asked || c.slow && !must {
			continue
		}
		a.ask(ctx, c.p, outcomes)
		return true
	}
	return false
}

// ask begins an attempt. It holds on to the blob, whose owner may close it as soon as another attempt has succeeded.
func (a *attempts) ask(ctx context.Context, p *primary, outcomes chan<- outcome) {
	a.tried[p] = true
	a.out++
	hold, holdErr := a.blob.Stored()
	go func() {
		o := outcome{p: p, err: holdErr}
		if holdErr == nil {
			o.ref, o.err = p.append(ctx, a.kind, a.meta, a.blob)
			_ = hold.Close() // read by nobody: it cannot have failed
		}
		select {
		case outcomes <- o:
		case <-ctx.Done():
		}
	}()
}

func (a *attempts) failed(o outcome) {
	a.tried[o.p] = false
	a.out--
	a.reasons = errors.Join(a.reasons, o.err)
	a.m.stats.appendRetries.Add(1)
}

// stalled is for how long none of the volumes asked has made progress, and whether each has a copy on a node in doubt.
func (a *attempts) stalled(now time.Time) (least time.Duration, doubtful bool) {
	least, doubtful = -1, true
	for p, out := range a.tried {
		if !out {
			continue
		}
		l, _ := p.load(now)
		if least < 0 || l.stalled < least {
			least = l.stalled
		}
		doubtful = doubtful && l.doubtful
	}
	return least, doubtful
}

// othersSound says that another node that stores mail is not in doubt: it may have a volume that gets on.
func (m *Manager) othersSound() bool {
	return slices.ContainsFunc(m.peerIDs(), func(node string) bool { return node != m.cfg.ID && !m.cfg.Net.InDoubt(node) })
}

// exhausted is the error when every volume has failed.
func (a *attempts) exhausted() error {
	if err := a.m.full.reason(); err != nil {
		return wire.Errorf(wire.Full, "append on %s: %v", a.m.cfg.ID, err)
	}
	reasons := a.reasons
	if reasons == nil {
		reasons = a.m.noVolume(a.to.Policy)
	}
	return wire.Errorf(wire.Unavailable, "append on %s: %v", a.m.cfg.ID, reasons)
}

// retryable says whether another volume may do better.
func retryable(err error) bool {
	return volumeEnded(err) || errors.Is(err, wire.ErrSealed) || errors.Is(err, wire.ErrFull) ||
		errors.Is(err, wire.ErrUnavailable) || errors.Is(err, wire.ErrDeadline)
}
