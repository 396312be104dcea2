package scenario

import (
	"context"
	"fmt"

	"hongyan/bench/report"
	"hongyan/bench/report/units"
	"hongyan/engine/volume"
)

// size is a number of bytes for a table.
func size(n float64) string { return units.Format(n, "B") }

// ratio is how much there is of it for a byte of mail.
func ratio(n float64, mail int64) string { return fmt.Sprintf("%.3f", n/float64(mail)) }

// results enters what the delivery has left on the disks. open is what it looked like before the volumes were ended.
func (d *storages) results(ctx context.Context, open record) error {
	fresh := func(id uint64) bool { _, old := d.old[id]; return !old }
	view, err := d.env.view(ctx, d.end.nodes[0])
	if err != nil {
		return err
	}
	took, one := 0, 0.0 // volumes with something in them, and the bytes of one copy
	for id, length := range view.sealed() {
		if fresh(id) {
			took++
			one += float64(length)
		}
	}
	replicas := 1
	for _, s := range view.Shards {
		replicas = max(replicas, len(s.Voters))
	}
	grown := func(s sort) space {
		was, is := d.base.sum(s), d.end.sum(s)
		return space{is.bytes - was.bytes, is.files - was.files}
	}
	index := float64(grown(sortIndex).bytes) / float64(d.sent.messages) / float64(replicas)
	add := func(m report.Metric) { d.section.Metrics = append(d.section.Metrics, m) }
	add(metric("storage.bytes_per_byte.copy", "bytes of volumes for a byte of mail, one copy", one/float64(d.sent.bytes), "ratio", report.Lower))
	add(metric("storage.bytes_per_byte.all", "bytes on disk, everything on all nodes, for a byte of mail", float64(grown("").bytes)/float64(d.sent.bytes), "ratio", report.Lower))
	add(metric("storage.index_per_message", "bytes of one index replica for a message", index, "B", report.Lower))
	add(metric("storage.journal_bytes", "journal of a node", float64(d.end.sum(sortJournal).bytes)/float64(len(d.end.nodes)), "B", report.Lower))
	if took > 0 && one > 0 {
		each := float64(grown("").files) / float64(took)
		full := min(float64(volume.DefaultMaxSize)*float64(d.sent.bytes)/one, volume.MaxRecords*d.sent.mean()) // mail in a full volume
		add(metric("storage.files_per_gib", "files for a GiB of mail in full volumes, all copies", each*(1<<30)/full, "files", report.Lower))
		d.section.Notes = append(d.section.Notes, fmt.Sprintf("Files: %d messages left %d files more, in %d volumes. A volume ends at 1 GiB or %d messages; the figure is for volumes that are full, each with the files that these had.",
			d.sent.messages, grown("").files, took, volume.MaxRecords))
	}
	d.table()
	before, _ := open.copies(fresh)
	d.notes(before, one, took)
	d.section.Settings = append(d.section.Settings, report.Setting{Name: "delivered", Value: fmt.Sprintf("%d messages, %s", d.sent.messages, size(float64(d.sent.bytes)))})
	d.section.Summary = fmt.Sprintf("%d messages of %s take %.2f bytes a byte in one copy of the volumes, and %.0f bytes each in one index.",
		d.sent.messages, size(float64(d.sent.bytes)), one/float64(d.sent.bytes), index)
	return nil
}

// table shows what grew where.
func (d *storages) table() {
	t := report.Table{Title: "On disk by sort of file", Columns: append(append([]string{"files"}, d.end.nodes...), "all", "grown by", "for a byte of mail", "number of files"),
		Note: "Blocks allocated after the delivery, with every volume ended; grown: since before it."}
	for _, s := range append(sorts[:len(sorts):len(sorts)], "") {
		row := []string{string(s)}
		if s == "" {
			row[0] = "all"
		}
		for _, n := range d.end.nodes {
			c := d.end.of[n]
			one := c.sorts[s]
			if s == "" {
				one = c.all()
			}
			row = append(row, size(float64(one.bytes)))
		}
		was, is := d.base.sum(s), d.end.sum(s)
		grown := float64(is.bytes - was.bytes)
		t.Rows = append(t.Rows, append(row, size(float64(is.bytes)), size(grown), ratio(grown, d.sent.bytes), fmt.Sprint(is.files)))
	}
	d.section.Tables = append(d.section.Tables, t)
}

// notes say how it was counted, beside what the nodes count themselves.
func (d *storages) notes(before, one float64, volumes int) {
	keys := d.end.sum(sortKeys)
	d.section.Notes = append(d.section.Notes,
		"A byte of mail is one that a sender sent, without the trace header that the server puts in front and stores. One copy: the lengths of all volumes that came to their end since the delivery began, each counted once; that the files of all copies have these lengths was seen. Checkpoints of shards that were written meanwhile are in there.",
		"Each node was restarted before and after the delivery: a node that stops ends its volumes, which cuts off the zeros written ahead (at most 1 MiB a volume), and flushes its index. "+
			fmt.Sprintf("Before that the same volumes were %s long without the zeros at their ends, and %s afterwards, %d of them.", size(before), size(one), volumes))
	if keys.files > 0 {
		d.section.Notes = append(d.section.Notes, fmt.Sprintf("Key files take %s each, with places for %d messages, whatever the volume holds: much beside the small volumes here, %.2f %% of a full one.",
			size(float64(keys.bytes)/float64(keys.files)), volume.MaxRecords, 100*float64(keys.bytes)/float64(keys.files)/volume.DefaultMaxSize))
	}
	if mail := d.own["hongyan_storage_mail_bytes_total"]; mail > 0 {
		d.section.Notes = append(d.section.Notes, fmt.Sprintf("The nodes themselves counted %.3f bytes in one copy for a byte of this mail, trace headers included.",
			d.own["hongyan_storage_disk_bytes_total"]/mail))
	}
}
