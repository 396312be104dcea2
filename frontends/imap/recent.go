package imap

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	goimap "github.com/emersion/go-imap/v2"

	"hongyan/cluster/client"
	"hongyan/frontends/imap/command"
)

// A message is \Recent to the first session that is told of it with its mailbox open for writing (RFC 3501 section 2.3.2); RFC 9051 has done away
// with the flag, so sessions that enabled IMAP4rev2 neither see it nor take it from others.
//
// Nobody waits for it: a session takes what no other session of this server has, and the cluster is told a moment later, of all mailboxes
// of a shard in one command. Until then a session of another node may be told the same, which the RFC leaves open. Where nothing is new, nothing
// is done. What a node had not passed on when it ended is \Recent once more.

const (
	noteDelay = time.Second // between two notes to the cluster
	maxNoted  = 100_000     // mailboxes that wait for one; beyond, messages stay \Recent
)

// recents is what sessions of this server were told of and the cluster does not know yet.
type recents struct {
	mail mail
	done func(error) // hears how each note went

	mu      sync.Mutex // guards what follows
	waiting map[openMailbox]client.Told
	timer   bool // a note is to come
}

type openMailbox struct {
	account uint64
	folder  uint32
}

func (m openMailbox) compare(other openMailbox) int {
	return cmp.Or(cmp.Compare(m.account, other.account), cmp.Compare(m.folder, other.folder))
}

func newRecents(m mail, done func(error)) *recents {
	return &recents{mail: m, done: done, waiting: make(map[openMailbox]client.Told)}
}

// below is the UID up to which sessions of this server were told, where the cluster may not know it yet: else known is false.
func (r *recents) below(account uint64, folder uint32) (uid uint32, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, known := r.waiting[openMailbox{account, folder}]
	return t.Below, known
}

// take has a session told of the messages below a UID, and returns the first that no session of this server was told of before. Where known is false that is the
// cluster's to say, which must be asked after this: what others took was forgotten here when it was noted there.
func (r *recents) take(a client.Account, folder, below uint32) (first uint32, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := openMailbox{a.ID, folder}
	old, known := r.waiting[key]
	if below > old.Below && (known || len(r.waiting) < maxNoted) {
		r.waiting[key] = client.Told{Account: a, Folder: folder, Below: below}
		if !r.timer {
			r.timer = true
			time.AfterFunc(noteDelay, r.run)
		}
	}
	return old.Below, known
}

// settled forgets what the cluster knows.
func (r *recents) settled(account uint64, folder, below uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if key := (openMailbox{account, folder}); r.waiting[key].Below <= below {
		delete(r.waiting, key)
	}
}

// run passes on what waits, and comes again if that is not all.
func (r *recents) run() {
	ctx, cancel := context.WithTimeout(context.Background(), updateTimeout)
	defer cancel()
	r.done(r.note(ctx))
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer = len(r.waiting) > 0; r.timer {
		time.AfterFunc(noteDelay, r.run)
	}
}

// note tells the cluster. After a failure what waited goes on waiting.
func (r *recents) note(ctx context.Context) error {
	r.mu.Lock()
	list := make([]client.Told, 0, len(r.waiting))
	for _, t := range r.waiting {
		list = append(list, t)
	}
	r.mu.Unlock()
	if len(list) == 0 {
		return nil
	}
	if err := r.mail.Told(ctx, list); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range list {
		if key := (openMailbox{t.Account.ID, t.Folder}); r.waiting[key] == t {
			delete(r.waiting, key)
		}
	}
	return nil
}

// sees says whether the session has \Recent at all. A guest neither sees the flag nor takes it from the owner.
func (s *session) sees(sel *selected) bool { return !s.rev2 && sel.counts && sel.account.Guest == 0 }

// meet finds out which of the messages that the client is about to hear of are \Recent. from is the first that may be.
func (s *session) meet(sel *selected, uids *roaring.Bitmap, from uint32) {
	if !s.sees(sel) || uids.IsEmpty() || uids.Maximum() < from {
		return
	}
	var told uint32
	var known bool
	if sel.readOnly {
		told, known = s.srv.recents.below(sel.account.ID, sel.id)
	} else {
		told, known = s.srv.recents.take(sel.account, sel.id, uids.Maximum()+1)
	}
	if !known {
		told = s.toldBelow(sel)
	}
	from = max(from, told)
	fresh := uids.Clone()
	fresh.RemoveRange(0, uint64(from))
	if fresh.IsEmpty() {
		return
	}
	if sel.recent == nil {
		sel.recent = roaring.New()
	}
	sel.recent.Or(fresh)
}

// toldBelow is the UID up to which sessions were told of an open mailbox, as the cluster knows it; 0 where it does not say.
func (s *session) toldBelow(sel *selected) uint32 {
	ctx, cancel := s.question()
	defer cancel()
	m, err := s.mail.Status(ctx, s.account, sel.name)
	if err != nil || m.ID != sel.id {
		return 0 // RFC 3501 section 2.3.2: where that cannot be found out, a message is recent
	}
	s.srv.recents.settled(s.account.ID, sel.id, m.Told)
	return m.Told
}

// recentSet is the messages that are \Recent to the client, nil if none is.
func (s *session) recentSet(sel *selected) *roaring.Bitmap {
	if sel.recent == nil || s.rev2 {
		return nil
	}
	if sel.recent.And(sel.view.uids); sel.recent.IsEmpty() {
		sel.recent = nil
	}
	return sel.recent
}

// tellRecent says how many messages are \Recent, if that is another number than the client knows.
func (s *session) tellRecent(sel *selected) {
	n := uint32(0)
	if set := s.recentSet(sel); set != nil {
		n = uint32(set.GetCardinality())
	}
	if n != sel.recentTold && !s.rev2 {
		sel.recentTold = n
		s.out.Raw("* ").Num(uint64(n)).Line(" RECENT")
	}
}

// flagsOf are the flags of a message as the client is told.
func (s *session) flagsOf(sel *selected, uid uint32, f client.Flags) []goimap.Flag {
	out := flagsOut(f)
	if sel.recent != nil && !s.rev2 && sel.recent.Contains(uid) {
		out = append(out, command.FlagRecent)
	}
	return out
}

// recentCount is STATUS' figure of a mailbox, less what sessions of this server were told of.
func (s *session) recentCount(a client.Account, m *client.Mailbox) uint32 {
	if below, _ := s.srv.recents.below(a.ID, m.ID); below > m.Told && a.Guest == 0 {
		return min(m.Recent, m.UIDNext-min(below, m.UIDNext))
	}
	return m.Recent
}
