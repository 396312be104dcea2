package rehouse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"hongyan/cluster/client"
	"hongyan/cluster/cold"
	"hongyan/cluster/directory"
	"hongyan/cluster/feature"
	"hongyan/cluster/pause"
	"hongyan/cluster/placement"
	"hongyan/cluster/policy"
	"hongyan/cluster/replica"
	"hongyan/cluster/shard"
	"hongyan/cluster/transport"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// Pace of the work.
const (
	idlePause      = 30 * time.Second
	changedPause   = 2 * time.Second // after a change of the directory, and restTimes as long as the last look took, up to idlePause
	restTimes      = 50
	busyPause      = 20 * time.Millisecond
	again          = 24 * time.Hour // until a volume is gone through anew that had nothing to move
	lateFor        = time.Minute    // after a change of policies, in which mail may still come under the old ones
	atOnce         = 4              // records
	batch          = 256            // records between two looks at the policies
	mostHolders    = 10_000         // references to one record that are changed together
	bytesPerSecond = 16 << 20
	longestRest    = time.Second // after a step, as long as that took
	complain       = time.Minute // between two lines in the log about what does not get on
	checkEvery     = 1024        // references
)

// Door is what this package needs of the cluster's mailboxes; it is a *client.Client.
type Door interface {
	Entry(ctx context.Context, a client.Account, folder, uid uint32) (client.Message, error)
	Amend(ctx context.Context, a client.Account, folder uint32, entry index.Amendment) (bool, error)
	AgainUnder(ctx context.Context, to replica.Place, ref client.Ref, meta []byte, from io.Reader) (client.Copied, error)
}

// Config is what a Rehouser needs.
type Config struct {
	Self      string
	Net       *transport.Net
	Host      *shard.Host
	Directory *directory.Service
	Volumes   *volume.Set
	Cold      *cold.Manager
	Door      func() Door
	Paused    func() bool // the operator has stopped what moves
	Log       *slog.Logger
}

// Rehouser is one node's. It works for the shards that the node leads, and answers for the node's copies always.
type Rehouser struct {
	cfg     Config
	rate    *rate.Limiter
	turn    chan struct{} // a record that is put again for another node
	metrics *metrics
	left    left

	// Only Run's goroutine uses what follows.
	done       map[place]look
	sum        string    // of the policies at the last look
	changed    time.Time // when they were first seen
	complained time.Time
}

// place is a volume as a shard refers to it.
type place struct {
	shard  uint32
	volume volume.ID
}

// look is one that found nothing to move.
type look struct {
	sum string // of the policies
	at  time.Time
}

// New makes one and registers what it answers. The network must not serve yet.
func New(cfg Config) *Rehouser {
	r := &Rehouser{cfg: cfg, rate: rate.NewLimiter(bytesPerSecond, bytesPerSecond), turn: make(chan struct{}, atOnce), metrics: newMetrics(), done: make(map[place]look)}
	transport.HandleUnary(cfg.Net, methodPut, r.servePut)
	transport.HandleUnary(cfg.Net, methodStatus, r.serveStatus)
	return r
}

// Run works until ctx ends.
func (r *Rehouser) Run(ctx context.Context) {
	for ctx.Err() == nil {
		changed := r.cfg.Directory.Changed()
		began := time.Now()
		moved, err := r.round(ctx)
		if err != nil && ctx.Err() == nil && time.Since(r.complained) > complain {
			r.complained = time.Now()
			r.cfg.Log.Warn("stored mail does not follow its domain's policy now, it is tried again", "err", err)
		}
		if moved {
			pause.For(ctx, busyPause)
			continue
		}
		pause.For(ctx, min(max(changedPause, restTimes*time.Since(began)), idlePause))
		select {
		case <-changed:
		case <-time.After(idlePause):
		case <-ctx.Done():
		}
	}
}

// wishes are the policies of all domains.
type wishes struct {
	of   map[string]policy.Policy // by domain
	keys map[string]bool          // of those
	sum  string                   // differs when one is another
}

func (r *Rehouser) wishes(ctx context.Context) (*wishes, error) {
	list, err := r.cfg.Directory.Domains(ctx)
	if err != nil {
		return nil, err
	}
	w := &wishes{of: make(map[string]policy.Policy, len(list)), keys: make(map[string]bool)}
	var sum strings.Builder
	for _, d := range list {
		p := policy.Of(d.Policy)
		w.of[d.Name], w.keys[p.Key()] = p, true
		if p.Key() != "" {
			fmt.Fprintf(&sum, "%q %q\n", d.Name, p.Key())
		}
	}
	w.sum = sum.String()
	return w, nil
}

// other says whether some domain wants another policy than this one.
func (w *wishes) other(key string) bool { return len(w.keys) > 1 || len(w.keys) == 1 && !w.keys[key] }

// round goes through what the shards that are led here refer to, until it has moved a batch of one volume.
func (r *Rehouser) round(ctx context.Context) (moved bool, err error) {
	led := r.led()
	if len(led) == 0 || r.cfg.Paused() || r.cfg.Directory.Level() < feature.Sharing {
		return false, nil
	}
	w, err := r.wishes(ctx)
	if err != nil {
		return false, err
	}
	if w.sum != r.sum || r.changed.IsZero() {
		r.sum, r.changed = w.sum, time.Now()
	}
	list, err := r.cfg.Directory.Volumes(ctx)
	if err != nil {
		return false, err
	}
	looked := make(map[volume.ID]bool)
	var reasons error
	for i := range list {
		e := &list[i]
		if e.State == replica.Sealed && e.Length == 0 || !w.other(policy.Of(e.Policy).Key()) {
			continue
		}
		looked[e.ID] = true
		for _, g := range led {
			moved, err := r.volume(ctx, g, e, w)
			if err != nil {
				r.left.note(place{g.Shard(), e.ID}, err.Error())
				reasons = errors.Join(reasons, fmt.Errorf("shard %d, volume %s: %w", g.Shard(), e.ID, err))
			}
			if moved || ctx.Err() != nil {
				return moved, reasons
			}
		}
	}
	for _, g := range led {
		r.left.looked(g.Shard(), looked)
		if time.Since(r.changed) > lateFor {
			r.left.all(g.Shard(), w.sum)
		}
	}
	maps.DeleteFunc(r.done, func(p place, _ look) bool { return !looked[p.volume] })
	return false, reasons
}

func (r *Rehouser) led() []*shard.Group {
	return slices.DeleteFunc(r.cfg.Host.Groups(), func(g *shard.Group) bool { return g.Shard() == placement.DirectoryShard || !g.IsLeader() })
}

// volume moves what of one volume a shard has under the wrong policy, up to a batch.
func (r *Rehouser) volume(ctx context.Context, g *shard.Group, e *replica.Entry, w *wishes) (moved bool, err error) {
	at := place{g.Shard(), e.ID}
	if d, ok := r.done[at]; ok && d.sum == w.sum && time.Since(d.at) < again {
		return false, nil
	}
	pieces, whole, err := r.find(ctx, g, e, w)
	if err != nil {
		return false, err
	}
	switch {
	case len(pieces) > 0:
		r.left.note(at, "messages are put elsewhere")
	case !whole:
		r.left.note(at, "the shard may refer to it in vain until it has ended, or an account moves")
	default:
		r.left.note(at, "")
	}
	if len(pieces) == 0 {
		if whole && e.State == replica.Sealed && time.Since(r.changed) > lateFor {
			r.done[at] = look{w.sum, time.Now()}
		}
		return false, nil
	}
	var work errgroup.Group
	work.SetLimit(atOnce)
	count := make([]int, len(pieces))
	for i := range pieces {
		if ctx.Err() != nil {
			break
		}
		work.Go(func() (err error) {
			count[i], err = r.move(ctx, e, &pieces[i])
			return err
		})
	}
	err = work.Wait()
	n := 0
	for _, c := range count {
		n += c
	}
	if n > 0 {
		r.cfg.Log.Info("stored mail was put under its domain's policy", "shard", g.Shard(), "from_volume", e.ID, "messages", n)
	}
	return n > 0, err
}

// piece is a record with the entries that are to be changed together.
type piece struct {
	record  uint64
	to      replica.Place
	holders []holder
}

type holder struct {
	account     client.Account
	folder, uid uint32
}

// find is step 1. whole says that nothing was left out that may have to move later.
func (r *Rehouser) find(ctx context.Context, g *shard.Group, e *replica.Entry, w *wishes) (pieces []piece, whole bool, err error) {
	v := g.View()
	defer func() { err = errors.Join(err, v.Close()) }()
	if early, err := v.IsEarly(e.ID); err != nil || early {
		return nil, false, err // package settle may still remove what refers to it; that ends soon after the volume
	}
	whole = true
	own := policy.Of(e.Policy).Key()
	known := make(map[uint64]*client.Account) // nil: its mail lies as it should, or it is not to be touched
	n := 0
	err = v.HoldersOf(e.ID, func(h index.Holder) error {
		if n++; n%checkEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		a, ok := known[h.Account]
		if !ok {
			var sure bool
			var err error
			if a, sure, err = r.account(v, h.Account, own, w); err != nil {
				return err
			}
			known[h.Account], whole = a, whole && sure
		}
		if a == nil {
			return nil
		}
		if last := len(pieces) - 1; len(pieces) >= batch && (pieces[last].record != h.Record || len(pieces[last].holders) >= mostHolders) {
			whole = false
			return errEnough
		}
		to := replica.Place{Home: a.Home, Policy: w.of[directory.DomainOf(a.Address)]}
		add(&pieces, h, *a, to)
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return pieces, whole, err
}

var errEnough = errors.New("enough")

// add enters a reference with those of the same record that go to the same place.
func add(pieces *[]piece, h index.Holder, a client.Account, to replica.Place) {
	one := holder{a, h.Mailbox, h.UID}
	for i := len(*pieces) - 1; i >= 0 && (*pieces)[i].record == h.Record; i-- {
		if p := &(*pieces)[i]; p.to.Home == to.Home && p.to.Policy.Key() == to.Policy.Key() {
			p.holders = append(p.holders, one)
			return
		}
	}
	*pieces = append(*pieces, piece{record: h.Record, to: to, holders: []holder{one}})
}

// account gives one whose domain wants another policy than the volume's. sure is false if that may come out otherwise later.
func (r *Rehouser) account(v *index.View, id uint64, own string, w *wishes) (a *client.Account, sure bool, err error) {
	if v.Readable(id) != nil {
		return nil, false, nil // it is on its way to another shard, or was and is still to be swept
	}
	d, known, err := r.cfg.Directory.AccountOf(id)
	if err != nil || !known {
		return nil, false, err
	}
	p, ours := w.of[directory.DomainOf(d.Address)]
	if !ours || p.Key() == own {
		return nil, ours, nil
	}
	return &client.Account{ID: d.ID, Address: d.Address, Shard: d.Shard, Home: d.Home}, true, nil
}

// move is steps 2 and 3 for a record. It says how many entries were changed.
func (r *Rehouser) move(ctx context.Context, e *replica.Entry, p *piece) (n int, err error) {
	began := time.Now()
	var was, now volume.Ref
	for _, h := range p.holders {
		m, err := r.cfg.Door().Entry(ctx, h.account, h.folder, h.uid)
		if errors.Is(err, client.ErrNoMessage) || errors.Is(err, client.ErrNoMailbox) {
			continue
		}
		if err != nil {
			return n, r.failed(err)
		}
		if m.Ref.Volume != e.ID || m.Ref.Record != p.record {
			continue
		}
		if was != m.Ref { // entries of one record that differ contradict it: package reconcile finds out which is right
			if now, err = r.put(ctx, e, m.Ref, p.to); err != nil {
				return n, r.failed(err)
			}
			was = m.Ref
		}
		changed, err := r.cfg.Door().Amend(ctx, h.account, h.folder, index.Amendment{
			UID: m.UID, Seen: m.Ref, Ref: now, Size: m.Size, Date: m.Date, Zone: m.Zone, Summary: m.Summary,
		})
		if err != nil {
			return n, r.failed(fmt.Errorf("enter message %d of %s anew: %w", m.UID, h.account.Address, err))
		}
		if changed {
			n++
			r.metrics.messages.Inc()
		}
	}
	pause.For(ctx, min(time.Since(began), longestRest))
	return n, nil
}

func (r *Rehouser) failed(err error) error {
	r.metrics.failures.Inc()
	return err
}
