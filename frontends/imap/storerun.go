package imap

import (
	"bytes"
	"io"
	"slices"
	"strings"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/frontends/imap/command"
	"hongyan/frontends/imap/wire"
)

// maxRun is how many STOREs go together, at most: more than the input buffer holds.
const maxRun = 256

// storeRun is a number of STOREs that the client had sent before it had an answer to the first, each with the same to do in other messages. The first one
// changes all those messages in one command of the cluster, since each would else wait for disks and other nodes by itself; every one is answered in its turn. Nothing
// else is told before the last is answered, so that what is told of a message is never older than what was told before.
//
// A session that counts on modification sequences has no runs: it would hear of the sequence that all of the changes have with the first answer, and if it then lost its
// connection it would never ask for the others.
type storeRun struct {
	first  *storing
	last   int             // which of the session's commands is the last of the run
	uids   *roaring.Bitmap // of all
	change flagChange
}

// goesOn says whether more of the run follows a command.
func (r *storeRun) goesOn(count int) bool { return r != nil && count < r.last }

// covers says whether a command was done by the first of the run.
func (r *storeRun) covers(count int, t *storing, uids *roaring.Bitmap) bool {
	return r != nil && count <= r.last && t.alike(r.first) && roaring.AndNot(uids, r.uids).IsEmpty()
}

// alike says whether two STOREs differ in nothing but their messages.
func (t *storing) alike(o *storing) bool {
	return !t.conditional && !o.conditional && t.sel == o.sel && t.op == o.op && t.silent == o.silent && t.byUID == o.byUID &&
		t.flags.System == o.flags.System && slices.Equal(t.flags.Keywords, o.flags.Keywords)
}

// all stores in all messages, and answers for them.
func (t *storing) all(uids *roaring.Bitmap) (err error) {
	s := t.s
	if s.run.covers(s.count, t, uids) {
		ch := s.run.change
		if !s.run.goesOn(s.count) {
			s.run = nil
		}
		return t.tell(roaring.And(uids, ch.told), ch.now, true)
	}
	run := t.behind(uids)
	if s.run = nil; run == nil {
		return s.steps(uids, changeChunk, t.chunk)
	}
	if run.change, err = t.change(run.uids); err != nil {
		return err // the others try by themselves
	}
	s.run = run
	return t.tell(roaring.And(uids, run.change.told), run.change.now, true)
}

// behind looks at what the client has sent behind a STORE, and makes a run of the commands that are like it; nil: there are none.
func (t *storing) behind(uids *roaring.Bitmap) *storeRun {
	s := t.s
	ahead := s.dec.Ahead()
	if t.conditional || s.condstore || s.notify != nil || uids.GetCardinality() > changeChunk || !bytes.Contains(ahead, []byte("\n")) {
		return nil
	}
	run := &storeRun{first: t, last: s.count, uids: uids.Clone()}
	d := wire.NewDecoder(bytes.NewReader(ahead), userLimits(0), func() error { return io.EOF })
	for run.last < s.count+maxRun {
		more := t.next(d)
		if more == nil {
			break
		}
		if more.Or(run.uids); more.GetCardinality() > changeChunk {
			break
		}
		run.uids = more
		run.last++
	}
	if run.last == s.count || run.uids.IsEmpty() {
		return nil
	}
	return run
}

// next is the messages of the next command, if it is a STORE like this one.
func (t *storing) next(d *wire.Decoder) *roaring.Bitmap {
	if d.Next() != nil || d.Tag() == "" || !d.Try(' ') || t.byUID && (!word(d, "UID") || !d.Try(' ')) || !word(d, "STORE") {
		return nil
	}
	asked, err := command.ParseStore(d, t.byUID)
	if err != nil {
		return nil
	}
	o, err := t.s.newStoring(t.sel, asked, t.byUID)
	if err != nil || !t.alike(o) {
		return nil
	}
	uids, _, err := t.sel.resolve(asked.Set)
	if err != nil {
		return nil
	}
	return uids
}

// word takes a word, in any case.
func word(d *wire.Decoder, want string) bool {
	got, err := d.Atom()
	return err == nil && strings.EqualFold(got, want)
}
