package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"

	"hongyan/cluster/directory"
	"hongyan/cluster/mailbox"
	"hongyan/cluster/policy"
	"hongyan/cluster/replica"
	"hongyan/engine/codec"
	"hongyan/engine/index"
	"hongyan/engine/message"
	"hongyan/engine/volume"
)

// How much of a draft stays in memory before it spools to a file, and how much it spools between two looks at the disk.
const (
	draftMemory = 512 << 10
	draftCredit = 1 << 20
)

// Draft is a message on its way in: write its raw bytes, then Deliver or Append it. Memory is bounded: a large body
// spools to a temporary file. Not safe for concurrent use.
type Draft struct {
	spool   *volume.Spool
	scanner *message.Scanner
	limit   int64
	size    int64
	room    func() error // whether the disk takes more
	looked  int64        // size when room was asked last

	blob    *volume.Blob // once finished
	summary []byte
}

// NewDraft starts taking a message in. Always Close it.
func (c *Client) NewDraft() *Draft {
	spool := volume.NewSpool(c.cfg.FS, c.cfg.SpoolDir, draftMemory)
	spool.Use(c.cfg.Dictionary())
	return &Draft{
		spool:   spool,
		scanner: message.NewScanner(),
		limit:   c.cfg.MaxMessage,
		room:    func() error { return volume.SpoolRoom(c.cfg.FS, c.cfg.SpoolDir, c.cfg.SpoolKeep) },
	}
}

// Write adds raw bytes. ErrLimit once the message is over MaxMessage; a full disk gives ErrUnavailable.
func (d *Draft) Write(p []byte) (int, error) {
	if d.size+int64(len(p)) > d.limit {
		return 0, fmt.Errorf("%w: a message of more than %d bytes", ErrLimit, d.limit)
	}
	d.size += int64(len(p))
	if d.size > draftMemory && d.size-d.looked >= draftCredit {
		if err := d.room(); err != nil {
			return 0, unavailable(fmt.Errorf("spool a message: %w", err))
		}
		d.looked = d.size
	}
	if _, err := d.scanner.Write(p); err != nil {
		return 0, err
	}
	n, err := d.spool.Write(p)
	if err != nil {
		return n, unavailable(fmt.Errorf("spool a message: %w", err))
	}
	return n, nil
}

// Size is the number of bytes written so far.
func (d *Draft) Size() int64 { return d.size }

// Close drops the draft's spool.
func (d *Draft) Close() error {
	if d.blob != nil {
		return d.blob.Close()
	}
	return d.spool.Abort()
}

// finish ends writing. It may be called again.
func (d *Draft) finish() error {
	if d.blob != nil {
		return nil
	}
	summary, err := d.scanner.Finish().Encode()
	if err != nil {
		return fmt.Errorf("encode a message's summary: %w", err)
	}
	blob, err := d.spool.Finish()
	if err != nil {
		return unavailable(fmt.Errorf("spool a message: %w", err))
	}
	d.blob, d.summary = blob, summary
	return nil
}

// Textual is a draft of the same message in which binary parts with NUL are in base64 (message.Summary.Textual), or d itself if there is none. What it gives is to be closed.
func (c *Client) Textual(d *Draft) (*Draft, error) {
	if err := d.finish(); err != nil {
		return d, err
	}
	s, err := message.Decode(d.summary)
	if err != nil {
		return d, fmt.Errorf("decode a draft's summary: %w", err)
	}
	out := c.NewDraft()
	changed, err := s.Textual(d.blob.Open, out)
	if err != nil || !changed {
		return d, errors.Join(err, out.Close())
	}
	return out, d.Close()
}

// Delivery says for whom a draft is.
type Delivery struct {
	From       string    // envelope sender, "" for bounces
	Recipients []Account // each gets it once, in INBOX or in the folder of its Detail; of one that is named again the first counts
}

// Date is an internal date: unix seconds and the zone's offset in minutes, kept as the client gave it.
type Date struct {
	Unix int64
	Zone int16
}

// place makes the draft's bytes durable, once for everybody, and names the delivery in o: on every copy of some volume, or first on
// this node's disk only, where that saves a round trip.
func (c *Client) place(ctx context.Context, d *Draft, to replica.Place, o *mailbox.Origin) (*entering, error) {
	if err := d.finish(); err != nil {
		return nil, err
	}
	rand.Read(o.Delivery[:])
	o.Arrived = c.cfg.Clock.Now().Unix()
	meta, err := codec.Marshal(o)
	if err != nil {
		return nil, err
	}
	m := mailbox.Message{Summary: d.summary, Date: o.Date, Zone: o.Zone, System: o.System, Keywords: o.Keywords}
	out := &entering{propose: c.changeAs}
	out.locate = func(ctx context.Context, account uint64, given uint32, moved *index.MovedError, try int) (uint32, error) {
		err := c.follow(ctx, account, given, moved, try)
		return c.places.of(account, given), err
	}
	out.put = func(ctx context.Context) (mailbox.Message, error) {
		placed := m
		var err error
		placed.Ref, err = c.cfg.Volumes.Put(ctx, to, volume.KindMessage, meta, d.blob)
		if err != nil {
			return placed, unavailable(err)
		}
		return placed, nil
	}
	if early := c.cfg.Volumes.PutEarly(ctx, to, volume.KindMessage, meta, d.blob); early != nil { // steps 1 and 2
		m.Ref = early.Ref
		out.message, out.copies = m, early.Wait
		return out, nil
	}
	out.message, err = out.put(ctx)
	return out, err
}

// maxPuts is how often the bytes of one message are put. Only who was held up for longer than a volume's grace puts them twice.
const maxPuts = 3

// Deliver stores the draft once and enters it in every recipient's INBOX. The result has one
// error per recipient, nil only when the bytes are durable on all copies and the entry is committed.
//
//   - The bytes go to all copies of a volume and are fsynced there; once for each policy that recipients' domains have.
//   - One command for each shard, with all its recipients, is committed by a majority: when the bytes are on all copies, or where that saves
//     a round trip, as soon as they are on this node's disk (early.go).
//   - A shard that has condemned the volume meanwhile refuses: for its recipients the bytes are put again.
//
// A failure between the steps leaves bytes that no entry names, or an entry that nobody was told of, whose bytes may be removed with it.
func (c *Client) Deliver(ctx context.Context, d *Draft, to Delivery) []error {
	errs := make([]error, len(to.Recipients))
	if len(errs) == 0 {
		return errs
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	pending := make([]int, len(errs)) // recipients by number
	for i := range pending {
		pending[i] = i
	}
	for range maxPuts {
		c.deliverAll(ctx, d, to, pending, errs)
		again := make([]bool, len(errs))
		var work sync.WaitGroup
		for _, i := range pending {
			work.Go(func() { again[i] = c.again(ctx, to.Recipients[i], &errs[i]) })
		}
		work.Wait()
		pending = slices.DeleteFunc(pending, func(i int) bool { return !again[i] })
		if len(pending) == 0 {
			return errs
		}
	}
	for _, i := range pending {
		errs[i] = unavailable(errs[i])
	}
	return errs
}

// again says whether the message is to be put once more for an account that did not get it for err; that may become another one.
func (c *Client) again(ctx context.Context, a Account, err *error) bool {
	var moved *index.MovedError
	if !errors.As(*err, &moved) {
		return errors.Is(*err, errCondemned)
	}
	if failed := c.settled(ctx, a, moved); failed != nil {
		*err = failed
		return false
	}
	return true
}

// deliverAll delivers to some of the recipients, those under one policy together.
func (c *Client) deliverAll(ctx context.Context, d *Draft, to Delivery, members []int, errs []error) {
	if err := d.finish(); err != nil { // before it is read for several at once
		setAll(errs, members, err)
		return
	}
	groups := make(map[string][]int) // members, by policy
	rules := make(map[string]policy.Policy)
	limits := make([]directory.Limited, len(errs))
	for _, i := range members {
		rule, err := c.policyOf(ctx, to.Recipients[i])
		if err == nil {
			limits[i], err = c.limits(ctx, to.Recipients[i])
		}
		if err != nil {
			errs[i] = err
			continue
		}
		key := rule.Key()
		groups[key], rules[key] = append(groups[key], i), rule
	}
	var work sync.WaitGroup
	for key, members := range groups {
		work.Go(func() { c.deliver(ctx, d, to, rules[key], limits, members, errs) })
	}
	work.Wait()
	for _, i := range members {
		errs[i] = marked(errs[i], limits[i])
	}
}

func setAll(errs []error, members []int, err error) {
	for _, i := range members {
		errs[i] = err
	}
}

// policyOf is where an account's mail may lie now. What was known when its session began does not count.
func (c *Client) policyOf(ctx context.Context, a Account) (policy.Policy, error) {
	p, err := c.cfg.Directory.Policy(ctx, directory.DomainOf(a.Address))
	if err != nil {
		return p, unavailable(fmt.Errorf("where mail of %s may lie: %w", a.Address, err))
	}
	return p, nil
}

// placeOf is where mail for accounts is put that are under one policy: as long as they all are, that follows what the policy becomes meanwhile.
func (c *Client) placeOf(rule policy.Policy, accounts ...Account) replica.Place {
	now := func(ctx context.Context) (policy.Policy, error) {
		next, err := c.policyOf(ctx, accounts[0])
		for _, a := range accounts[1:] {
			other, errOther := c.policyOf(ctx, a)
			if err = errors.Join(err, errOther); err == nil && other.Key() != next.Key() {
				return rule, nil
			}
		}
		return next, err
	}
	return replica.Place{Home: accounts[0].Home, Policy: rule, Now: now}
}

// deliver stores the bytes and enters the message for some of the recipients, who have limits each, and sets their errors.
func (c *Client) deliver(ctx context.Context, d *Draft, to Delivery, rule policy.Policy, limits []directory.Limited, members []int, errs []error) {
	origin := mailbox.Origin{From: to.From, Date: c.cfg.Clock.Now().Unix()}
	shards := make(map[uint32][]int) // recipients by shard
	for _, i := range members {
		a := to.Recipients[i]
		origin.Targets = append(origin.Targets, mailbox.Target{Account: a.ID, Mailbox: mailbox.Inbox, Detail: a.Detail})
		shard := c.places.of(a.ID, a.Shard)
		shards[shard] = append(shards[shard], i)
	}
	recipients := make([]Account, len(members))
	for k, i := range members {
		recipients[k] = to.Recipients[i]
	}
	m, err := c.place(ctx, d, c.placeOf(rule, recipients...), &origin)
	if err != nil {
		setAll(errs, members, err)
		return
	}
	var entries []*entry
	for shard, members := range shards {
		e := &entry{shard: shard, id: mailbox.Request(origin.Delivery, shard), name: mailbox.Inbox}
		named := make(map[uint64]bool, len(members)) // two recipients may be aliases of one account
		for _, i := range members {
			if a := &to.Recipients[i]; !named[a.ID] {
				named[a.ID] = true
				e.to.Add(a.ID, mailbox.Terms{Limits: carried(limits[i].Limits), Detail: a.Detail})
			}
		}
		entries = append(entries, e)
	}
	m.run(ctx, entries)
	for _, e := range entries {
		for _, i := range shards[e.shard] {
			errs[i] = e.errorOf(to.Recipients[i].ID)
		}
	}
}

// Append enters the draft in one folder. date has the zone that the client gave.
func (c *Client) Append(ctx context.Context, a Account, name string, d *Draft, f Flags, date Date) (uidValidity, uid uint32, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if a.Guest != 0 { // his rights are looked up when the message enters, once: not early
		b := c.NewBatch(a, name)
		if err := b.Add(ctx, d, f, date); err != nil {
			return 0, 0, err
		}
		return b.Commit(ctx)
	}
	for range maxPuts {
		origin := mailbox.Origin{
			Date: date.Unix, Zone: date.Zone, System: f.System, Keywords: f.Keywords,
			Targets: []mailbox.Target{{Account: a.ID, Mailbox: name}},
		}
		rule, err := c.policyOf(ctx, a)
		if err != nil {
			return 0, 0, err
		}
		limited, err := c.limits(ctx, a)
		if err != nil {
			return 0, 0, err
		}
		m, err := c.place(ctx, d, c.placeOf(rule, a), &origin)
		if err != nil {
			return 0, 0, err
		}
		number := c.places.of(a.ID, a.Shard)
		e := &entry{shard: number, id: mailbox.Request(origin.Delivery, number), name: name, appends: true}
		e.to.Add(a.ID, mailbox.Terms{Limits: carried(limited.Limits)})
		m.run(ctx, []*entry{e})
		if err = e.errorOf(a.ID); err == nil {
			return e.uidValidity, e.uid, nil
		}
		if !c.again(ctx, a, &err) {
			return 0, 0, err
		}
	}
	return 0, 0, unavailable(err)
}
