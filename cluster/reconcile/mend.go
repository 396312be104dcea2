package reconcile

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"hongyan/cluster/client"
	"hongyan/cluster/mailbox"
	"hongyan/cluster/wire"
	"hongyan/engine/codec"
	"hongyan/engine/index"
	"hongyan/engine/message"
	"hongyan/engine/volume"
)

// mend is steps 2 to 6 for one entry.
func (s *Service) mend(ctx context.Context, a client.Account, folder, uid uint32, seen volume.Ref) outcome {
	e, err := s.cfg.Door().Entry(ctx, a, folder, uid)
	if err != nil || e.Ref != seen { // in which case somebody else has mended it
		return outcome{ref: e.Ref, err: err}
	}
	s.stats.looks.Add(1)
	w := &mending{s: s, a: a, folder: folder, e: e}
	now, v, err := w.run(ctx)
	log := s.cfg.Log.With("account", a.Address, "folder", folder, "uid", uid, "volume", seen.Volume, "record", seen.Record)
	switch {
	case errors.Is(err, client.ErrLost):
		s.stats.lost.Add(1)
		log.Error("message whose bytes are in no volume", "why", v.why)
		s.report(Report{Address: a.Address, Folder: folder, UID: uid, What: v.why, Done: "lost: " + err.Error()})
	case err != nil:
		s.stats.open.Add(1)
		log.Warn("message that is not where its entry says is not found for now", "why", v.why, "err", err)
	case w.done != "":
		s.stats.mended.Add(1)
		log.Warn("entry that contradicted its message mended", "why", v.why, "done", w.done, "now_volume", now.Volume, "now_record", now.Record)
		s.report(Report{Address: a.Address, Folder: folder, UID: uid, What: v.why, Done: w.done})
	}
	return outcome{ref: now, done: w.done, err: err, dear: w.dear}
}

// mending is one entry that is looked into.
type mending struct {
	s      *Service
	a      client.Account
	folder uint32
	e      client.Message // as the shard's leader has it
	done   string         // what was mended
	dear   bool           // volumes were looked through
}

func (w *mending) run(ctx context.Context) (volume.Ref, verdict, error) {
	v, at, err := w.look(ctx)
	switch {
	case err != nil:
		return w.e.Ref, v, unavailable(err)
	case v.state == Same:
		why, err := w.describe(ctx, at)
		v.why = why
		return w.e.Ref, v, err
	case !v.proved:
		return w.e.Ref, v, unavailable(errors.New(v.why))
	case v.state == Other:
		if ref, ok, err := w.inPlace(ctx, at); ok || err != nil {
			return ref, v, err
		}
	}
	w.dear = true
	hit, unread, err := w.s.search(ctx, w.a.ID, w.e.Ref, w.e.SaveDate)
	switch {
	case err != nil:
		return w.e.Ref, v, unavailable(err)
	case hit != nil:
		ref, err := w.copy(ctx, hit)
		return ref, v, err
	case len(unread) > 0:
		return w.e.Ref, v, unavailable(fmt.Errorf("%d volumes that could hold the message cannot be looked through, volume %s is one", len(unread), unread[0]))
	}
	return w.e.Ref, v, fmt.Errorf("%w: all that could hold it were looked through", client.ErrLost)
}

func unavailable(err error) error {
	if errors.Is(err, client.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", client.ErrUnavailable, err)
}

// look is step 2. It names the nodes that answered as the verdict says.
func (w *mending) look(ctx context.Context) (v verdict, nodes []string, err error) {
	e, known, err := w.s.cfg.Directory.Volume(ctx, w.e.Ref.Volume)
	if err != nil {
		return v, nil, err
	}
	view, err := w.s.leader(ctx, &shardRequest{Shard: w.s.cfg.Door().Shard(w.a), Account: w.a.ID, Volume: w.e.Ref.Volume})
	if err != nil {
		return v, nil, err
	}
	answers := make([]answer, len(e.Copies))
	var work sync.WaitGroup
	for i, node := range e.Copies {
		work.Go(func() {
			answers[i] = answer{node: node}
			req := &lookRequest{Account: w.a.ID, Refs: []volume.Ref{w.e.Ref}}
			resp, err := ask(ctx, w.s, node, methodLook, req, w.s.serveLook)
			if err == nil && len(resp.Records) != 1 {
				err = fmt.Errorf("%d answers to one question", len(resp.Records))
			}
			if answers[i].err = err; err == nil {
				answers[i].Record = resp.Records[0]
			}
		})
	}
	work.Wait()
	if e.Cold != nil && !view.Early {
		v, err := w.cold(ctx)
		return v, nil, err
	}
	v = judge(e, known, view.Early, w.e.Ref.Record, answers)
	for _, a := range answers {
		if a.err == nil && a.State == v.state {
			nodes = append(nodes, a.node)
		}
	}
	return v, nodes, nil
}

// cold asks the nodes with fragments of a cold volume: whether a record is there is known from the index beside any of them.
func (w *mending) cold(ctx context.Context) (verdict, error) {
	r, err := w.s.cfg.Copies.Read(ctx, w.e.Ref, 0, 1)
	switch {
	case err == nil:
		return verdict{state: Same}, r.Close()
	case errors.Is(err, wire.ErrNotFound):
		return verdict{proved: true, state: NoRecord, why: "the volume, which is cold, has no such record"}, nil
	}
	return verdict{}, err
}

// deep reads the record that is in the entry's place. nil: it was not for this account, or could not be read.
func (w *mending) deep(ctx context.Context, nodes []string) *Facts {
	for _, node := range nodes {
		req := &lookRequest{Account: w.a.ID, Refs: []volume.Ref{w.e.Ref}, Deep: true}
		resp, err := ask(ctx, w.s, node, methodLook, req, w.s.serveLook)
		if err == nil && len(resp.Records) == 1 && resp.Records[0].Facts != nil && resp.Records[0].Facts.Summary != nil {
			return resp.Records[0].Facts
		}
	}
	return nil
}

// described says what of a message's description contradicts what is known of its record, "" if nothing does.
func described(e *client.Message, f *Facts) string {
	sum, err := message.Decode(e.Summary)
	switch {
	case err != nil:
		return "its summary cannot be read"
	case sum.Size != e.Ref.Length:
		return fmt.Sprintf("its summary is of a message of %d bytes, it has %d", sum.Size, e.Ref.Length)
	case e.Size != e.Ref.Length:
		return fmt.Sprintf("its size is given as %d bytes, it has %d", e.Size, e.Ref.Length)
	case f != nil && f.Named && (f.Date != e.Date || f.Zone != e.Zone):
		return fmt.Sprintf("its internal date is given as %d %+d, it came at %d %+d", e.Date, e.Zone, f.Date, f.Zone)
	}
	return ""
}

// describe corrects what an entry says of a message whose bytes are in their place.
func (w *mending) describe(ctx context.Context, nodes []string) (why string, err error) {
	f := w.deep(ctx, nodes)
	if why = described(&w.e, f); why == "" || f == nil {
		return why, nil
	}
	return why, w.enter(ctx, "described anew", f, w.e.Ref)
}

// inPlace is step 3. A summary has all that lists show of a message, its Message-ID among it.
func (w *mending) inPlace(ctx context.Context, nodes []string) (ref volume.Ref, ok bool, err error) {
	f := w.deep(ctx, nodes)
	if !identified(&w.e, f) {
		return w.e.Ref, false, nil
	}
	ref = volume.Ref{Volume: w.e.Ref.Volume, Record: w.e.Ref.Record, Length: f.Length, Hash: f.Hash}
	err = w.enter(ctx, "length and hash corrected", f, ref)
	return ref, err == nil, err
}

// identified says whether the record in an entry's place is the entry's message although its length or hash is not.
func identified(e *client.Message, f *Facts) bool {
	if f == nil || !f.Named || f.Date != e.Date || f.Zone != e.Zone || string(f.Summary) != string(e.Summary) {
		return false
	}
	sum, err := message.Decode(e.Summary)
	return err == nil && sum.Envelope.MessageID != ""
}

// copy is steps 5 and 6.
func (w *mending) copy(ctx context.Context, hit *found) (volume.Ref, error) {
	origin := new(mailbox.Origin)
	if err := codec.Unmarshal(hit.Meta, origin); err != nil {
		return w.e.Ref, fmt.Errorf("origin of record %d of volume %s: %w", hit.Ref.Record, hit.Ref.Volume, err)
	}
	var failed error
	for range mendTries {
		made, err := w.put(ctx, hit)
		if err != nil {
			return w.e.Ref, unavailable(err)
		}
		f := &Facts{Length: made.Ref.Length, Date: origin.Date, Zone: origin.Zone, Summary: made.Summary}
		done := fmt.Sprintf("found as record %d of volume %s", hit.Ref.Record, hit.Ref.Volume)
		if failed = w.enter(ctx, done, f, made.Ref); failed == nil {
			return w.e.Ref, nil
		}
		if !errors.Is(failed, client.ErrUnavailable) {
			break
		}
	}
	return w.e.Ref, failed
}

func (w *mending) put(ctx context.Context, hit *found) (made client.Copied, err error) {
	r, err := w.s.cfg.Copies.Read(ctx, hit.Ref, 0, hit.Ref.Length)
	if err != nil {
		return made, err
	}
	made, err = w.s.cfg.Door().Again(ctx, w.a, hit.Ref, hit.Meta, r)
	return made, errors.Join(err, r.Close())
}

// enter proposes the entry as it should be. If it has changed since it was seen, what it says now counts.
func (w *mending) enter(ctx context.Context, done string, f *Facts, ref volume.Ref) error {
	changed, err := w.s.cfg.Door().Amend(ctx, w.a, w.folder, index.Amendment{
		UID: w.e.UID, Seen: w.e.Ref, Ref: ref, Size: f.Length, Date: f.Date, Zone: f.Zone, Summary: f.Summary,
	})
	if err != nil {
		return fmt.Errorf("amend message %d: %w", w.e.UID, err)
	}
	if changed {
		w.done, w.e.Ref = done, ref
		return nil
	}
	e, err := w.s.cfg.Door().Entry(ctx, w.a, w.folder, w.e.UID)
	if err == nil {
		w.e = e
	}
	return err
}
