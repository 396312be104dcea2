package cluster_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
	"hongyan/cluster/config"
	"hongyan/cluster/policy"
	"hongyan/cluster/replica"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// shown is all that a client sees of an account's messages, but for modseqs.
func (l *lands) shown(a client.Account) (out []string) {
	l.t.Helper()
	door := l.by.Client()
	boxes, err := door.Mailboxes(ctx(l.t), a)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, b := range boxes {
		out = append(out, fmt.Sprintf("%s: %d, next %d, %d messages, %d unseen, %d bytes", b.Name, b.UIDValidity, b.UIDNext, b.Messages, b.Unseen, b.Size))
		l.each(a, b.Name, func(m *client.Message) {
			r, err := door.Open(ctx(l.t), a, b.ID, m.UID, m.Ref, 0, m.Size)
			if err != nil {
				l.t.Fatal(err)
			}
			body, err := io.ReadAll(r)
			if err = errors.Join(err, r.Close()); err != nil {
				l.t.Fatal(err)
			}
			out = append(out, fmt.Sprintf("uid %d flags %v date %d %d saved %d size %d hash %x summary %x body %.40q…, %d bytes", m.UID, m.Flags, m.Date, m.Zone, m.SaveDate, m.Size, m.Ref.Hash[:8],
				m.Summary, body, len(body)))
		})
	}
	return out
}

// each goes through a folder's messages.
func (l *lands) each(a client.Account, folder string, fn func(m *client.Message)) {
	l.t.Helper()
	door := l.by.Client()
	box, err := door.Select(ctx(l.t), a, folder)
	if err != nil {
		l.t.Fatal(err)
	}
	err = door.Messages(ctx(l.t), a, box.Mailbox.ID, box.UIDs, index.WantFlags|index.WantImmutable|index.WantSummary, func(m *client.Message) error { fn(m); return nil })
	if err != nil {
		l.t.Fatal(err)
	}
}

// records are where an account's messages lie, folder by folder.
func (l *lands) records(a client.Account, folders ...string) (list []volume.Ref) {
	l.t.Helper()
	for _, f := range folders {
		l.each(a, f, func(m *client.Message) { list = append(list, m.Ref) })
	}
	return list
}

// followed says whether no shard has anything to go.
func (l *lands) followed() bool {
	l.t.Helper()
	d, err := l.by.Domains(ctx(l.t))
	if err != nil {
		l.t.Fatal(err)
	}
	return len(d.Follows) == l.Configs[0].Shards && !slices.ContainsFunc(d.Follows, func(f client.Following) bool { return f.Waiting > 0 || f.Why != "" })
}

// lies says whether all of an account's messages are in volumes of a policy.
func (l *lands) lies(a client.Account, rule policy.Policy) bool {
	l.t.Helper()
	all, err := l.by.Entries(ctx(l.t))
	if err != nil {
		l.t.Fatal(err)
	}
	return !slices.ContainsFunc(l.records(a, "INBOX", "Archive"), func(r volume.Ref) bool {
		i := slices.IndexFunc(all, func(e replica.Entry) bool { return e.ID == r.Volume })
		return i < 0 || policy.Of(all[i].Policy).Key() != rule.Key()
	})
}

// TestStoredMailFollowsItsPolicy changes the policy of a domain with stored mail, encrypted, in whole and cold volumes, that shares records with another domain's: all of
// it goes to volumes of that policy, nobody sees a difference, copies still share their bytes, and the volumes that nobody needs any more go. Then back.
func TestStoredMailFollowsItsPolicy(t *testing.T) {
	unwatched(t)
	var specs []clustertest.Spec
	for _, region := range []string{"south", "north", "overseas"} {
		specs = append(specs, clustertest.Spec{Region: region, Roles: everything, Tune: func(n *config.Node) {
			n.Shards, n.Compaction.CloseSeconds = 2, 1
			n.Cold = &config.Cold{AfterSeconds: 1, MinBytes: 1 << 20, DataFragments: 2, ParityFragments: 1, BytesPerSecond: 64 << 20}
		}})
	}
	l := &lands{Cluster: clustertest.StartNodes(t, specs...), t: t, sent: make(map[string][]string)}
	l.by = l.Nodes[0]
	door := l.by.Client()
	a, stranger := l.domain("a.test", client.PolicyChange{}), l.domain("b.test", client.PolicyChange{})
	if _, err := l.by.AddAccount(ctx(t), client.NewAccount{Address: "v@a.test", Password: clustertest.Password}); err != nil {
		t.Fatal(err)
	}
	b, err := door.Resolve(ctx(t), "v@a.test")
	if err != nil {
		t.Fatal(err)
	}
	large := make([]byte, 2<<20)
	for i := range large {
		large[i] = byte('!' + rand.N(90))
	}
	for i, n := range l.Nodes {
		l.mail(n, message(i, 300), a, b, stranger)
	}
	l.mail(l.by, large, a, b)
	for _, one := range []client.Account{a, b} {
		if _, err := door.Copy(ctx(t), one, 1, roaring.BitmapOf(1, 4), "Archive"); err != nil {
			t.Fatal(err)
		}
		if _, err := door.StoreFlags(ctx(t), one, 1, roaring.BitmapOf(2), index.OpAdd, client.Flags{System: index.FlagSeen, Keywords: []string{"$Work"}}, 0); err != nil {
			t.Fatal(err)
		}
	}
	was := l.records(a, "INBOX", "Archive")
	if was[0] != was[4] || was[3] != was[5] {
		t.Fatalf("copies lie at %v", was)
	}
	clustertest.Eventually(t, 60*time.Second, func() bool {
		return slices.ContainsFunc(l.entries(policy.Default()), func(e replica.Entry) bool { return e.ID == was[3].Volume && e.Cold != nil })
	}, func() string { return "the large message is cold" })
	before := map[string][]string{a.Address: l.shown(a), b.Address: l.shown(b), stranger.Address: l.shown(stranger)}
	theirs := l.records(stranger, "INBOX")
	same := func(when string) {
		t.Helper()
		for _, one := range []client.Account{a, b, stranger} {
			if got := l.shown(one); !slices.Equal(got, before[one.Address]) {
				t.Errorf("%s: %s sees\n%.2000q, expected\n%.2000q", when, one.Address, got, before[one.Address])
			}
		}
		if now := l.records(stranger, "INBOX"); !slices.Equal(now, theirs) {
			t.Errorf("%s: another domain's mail lies at %v, expected %v", when, now, theirs)
		}
		if now := l.records(a, "INBOX", "Archive"); now[0] != now[4] || now[3] != now[5] {
			t.Errorf("%s: copies lie at %v", when, now)
		}
	}
	mainland := policy.Policy{Copies: 2, Survive: policy.Region, Regions: []string{"north", "south"}}
	for _, to := range []struct {
		rule policy.Policy
		set  []string
	}{{mainland, mainland.Regions}, {policy.Default(), []string{}}} {
		if err := l.by.SetPolicy(ctx(t), "a.test", client.PolicyChange{Regions: &to.set}); err != nil {
			t.Fatal(err)
		}
		clustertest.Eventually(t, 90*time.Second, func() bool { return l.lies(a, to.rule) && l.lies(b, to.rule) },
			func() string {
				return fmt.Sprintf("mail of a.test lies under %s: %v", to.rule, l.records(a, "INBOX", "Archive"))
			})
		same(to.rule.String())
		if len(to.set) > 0 {
			l.confined(mainland)
			clustertest.Eventually(t, 60*time.Second, func() bool {
				return !slices.ContainsFunc(l.entries(policy.Default()), func(e replica.Entry) bool { return e.ID == was[3].Volume })
			}, func() string {
				return fmt.Sprintf("the volume that only a.test's mail was in is gone: %v", l.entries(policy.Default()))
			})
		} else {
			clustertest.Eventually(t, 60*time.Second, func() bool { return len(l.entries(mainland)) == 0 },
				func() string { return fmt.Sprintf("no volume is left under %s: %v", mainland, l.entries(mainland)) })
		}
		same("after the old volumes went")
		clustertest.Eventually(t, 90*time.Second, func() bool { return l.followed() }, func() string { return "every shard says that it has nothing to go" })
	}
}
