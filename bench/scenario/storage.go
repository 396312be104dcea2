package scenario

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"hongyan/bench/load"
	"hongyan/bench/load/send"
	"hongyan/bench/measure"
	"hongyan/bench/report"
)

var storage = Scenario{
	Name: "storage", Summary: "bytes and files on disk for the mail that was delivered: copies, index, journal, mail to many, cold volumes", Takes: 90 * time.Second,
	Settle: func(o Options) time.Duration {
		switch {
		case o.Long:
			return 3 * time.Minute // so that a volume is not at its end before all is delivered
		case o.Short:
			return 5 * time.Second
		}
		return 20 * time.Second
	},
	Run: runStorage,
}

// storages is a run of the scenario. On a cluster of ours the nodes are restarted one after the other before and after the delivery: a node that stops
// ends its volumes and flushes its index, so that afterwards every byte is where it will stay. Of another server only the folders are added up.
type storages struct {
	env     *Env
	section *report.Section
	rec     *load.Recorder
	growth  *folderGrowth // of the folders, for the chart; nil for a server that is not ours

	base, end record         // before the delivery, and after it; both with all volumes ended
	old       map[uint64]int // volumes that had ended before
	sent      posted
	own       measure.Metrics // of the nodes between their restarts
}

// posted is what was delivered.
type posted struct {
	messages int64
	bytes    int64 // as they left the sender: without what the server puts in front
}

func (p posted) mean() float64 { return float64(p.bytes) / float64(p.messages) }

func runStorage(ctx context.Context, e *Env) (*report.Section, error) {
	d := &storages{env: e, section: &report.Section{Title: "Storage"}, rec: load.NewRecorder("deliveries", load.RecorderOptions{})}
	d.section.Settings = []report.Setting{{Name: "mail", Value: e.Options.Sizes()}}
	if e.Lab == nil && len(e.Data) == 0 {
		return d.section, errors.New("it needs the folders of the server's data (--data)")
	}
	var err error
	if e.Lab == nil {
		err = d.plain(ctx, e)
	} else {
		err = d.lab(ctx)
	}
	if err == nil && e.Peer != nil && len(e.Peer.Data) > 0 {
		err = d.plain(ctx, e.Peer)
		e.peerRatios(d.section, "storage", func(name string) (string, string) { return name, "storage, " + name })
	}
	return d.section, err
}

// count is how many messages are delivered.
func (d *storages) count(mean float64) int {
	o, target := d.env.Options, 60e6
	switch {
	case o.Messages > 0:
		return o.Messages
	case o.Long:
		target = 1000e6
	case o.Short:
		target = 15e6
	}
	return max(int(target/mean), 1)
}

// many is how many messages go to many recipients, and toMany to how many.
func (d *storages) many() int {
	switch o := d.env.Options; {
	case o.Long:
		return 300
	case o.Short:
		return 20
	}
	return 60
}

const toMany = 20

// post delivers messages by eight connections as fast as it goes, and every one of them.
func (d *storages) post(ctx context.Context, side *Env, count int, message func(load.Turn) *load.Message) (p posted, err error) {
	const workers = 8
	s, err := send.New(side.Target, send.Options{Protocol: send.Protocol(spoken(side.Target)[0]), Policy: load.RoundRobin, Workers: workers, Until: true, Patience: time.Minute})
	if err != nil {
		return p, err
	}
	defer s.Close()
	var messages, bytes atomic.Int64
	d.env.Progress.Rate(func() string { return fmt.Sprintf("%d of %d", messages.Load(), count) })
	var refused atomic.Pointer[error]
	err = load.Closed{Workers: workers, Count: count, Grace: grace}.Run(ctx, d.rec, func(ctx context.Context, t load.Turn) error {
		m := message(t)
		err := s.Send(ctx, t.Worker, m)
		if err != nil {
			refused.Store(&err)
			return err
		}
		messages.Add(1)
		bytes.Add(int64(m.Size()))
		return nil
	})
	if p := refused.Load(); err == nil && p != nil {
		err = *p
	}
	return posted{messages.Load(), bytes.Load()}, errors.Join(err, ctx.Err())
}

// plain measures a server that is not ours by the size of its folders.
func (d *storages) plain(ctx context.Context, side *Env) error {
	m, err := d.env.mail(side.Target.Accounts)
	if err != nil {
		return err
	}
	before, err := measure.Folders(side.Data...)
	if err != nil {
		return err
	}
	d.env.Progress.Step("%s: delivering", side.Target.Name)
	sent, err := d.post(ctx, side, d.count(m.corpus.MeanBytes()), m.message)
	if err != nil {
		return err
	}
	var after measure.Space
	err = until(ctx, serveWait, func() error { // servers tidy up behind their answers
		now, err := measure.Folders(side.Data...)
		if err != nil || now != after {
			after = now
			return errors.Join(err, errors.New("the folders still change"))
		}
		return nil
	})
	if err != nil {
		return err
	}
	grown, files := float64(after.Bytes-before.Bytes), after.Files-before.Files
	d.section.Metrics = append(d.section.Metrics,
		metric(d.env.id(side, "storage", "bytes_per_byte.all"), side.Target.Name+": bytes on disk, everything, for a byte of mail", grown/float64(sent.bytes), "ratio", report.Lower))
	d.section.Tables = append(d.section.Tables, report.Table{
		Title:   "What the folders of " + side.Target.Name + " grew by",
		Columns: []string{"messages", "bytes of mail", "bytes on disk", "for a byte", "files", "files for 1,000 messages"},
		Rows: [][]string{{fmt.Sprint(sent.messages), size(float64(sent.bytes)), size(grown), ratio(grown, sent.bytes), fmt.Sprint(files),
			fmt.Sprintf("%.1f", float64(files)*1000/float64(sent.messages))}},
	})
	d.section.Notes = append(d.section.Notes, side.Target.Name+": blocks allocated to all files in its folders, before and after. "+side.Note)
	if d.section.Summary == "" {
		d.section.Summary = fmt.Sprintf("%d messages of %s took %s in the folders.", sent.messages, size(float64(sent.bytes)), size(grown))
	}
	return nil
}
