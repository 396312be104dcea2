package rebuild

import (
	"fmt"

	"hongyan/cluster/directory"
	"hongyan/cluster/mailbox"
	"hongyan/engine/index"
	"hongyan/engine/message"
	"hongyan/engine/volume"
)

// entering stores a message that is appended to a folder of an account.
func (w *world) entering(a directory.Account, folder string) mailbox.Entering {
	w.serial++
	body := fmt.Appendf(nil, "From: a@remote.test\r\nSubject: draft %d\r\n\r\n", w.serial)
	scanner := message.NewScanner()
	_, err := scanner.Write(body)
	must(w.t, err)
	summary, err := scanner.Finish().Encode()
	must(w.t, err)
	o := &mailbox.Origin{
		Delivery: w.randomID(), Date: w.now - 3600, Zone: -60, Arrived: w.now, System: index.FlagDraft, Keywords: []string{"$Forwarded"},
		Targets: []mailbox.Target{{Account: a.ID, Mailbox: folder}},
	}
	m := mailbox.Message{Ref: w.put(volume.KindMessage, o, body), Summary: summary, Date: o.Date, Zone: o.Zone, System: o.System, Keywords: o.Keywords}
	return mailbox.Entering{Message: m, Request: mailbox.Request(o.Delivery, a.Shard)}
}

// several appends some messages by one command (RFC 3502). They are put in one volume: those of one second are found in the order of records.
func (w *world) several() {
	w.now++
	a, open := w.some(), w.open
	w.open = open[:1]
	all := &mailbox.AppendAll{Account: a.ID, Mailbox: "Drafts", Limits: &index.Limits{Bytes: 1 << 30}}
	for range 1 + w.rng.IntN(3) {
		all.List = append(all.List, w.entering(a, "Drafts"))
	}
	w.open = open
	w.command(a.Shard, w.randomID(), &mailbox.Command{Ensure: &mailbox.Ensure{Account: a.ID}}, true)
	w.command(a.Shard, w.randomID(), &mailbox.Command{AppendAll: all}, true)
}

// replace puts a message in the place of the latest draft (RFC 8508). That the old one went is not in any volume.
func (w *world) replace() {
	a := w.some()
	v := w.live.Shard(a.Shard).View()
	defer func() { must(w.t, v.Close()) }()
	box, err := v.MailboxByName(a.ID, "Drafts")
	if err != nil {
		return
	}
	uids, err := v.UIDs(a.ID, box.ID)
	must(w.t, err)
	if uids.IsEmpty() {
		return
	}
	w.now++
	e := w.entering(a, "Drafts")
	c := &mailbox.Replace{Account: a.ID, Mailbox: "Drafts", Message: e.Message, From: box.ID, UID: uids.Maximum()}
	w.command(a.Shard, e.Request, &mailbox.Command{Replace: c}, false)
	w.expect(a.Shard, e.Request, &mailbox.Command{Append: &mailbox.Append{Account: a.ID, Mailbox: "Drafts", Message: e.Message}})
}

// shared are changes that came with feature.Sharing.
func (w *world) shared(a directory.Account, box index.Mailbox, set []byte) []mailbox.Command {
	value := []byte(fmt.Sprint("value ", w.serial))
	name := []string{"/private/comment", "/shared/vendor/x"}[w.rng.IntN(2)]
	return []mailbox.Command{
		{Told: &mailbox.Told{Marks: []mailbox.Mark{{Account: a.ID, Mailbox: box.ID, Below: 1 + uint32(w.rng.IntN(int(box.UIDNext)))}}}},
		{Annotate: &mailbox.Annotate{Account: a.ID, Mailbox: box.Name, List: []index.Annotation{{Name: name, Value: value}, {Name: "/private/gone"}}}},
		{Annotate: &mailbox.Annotate{Account: a.ID, List: []index.Annotation{{Name: name, User: a.ID, Value: value}}}},
		{Copy: &mailbox.Copy{Account: a.ID, Mailbox: box.ID, UIDs: set, To: "Archive", Dated: true, Limits: &index.Limits{Bytes: 1 << 30, Messages: 1 << 20}}},
		{Copy: &mailbox.Copy{Account: a.ID, Mailbox: box.ID, UIDs: set, To: "Trash", Move: true, Dated: true}},
	}
}

// notes are the annotations of a folder, with 0 of the account itself.
func (w *world) notes(v *index.View, account uint64, box uint32) (lines []string) {
	must(w.t, v.Annotations(account, box, func(n *index.Annotation) error {
		lines = append(lines, fmt.Sprintf("note %s of %d is %q, change %d", n.Name, n.User, n.Value, n.Seq))
		return nil
	}))
	return lines
}

// usage is what the account's quota counts, which is what its folders hold.
func (w *world) usage(v *index.View, account uint64) string {
	u, err := v.Usage(account)
	must(w.t, err)
	boxes, err := v.Mailboxes(account)
	must(w.t, err)
	var sum index.Usage
	for _, b := range boxes {
		sum.Bytes += b.Size
		sum.Messages += uint64(b.Messages)
	}
	if sum.Bytes != u.Bytes || sum.Messages != u.Messages {
		w.t.Errorf("account %d uses %+v, its folders hold %+v", account, u, sum)
	}
	return fmt.Sprintf("%d bytes, %d messages", u.Bytes, u.Messages)
}
