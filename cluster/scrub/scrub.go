package scrub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/time/rate"

	"hongyan/cluster/clock"
	"hongyan/cluster/replica"
	"hongyan/cluster/transport"
	"hongyan/engine/volume"
)

// Defaults, and fixed bounds.
const (
	DefaultEvery = 14 * 24 * time.Hour
	DefaultRate  = 32 << 20

	firstWithin  = 24 * time.Hour // a new copy is verified for the first time this long after it was sealed, or sooner
	presentEvery = 15 * time.Second
	saveEvery    = 10 * time.Second
	retryFirst   = time.Minute // for copies that are damaged, or whose check failed; doubled up to retryMost
	retryMost    = time.Hour
	maxUrgent    = 10_000  // records that wait to be mended; the full check of their volume finds further ones
	burst        = 4 << 20 // bytes that may be read at once
	maxNamed     = 20      // damaged records of a copy that are named
)

// Copies is what this package needs of the replication of volumes.
type Copies interface {
	// Copies lists this node's copies of sealed volumes that are as long as they should be.
	Copies() []replica.Entry
	// Others gives the other copies of a volume that can be asked, by node.
	Others(ctx context.Context, e replica.Entry) (nodes []string, files []io.ReaderAt)
	// MendKeys mends the key file of this node's copy of an encrypted volume, and says where it began to be damaged.
	MendKeys(ctx context.Context, e replica.Entry) (at int64, mended int, err error)
	// Recheck has a copy made as long as it should be.
	Recheck(id volume.ID)
}

// Config is what a Scrubber needs.
type Config struct {
	ID      string
	Net     *transport.Net
	Nodes   func() []string // those that keep volumes
	Volumes *volume.Set     // nil on a node that keeps none: it only asks the others
	Copies  Copies
	FS      vfs.FS
	State   string        // path of the state file
	Every   time.Duration // each copy is verified once in this time
	Rate    int64         // bytes a second that are read for it
	Clock   *clock.Clock
	Log     *slog.Logger
}

// Scrubber verifies this node's copies. Safe for concurrent use.
type Scrubber struct {
	cfg   Config
	log   *slog.Logger
	ctx   context.Context
	stop  context.CancelFunc
	work  sync.WaitGroup
	wake  chan struct{} // capacity one
	limit *rate.Limiter
	asked chan struct{} // one token: a peer has ranges read here

	mu       sync.Mutex // guards all below
	marks    map[volume.ID]*mark
	retries  map[volume.ID]retry
	urgent   []place            // damage that reads met, in order
	waiting  map[place]struct{} // the same
	now      map[volume.ID]struct{}
	doubted  map[volume.ID]int // how often damage was met in a copy that no check has found whole or damaged since
	findings []Finding
	totals   Totals
	running  volume.ID
	done     int64
	length   int64
	dirty    bool // the state file is older than marks and findings
}

// place is a record of a volume; 0 stands for a volume that does not open.
type place struct {
	volume volume.ID
	record uint64
}

// retry is when a copy that is not well is looked at again.
type retry struct {
	at   time.Time
	wait time.Duration
}

// New makes a node's Scrubber and registers its methods, which must happen before the network serves. Start it afterwards.
func New(cfg Config) *Scrubber {
	if cfg.Every <= 0 {
		cfg.Every = DefaultEvery
	}
	if cfg.Rate <= 0 {
		cfg.Rate = DefaultRate
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Scrubber{cfg: cfg, log: cfg.Log.With("part", "scrub"), ctx: ctx, stop: stop, wake: make(chan struct{}, 1),
		limit: rate.NewLimiter(rate.Limit(cfg.Rate), burst), asked: make(chan struct{}, 1),
		marks: make(map[volume.ID]*mark), retries: make(map[volume.ID]retry), now: make(map[volume.ID]struct{}), waiting: make(map[place]struct{}),
		doubted: make(map[volume.ID]int)}
	if cfg.Volumes != nil {
		s.restore()
	}
	transport.HandleUnary(cfg.Net, methodDigest, s.serveDigest)
	transport.HandleUnary(cfg.Net, methodReport, s.serveReport)
	transport.HandleUnary(cfg.Net, methodStart, s.serveStart)
	cfg.Net.Handle(methodRanges, s.serveRanges)
	return s
}

// restore takes up what an earlier process knew.
func (s *Scrubber) restore() {
	state, err := readState(s.cfg.FS, s.cfg.State)
	if err != nil {
		s.log.Warn("everything is verified anew", "err", err)
		return
	}
	for _, k := range state.Marks {
		s.marks[k.Volume] = &k
	}
	s.findings = state.Findings
}

// Start begins the background work.
func (s *Scrubber) Start() {
	if s.cfg.Volumes != nil {
		s.work.Go(s.run)
	}
}

// Close ends it, in the middle of a volume if need be.
func (s *Scrubber) Close() error {
	s.stop()
	s.work.Wait()
	return s.save()
}

// Damaged is told by reads of mail that a record of this node's copy is not readable (step 2).
func (s *Scrubber) Damaged(id volume.ID, record uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doubted[id]++
	if k := s.marks[id]; k != nil && k.Digest != nil {
		k.Digest, s.dirty = nil, true // what was proved then is not so now, also after a restart
	}
	p := place{id, record}
	if _, waits := s.waiting[p]; waits || len(s.urgent) >= maxUrgent {
		return
	}
	s.urgent = append(s.urgent, p)
	s.waiting[p] = struct{}{}
	signal(s.wake)
}

// Checked says what is known of a copy's bytes in a generation.
func (s *Scrubber) Checked(id volume.ID, generation uint32) replica.Checked {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, doubted := s.doubted[id]
	k := s.marks[id]
	if k == nil || k.Generation != generation {
		return replica.Checked{Doubted: doubted}
	}
	return replica.Checked{Doubted: doubted, Proved: !doubted && len(k.Digest) > 0, Damaged: k.Damaged, Records: k.records, Asked: k.asked}
}

// Prove has a copy verified soon, unless that is under way.
func (s *Scrubber) Prove(id volume.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != id {
		s.now[id] = struct{}{}
		signal(s.wake)
	}
}

// StartNow has a copy verified now, or all of them if id is 0, and says how many these are.
func (s *Scrubber) StartNow(id volume.ID) int {
	n := 0
	for _, e := range s.cfg.Copies.Copies() {
		if id == 0 || e.ID == id {
			s.mu.Lock()
			s.now[e.ID] = struct{}{}
			s.mu.Unlock()
			n++
		}
	}
	signal(s.wake)
	return n
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run is the one goroutine that reads.
func (s *Scrubber) run() {
	var looked, saved time.Time
	for s.ctx.Err() == nil {
		now := time.Now()
		copies := s.cfg.Copies.Copies()
		if now.Sub(looked) >= presentEvery {
			s.presence(copies)
			looked = now
		}
		if now.Sub(saved) >= saveEvery {
			if err := s.save(); err != nil {
				s.log.Warn("state not saved", "err", err)
			}
			saved = now
		}
		if p, ok := s.takeUrgent(); ok {
			s.mendRecord(p, copies)
			continue
		}
		if e, ok := s.next(copies, s.cfg.Clock.Now()); ok {
			s.verify(e)
			continue
		}
		wait := time.NewTimer(time.Second)
		select {
		case <-s.wake:
		case <-wait.C:
		case <-s.ctx.Done():
		}
		wait.Stop()
	}
}

// presence is step 1.
func (s *Scrubber) presence(copies []replica.Entry) {
	for _, e := range copies {
		s.present(e)
	}
	here := make(map[volume.ID]struct{}, len(copies))
	for _, id := range s.cfg.Volumes.List() {
		here[id] = struct{}{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.marks {
		if _, ok := here[id]; !ok {
			delete(s.marks, id)
			delete(s.retries, id)
			s.dirty = true
		}
	}
	for id := range s.doubted {
		if _, ok := here[id]; !ok {
			delete(s.doubted, id)
		}
	}
}

// present says whether the file of a copy is the one that should be there.
func (s *Scrubber) present(e replica.Entry) bool {
	moved, err := s.cfg.Volumes.Recheck(e.ID)
	if err != nil && !errors.Is(err, volume.ErrNotFound) {
		s.log.Warn("file of a copy cannot be looked at", "volume", e.ID, "err", err)
		return false
	}
	if err == nil && !moved {
		return true
	}
	s.log.Error("file of a copy is gone, cut or another one; it is made whole from another copy", "volume", e.ID)
	s.note(Finding{Volume: e.ID, End: e.Length, What: "the file was gone, cut or replaced; the copy is filled from another one"})
	s.mu.Lock()
	s.totals.Missing++
	delete(s.marks, e.ID)
	s.now[e.ID] = struct{}{}
	s.mu.Unlock()
	s.cfg.Copies.Recheck(e.ID)
	return false
}

func (s *Scrubber) takeUrgent() (place, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.urgent) == 0 {
		return place{}, false
	}
	p := s.urgent[0]
	s.urgent = s.urgent[1:]
	delete(s.waiting, p)
	return p, true
}

// due is when a copy's next check is. Called under mu.
func (s *Scrubber) due(k *mark) time.Time {
	if _, ok := s.now[k.Volume]; ok {
		return time.Time{}
	}
	if r, ok := s.retries[k.Volume]; ok {
		return s.cfg.Clock.Now().Add(time.Until(r.at))
	}
	if k.Checked == 0 {
		return time.Unix(k.Known, 0).Add(min(firstWithin, s.cfg.Every))
	}
	return time.Unix(k.Checked, 0).Add(s.cfg.Every)
}

// next is the copy that is due first, if its time has come.
func (s *Scrubber) next(copies []replica.Entry, now time.Time) (first replica.Entry, found bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	earliest := now
	for _, e := range copies {
		k := s.marks[e.ID]
		if k == nil || k.Generation != e.Generation {
			k = &mark{Volume: e.ID, Generation: e.Generation, Known: now.Unix()}
			s.marks[e.ID] = k
			s.dirty = true
		}
		if at := s.due(k); !at.After(earliest) {
			first, found, earliest = e, true, at
		}
	}
	return first, found
}

// pace waits until n more bytes may be read, and keeps what the report says of the running check.
func (s *Scrubber) pace(n int) error {
	s.mu.Lock()
	s.done += int64(n)
	s.totals.Bytes += uint64(n)
	s.mu.Unlock()
	return s.limit.WaitN(s.ctx, min(n, burst))
}

// mendRecord is step 2.
func (s *Scrubber) mendRecord(p place, copies []replica.Entry) {
	for _, e := range copies {
		if e.ID != p.volume {
			continue
		}
		s.mu.Lock()
		s.now[e.ID] = struct{}{}
		s.mu.Unlock()
		if p.record == 0 || !s.present(e) {
			return
		}
		ctx, stop := context.WithCancel(s.ctx)
		defer stop()
		nodes, files := s.cfg.Copies.Others(ctx, e)
		out, err := s.cfg.Volumes.Mend(e.ID, p.record, volume.Check{Pace: s.pace, Others: files})
		s.book(e, nodes, out)
		if err == nil && out.Damaged+out.Mended == 0 { // its checksums are right, and yet it could not be read
			if vol, getErr := s.cfg.Volumes.Get(e.ID); getErr == nil {
				_, err = s.replaceUnsound(ctx, e, vol, p.record)
			}
		}
		if err != nil && !errors.Is(err, volume.ErrNotFound) { // a record without a place is found by the full check
			s.log.Warn("record not mended", "volume", e.ID, "record", p.record, "err", err)
		}
		return
	}
	// Not sealed yet, or not as long as it should be: it will be verified as soon as it is.
	s.mu.Lock()
	s.now[p.volume] = struct{}{}
	s.mu.Unlock()
	s.cfg.Copies.Recheck(p.volume)
}

// verify is steps 3 and 4 for one copy.
func (s *Scrubber) verify(e replica.Entry) {
	if !s.present(e) {
		return
	}
	ctx, stop := context.WithCancel(s.ctx)
	defer stop()
	s.mu.Lock()
	delete(s.now, e.ID)
	doubts := s.doubted[e.ID]
	s.running, s.done, s.length = e.ID, 0, e.Length
	s.mu.Unlock()
	s.verifyKeys(ctx, e)
	nodes, files := s.cfg.Copies.Others(ctx, e)
	out, err := s.cfg.Volumes.Verify(e.ID, volume.Check{Pace: s.pace, Others: files})
	s.book(e, nodes, out)
	s.mu.Lock()
	s.running, s.done, s.length = 0, 0, 0
	s.mu.Unlock()
	if s.ctx.Err() != nil {
		return
	}
	if err == nil && out.Generation != e.Generation {
		// It was compacted meanwhile and its entry will say so, or it was not switched.
		s.mu.Lock()
		s.putOff(e.ID)
		s.mu.Unlock()
		s.cfg.Copies.Recheck(e.ID)
		return
	}
	if err == nil && out.Length != e.Length {
		err = fmt.Errorf("copy of volume %s is %d bytes long, expected %d", e.ID, out.Length, e.Length)
	}
	if err != nil {
		s.failed(e, err)
		return
	}
	var asked []string
	for i, file := range files {
		if replica.Answered(file) {
			asked = append(asked, nodes[i])
		}
	}
	if s.finished(e, out, asked, doubts) {
		s.compare(ctx, e, nodes, out.Digest)
	}
}

// verifyKeys has the key file beside the copy mended.
func (s *Scrubber) verifyKeys(ctx context.Context, e replica.Entry) {
	at, mended, err := s.cfg.Copies.MendKeys(ctx, e)
	if errors.Is(err, volume.ErrNoKeys) { // not encrypted, or no master key here
		return
	}
	if err == nil && mended == 0 {
		return
	}
	s.mu.Lock()
	s.totals.Found += uint64(max(mended, 1))
	s.totals.Mended += uint64(mended)
	s.mu.Unlock()
	s.note(Finding{Volume: e.ID, Start: at, End: at, What: "key file", Mended: err == nil})
	if err != nil {
		s.log.Error("key file of a copy is damaged and not mended", "volume", e.ID, "offset", at, "err", err)
		return
	}
	s.log.Warn("key file of a copy mended", "volume", e.ID, "places", mended, "offset", at)
}

// failed puts a check off that did not come to its end, and has the repairer look at the copy.
func (s *Scrubber) failed(e replica.Entry, err error) {
	s.log.Warn("copy not verified", "volume", e.ID, "err", err)
	s.mu.Lock()
	s.totals.Failures++
	s.putOff(e.ID)
	s.mu.Unlock()
	s.cfg.Copies.Recheck(e.ID)
}

// putOff is called under mu.
func (s *Scrubber) putOff(id volume.ID) {
	wait := min(max(retryFirst, 2*s.retries[id].wait), retryMost)
	s.retries[id] = retry{at: time.Now().Add(wait), wait: wait}
}

// finished keeps the result of a check, and says whether the copy is whole. Of damage that was met since the check began, when there had been doubts
// so many times, it proves nothing.
func (s *Scrubber) finished(e replica.Entry, out *volume.Checked, asked []string, doubts int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Clock.Now().Unix()
	k := &mark{Volume: e.ID, Generation: e.Generation, Known: now, Checked: now, Damaged: out.Damaged}
	if old := s.marks[e.ID]; old != nil {
		k.Known = old.Known
	}
	s.marks[e.ID] = k
	s.dirty = true
	s.totals.Copies++
	settled := s.doubted[e.ID] == doubts
	if settled {
		delete(s.doubted, e.ID)
	}
	if out.Damaged > 0 {
		k.records, k.asked = lostRecords(out), asked
		s.putOff(e.ID)
		return false
	}
	delete(s.retries, e.ID)
	if settled {
		k.Digest = out.Digest[:]
	}
	for i := range s.findings { // the copy is whole, so what was open is mended
		f := &s.findings[i]
		f.Mended = f.Mended || f.Volume == e.ID && !f.Differs
	}
	return true
}

// lostRecords names the first records that were not mended.
func lostRecords(out *volume.Checked) (records []uint64) {
	for _, f := range out.Findings {
		for n := range f.Records {
			if !f.Mended && f.Record > 0 && len(records) < maxNamed {
				records = append(records, f.Record+n)
			}
		}
	}
	return records
}

// book enters what a check found into report and log.
func (s *Scrubber) book(e replica.Entry, nodes []string, out *volume.Checked) {
	if out == nil {
		return
	}
	s.mu.Lock()
	s.totals.Found += out.Damaged + out.Mended
	s.totals.Mended += out.Mended
	s.totals.Written += uint64(out.Bytes)
	s.mu.Unlock()
	for _, f := range out.Findings {
		found := Finding{Volume: e.ID, Record: f.Record, Records: f.Records, Start: f.Start, End: f.End, What: f.Reason, Mended: f.Mended}
		if f.Mended && f.Source != volume.FromMemory {
			found.From = nodes[f.Source]
		}
		s.note(found)
	}
	switch {
	case out.Damaged > 0:
		s.log.Error("copy is damaged, and no other copy that answers has what is missing", "volume", e.ID,
			"records", out.Damaged, "mended", out.Mended, "first", out.Findings[0].Reason, "offset", out.Findings[0].Start)
	case out.Mended > 0:
		s.log.Warn("copy mended", "volume", e.ID, "records", out.Mended, "bytes", out.Bytes,
			"first", out.Findings[0].Reason, "offset", out.Findings[0].Start)
	}
}

// note keeps a finding for the report, and says whether it is new. One that is there already, from an earlier check, takes its
// place at the end.
func (s *Scrubber) note(f Finding) (fresh bool) {
	fresh = true
	f.Time = s.cfg.Clock.Now().Unix()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, old := range s.findings {
		if old.Volume == f.Volume && old.Start == f.Start && old.End == f.End && old.What == f.What && old.Mended == f.Mended && old.From == f.From {
			s.findings = append(s.findings[:i], s.findings[i+1:]...)
			fresh = false
			break
		}
	}
	s.findings = append(s.findings, f)
	if len(s.findings) > maxFindings {
		s.findings = s.findings[len(s.findings)-maxFindings:]
	}
	s.dirty = true
	return fresh
}

// save writes the state file if it is behind.
func (s *Scrubber) save() error {
	s.mu.Lock()
	if !s.dirty {
		s.mu.Unlock()
		return nil
	}
	s.dirty = false
	state := saved{Findings: append([]Finding(nil), s.findings...)}
	for _, k := range s.marks {
		state.Marks = append(state.Marks, *k)
	}
	s.mu.Unlock()
	err := writeState(s.cfg.FS, s.cfg.State, &state)
	if err != nil {
		s.mu.Lock()
		s.dirty = true
		s.mu.Unlock()
	}
	return err
}
