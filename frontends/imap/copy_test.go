package imap

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
)

// testCopyMany: a COPY that goes in steps enters all of its messages or none, and a MOVE tells of the steps that it made.
func testCopyMany(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "copymany", nil)
	st.fill("INBOX", 1)
	r, other := st.rawUser("INBOX"), st.rawUser("")
	n := 1
	for ; n <= client.MaxCopy; n *= 2 {
		r.ok("COPY 1:* INBOX")
	}
	holds := func(mailbox string, messages, next int) {
		t.Helper()
		other.expect("STATUS "+mailbox+" (MESSAGES UIDNEXT)", fmt.Sprintf(`* STATUS "%s" (MESSAGES %d UIDNEXT %d)`, mailbox, messages, next))
	}
	// second runs something at the second step, which has its own time.
	second := func(op string, fn func() error) {
		count := 0
		st.mail.at(func(got string) error {
			if got == op {
				if count++; count == 2 {
					return fn()
				}
			}
			return nil
		})
	}
	failure := func() error { return fmt.Errorf("shard 2: %w", client.ErrUnavailable) }
	second("copy", failure)
	r.want("COPY 1:* Archive", "NO [UNAVAILABLE]")
	holds("Archive", 0, client.MaxCopy+1)

	// What was entered is taken back when the cluster can be asked again.
	second("copy", func() error {
		failed := false
		st.mail.at(func(got string) error {
			if got == "expunge" && !failed {
				failed = true
				return failure()
			}
			return nil
		})
		return failure()
	})
	r.want("COPY 1:* Archive", "NO [UNAVAILABLE]")
	holds("Archive", 0, 2*client.MaxCopy+1)

	// The mailbox gets another name between two steps, and another mailbox its name.
	second("copy", func() error {
		other.ok("RENAME Archive Old")
		other.ok("CREATE Archive")
		return nil
	})
	r.want("COPY 1:* Archive", "NO [UNAVAILABLE]")
	holds("Old", 0, 3*client.MaxCopy+1)
	holds("Archive", 0, n-client.MaxCopy+1)

	// Without room for all nothing is entered at all.
	st.mail.at(nil)
	limit := uint64(n + client.MaxCopy)
	if err := c.Nodes[0].SetQuota(t.Context(), st.user, client.QuotaChange{Messages: &limit}); err != nil {
		t.Fatal(err)
	}
	clustertest.Eventually(t, 10*time.Second, func() bool {
		q, err := st.mail.Quota(t.Context(), st.account)
		return err == nil && q.Messages == limit
	}, func() string { return "the limit is known" })
	r.want("COPY 1:* Old", "NO [OVERQUOTA]")
	holds("Old", 0, 3*client.MaxCopy+1)
	if err := c.Nodes[0].SetQuota(t.Context(), st.user, client.QuotaChange{Follow: true}); err != nil {
		t.Fatal(err)
	}

	got := r.ok("COPY 1:* Old")
	if want := fmt.Sprintf(" 1:%d %d:%d] ", n, 3*client.MaxCopy+1, 3*client.MaxCopy+n); !strings.Contains(got[len(got)-1], want) {
		t.Errorf("%q lacks %q", got, want)
	}

	second("move", failure)
	other.ok("CREATE New")
	got = r.want("MOVE 1:* New", "NO [UNAVAILABLE]")
	gone := slices.DeleteFunc(slices.Clone(got), func(l string) bool { return !strings.HasSuffix(l, " EXPUNGE") })
	if want := fmt.Sprintf(" 1:%d 1:%[1]d] Moved", client.MaxCopy); !strings.HasSuffix(got[0], want) || len(gone) != client.MaxCopy {
		t.Errorf("%d messages are said to be gone, %q lacks %q", len(gone), got[0], want)
	}
	holds("New", client.MaxCopy, client.MaxCopy+1)
	st.mail.at(nil)
	r.expect("FETCH * UID", fmt.Sprintf("* %d FETCH (UID %d)", n-client.MaxCopy, n))
}
