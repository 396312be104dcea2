package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"hongyan/bench/lab"
	"hongyan/bench/load"
	"hongyan/bench/report"
)

// lab measures a cluster of ours.
func (d *storages) lab(ctx context.Context) (err error) {
	if d.growth, err = d.env.watchGrowth(); err != nil {
		return err
	}
	defer func() { d.section.Charts = append(d.section.Charts, d.growth.chart()) }()
	if d.base, err = d.rolled(ctx); err != nil {
		return err
	}
	ended, err := d.env.view(ctx, d.base.nodes[0])
	if err != nil {
		return err
	}
	d.old = ended.sealed()
	m, err := d.env.mail(d.env.Target.Accounts)
	if err != nil {
		return err
	}
	d.step("delivering")
	if d.sent, err = d.post(ctx, d.env, d.count(m.corpus.MeanBytes()), m.message); err != nil {
		return err
	}
	open, err := d.env.record(true)
	if err != nil {
		return err
	}
	if d.own, err = d.env.metrics(ctx); err != nil {
		return err
	}
	if d.end, err = d.rolled(ctx); err != nil {
		return err
	}
	if err := d.results(ctx, open); err != nil {
		return err
	}
	if err := d.dedup(ctx, m.corpus); err != nil {
		return err
	}
	return d.cold(ctx)
}

func (d *storages) step(format string, args ...any) {
	d.env.Progress.Step(format, args...)
	d.growth.mark(fmt.Sprintf(format, args...))
}

// rolled restarts the nodes one after the other, waits until every volume that took mail has ended and is whole, and looks at the folders.
func (d *storages) rolled(ctx context.Context) (record, error) {
	d.step("ending volumes")
	nodes := d.env.nodes()
	before, err := d.env.view(ctx, nodes[0])
	if err != nil {
		return record{}, err
	}
	for _, n := range nodes {
		if err := errors.Join(d.env.Lab.Stop(n), d.env.Lab.Start(n)); err != nil {
			return record{}, err
		}
		if err := d.env.serving(ctx); err != nil {
			return record{}, err
		}
	}
	if err := until(ctx, serveWait, func() error { return d.env.ended(ctx, before) }); err != nil {
		return record{}, err
	}
	return d.env.record(true)
}

// ready is nil when every node serves.
func (e *Env) ready(ctx context.Context) error {
	for _, n := range e.nodes() {
		v, err := e.view(ctx, n)
		if err != nil {
			return err
		}
		if len(v.NotReady) > 0 {
			return fmt.Errorf("node %s does not serve: %s", n, v.NotReady[0])
		}
	}
	return nil
}

// ended is nil when no volume takes mail any more that did before, and every copy is whole.
func (e *Env) ended(ctx context.Context, before *nodeView) error {
	nodes := e.nodes()
	now, err := e.view(ctx, nodes[0])
	if err != nil {
		return err
	}
	for _, v := range now.Volumes {
		if v.State == stateSealed {
			continue
		}
		if slices.ContainsFunc(before.Volumes, func(o volumeView) bool { return o.ID == v.ID }) {
			return fmt.Errorf("volume %d is %s", v.ID, v.State)
		}
	}
	for i, n := range nodes {
		v, err := e.view(ctx, n)
		if err != nil {
			return err
		}
		if err := e.copiesWhole(ctx, n, nodes[(i+1)%len(nodes)], v, nil); err != nil {
			return err
		}
	}
	return nil
}

// sealed are the volumes that have ended, with their lengths.
func (v *nodeView) sealed() map[uint64]int {
	out := make(map[uint64]int)
	for _, vol := range v.Volumes {
		if vol.State == stateSealed {
			out[vol.ID] = int(vol.Length)
		}
	}
	return out
}

// record looks at the folders of all nodes.
func (e *Env) record(deep bool) (record, error) {
	c, err := e.Lab.Cluster()
	if err != nil {
		return record{}, err
	}
	r := record{of: make(map[string]contents)}
	for _, m := range c.Nodes {
		r.nodes = append(r.nodes, m.ID)
		if r.of[m.ID], err = inspect(m.Data, deep); err != nil {
			return record{}, err
		}
	}
	return r, nil
}

// dedup sends messages to many recipients each: a message is stored once, whoever gets it.
func (d *storages) dedup(ctx context.Context, corpus *load.Corpus) error {
	var to []string
	for _, a := range d.env.Target.Accounts[:min(toMany, len(d.env.Target.Accounts))] {
		to = append(to, a.Address)
	}
	if len(to) < 2 {
		d.section.Notes = append(d.section.Notes, "There is one account: mail to many was left out.")
		return nil
	}
	d.step("mail to %d recipients", len(to))
	view, err := d.env.view(ctx, d.end.nodes[0])
	if err != nil {
		return err
	}
	ended := view.sealed()
	before, err := d.env.record(true)
	if err != nil {
		return err
	}
	const others = 1 << 24 // numbers that the first delivery did not come to
	sent, err := d.post(ctx, d.env, d.many(), func(t load.Turn) *load.Message { return corpus.Message(others+t.N, t.Due, to...) })
	if err != nil {
		return err
	}
	after, err := d.env.record(true)
	if err != nil {
		return err
	}
	fresh := func(id uint64) bool { _, old := ended[id]; return !old }
	was, _ := before.copies(fresh)
	is, _ := after.copies(fresh)
	delivered := float64(sent.bytes) * float64(len(to))
	d.section.Metrics = append(d.section.Metrics,
		metric("storage.dedup.ratio", fmt.Sprintf("bytes in one copy for a byte delivered, each message to %d recipients", len(to)), (is-was)/delivered, "ratio", report.Lower))
	d.section.Tables = append(d.section.Tables, report.Table{Title: "Mail to many", Columns: []string{"messages", "recipients of each", "bytes sent", "bytes delivered", "bytes in one copy", "for a byte sent", "for a byte delivered"},
		Rows: [][]string{{fmt.Sprint(sent.messages), fmt.Sprint(len(to)), size(float64(sent.bytes)), size(delivered), size(is - was), ratio(is-was, sent.bytes), fmt.Sprintf("%.3f", (is-was)/delivered)}}})
	return nil
}

// cold waits until the mail has turned into fragments, if the cluster is in a hurry, and measures these.
func (d *storages) cold(ctx context.Context) error {
	c, err := d.env.Lab.Cluster()
	if err != nil {
		return err
	}
	if c.Settle == 0 {
		d.section.Notes = append(d.section.Notes, "Cold volumes were not measured: it takes a cluster whose volumes age quickly (`hongyan dev --settle 20s`).")
		return nil
	}
	d.step("turning cold")
	view, err := d.env.view(ctx, d.end.nodes[0])
	if err != nil {
		return err
	}
	want := make(map[uint64]bool)
	for _, v := range view.Volumes {
		if _, old := d.old[v.ID]; !old && v.State == stateSealed && v.Length >= lab.ColdLeast {
			want[v.ID] = true
		}
	}
	if len(want) == 0 {
		d.section.Notes = append(d.section.Notes, fmt.Sprintf("Cold volumes were not measured: no volume was larger than %s.", size(lab.ColdLeast)))
		return nil
	}
	var now record
	var compressed int64
	err = until(ctx, serveWait+2*time.Duration(c.Settle)*time.Second, func() error {
		now, compressed, err = d.turned(ctx, want)
		return err
	})
	if err != nil {
		return err
	}
	var stored int64
	for _, c := range now.of {
		for id, n := range c.fragments {
			if want[id] {
				stored += n
			}
		}
	}
	d.section.Metrics = append(d.section.Metrics, metric("storage.cold.bytes_per_byte", "bytes on disk for a compressed byte, cold", float64(stored)/float64(compressed), "ratio", report.Lower))
	d.section.Tables = append(d.section.Tables, report.Table{Title: "Cold", Columns: []string{"volumes", "bytes of one copy", "bytes of all fragments", "for a compressed byte", "for a byte of mail"},
		Rows: [][]string{{fmt.Sprint(len(want)), size(float64(compressed)), size(float64(stored)), ratio(float64(stored), compressed), ratio(float64(stored), d.sent.bytes)}},
		Note: "Fragments only. Each node with one also has the volume's key file and record index, as beside a copy."})
	return nil
}

// turned gives the folders and the length of these volumes once they are fragments and nothing else any more. The length is that of then, since they may
// have been compacted before; and the folders are looked at after that, when every fragment is there. With --short copies that are about to go do not matter.
func (d *storages) turned(ctx context.Context, want map[uint64]bool) (now record, length int64, err error) {
	v, err := d.env.view(ctx, d.end.nodes[0])
	if err != nil {
		return record{}, 0, err
	}
	for _, vol := range v.Volumes {
		if !want[vol.ID] {
			continue
		}
		if len(vol.Copies) > 0 {
			return record{}, 0, fmt.Errorf("volume %d is not cold", vol.ID)
		}
		length += vol.Length
	}
	if now, err = d.env.record(true); err != nil {
		return record{}, 0, err
	}
	for node, c := range now.of {
		for id := range c.volumes {
			if want[id] && !d.env.Options.Short {
				return record{}, 0, fmt.Errorf("node %s still has its copy of the cold volume %d", node, id)
			}
		}
	}
	return now, length, nil
}

// folderGrowth looks at the folders once a second.
type folderGrowth struct {
	env   *Env
	began time.Time
	quit  chan struct{}
	done  sync.WaitGroup
	first record

	mu    sync.Mutex // guards what follows
	lines map[sort]*report.Line
	marks []report.Mark
}

func (e *Env) watchGrowth() (*folderGrowth, error) {
	g := &folderGrowth{env: e, began: time.Now(), quit: make(chan struct{}), lines: make(map[sort]*report.Line)}
	first, err := e.record(false)
	if err != nil {
		return nil, err
	}
	g.first = first
	g.done.Go(func() {
		t := time.NewTicker(time.Second)
		defer t.Stop()
		for {
			select {
			case <-g.quit:
				return
			case <-t.C:
				if r, err := e.record(false); err == nil { // else the next look will tell
					g.enter(r)
				}
			}
		}
	})
	return g, nil
}

func (g *folderGrowth) enter(r record) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := time.Since(g.began).Seconds()
	for _, s := range sorts {
		if g.lines[s] == nil {
			g.lines[s] = &report.Line{Name: string(s)}
		}
		l := g.lines[s]
		l.At, l.Value = append(l.At, at), append(l.Value, float64(r.sum(s).bytes))
	}
}

func (g *folderGrowth) mark(label string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.marks = append(g.marks, report.Mark{At: time.Since(g.began).Seconds(), Label: strings.TrimSpace(label)})
}

// chart ends the looking, and gives what was seen.
func (g *folderGrowth) chart() report.Chart {
	close(g.quit)
	g.done.Wait()
	c := report.Chart{Title: "Bytes on disk, all nodes together", Unit: "B", Marks: g.marks}
	for _, s := range sorts {
		if l := g.lines[s]; l != nil {
			c.Lines = append(c.Lines, *l)
		}
	}
	return c
}
