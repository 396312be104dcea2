package imap

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
)

func testQuota(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "quota", nil)
	set := func(change client.QuotaChange) {
		t.Helper()
		if err := c.Nodes[0].SetQuota(t.Context(), st.user, change); err != nil {
			t.Fatal(err)
		}
	}
	r := st.rawUser("")
	r.expect("GETQUOTA \"\"", `* QUOTA "" ()`)
	message := "Subject: a\r\n\r\n" + strings.Repeat("x", 1024-14)
	appends := func(mailbox, want string) {
		t.Helper()
		r.want(fmt.Sprintf("APPEND %s {%d+}\r\n%s", mailbox, len(message), message), want)
	}
	appends("INBOX", "OK")
	appends("INBOX", "OK")
	bytes, messages := uint64(3*1024+500), uint64(10)
	set(client.QuotaChange{Bytes: &bytes, Messages: &messages})
	r.expect("GETQUOTAROOT INBOX", `* QUOTAROOT INBOX ""`, `* QUOTA "" (STORAGE 2 3 MESSAGE 2 10)`)
	r.expect("GETQUOTAROOT inbox/none", `* QUOTAROOT "INBOX/none" ""`, `* QUOTA "" (STORAGE 2 3 MESSAGE 2 10)`)
	r.want("GETQUOTA other", "NO [NONEXISTENT]")
	r.want(`SETQUOTA "" (STORAGE 512)`, "NO [NOPERM]")
	r.want(`SETQUOTA "" (STORAGE)`, "BAD")
	r.ok("SELECT INBOX")
	appends("Sent", "OK")
	appends("Sent", "NO [OVERQUOTA]")
	r.want("APPEND Sent {2000}", "NO [OVERQUOTA]") // before its bytes are asked for
	r.want("COPY 1 Archive", "NO [OVERQUOTA]")
	r.want("UID COPY 77 Archive", "OK") // nothing
	r.ok("MOVE 1 Archive")
	r.expect("GETQUOTA \"\"", `* QUOTA "" (STORAGE 3 3 MESSAGE 3 10)`)
	r.ok(`STORE 1 +FLAGS.SILENT (\Deleted)`)
	r.expect("STATUS INBOX (DELETED DELETED-STORAGE)", `* STATUS INBOX (DELETED 1 DELETED-STORAGE 1024)`)
	r.expect("STATUS Sent (DELETED-STORAGE)", `* STATUS "Sent" (DELETED-STORAGE 0)`)
	r.ok("EXPUNGE")
	appends("INBOX", "OK")

	// Mail, which learns what the domain wants at once; and a change through one node counts at another.
	bytes = 1
	set(client.QuotaChange{Bytes: &bytes})
	d := st.mail.mail.NewDraft()
	defer d.Close()
	if _, err := d.Write([]byte(message)); err != nil {
		t.Fatal(err)
	}
	refusal := st.mail.mail.(door).Deliver(t.Context(), d.(*client.Draft), client.Delivery{Recipients: []client.Account{st.account}})[0]
	if over, ok := refusal.(*client.QuotaError); !ok || over.Permanent {
		t.Errorf("delivery over quota: %v", refusal)
	}
	other := serveNode(t, c, 2, st.user)
	clustertest.Eventually(t, 10*time.Second, func() bool {
		q, err := other.mail.Quota(t.Context(), other.account)
		return err == nil && q.Bytes == 1
	}, func() string { return "the quota is seen at another node" })
	set(client.QuotaChange{Follow: true})
	appends("INBOX", "OK")
	r.expect("GETQUOTA \"\"", `* QUOTA "" ()`)
	testExactQuota(t, c)
}

// testExactQuota: deliveries in every region at once fill an account to its limit, and not by one message more.
func testExactQuota(t *testing.T, c *clustertest.Cluster) {
	a, limit := c.Account(t, "exact"), uint64(7)
	if err := c.Nodes[0].SetQuota(t.Context(), a.Address, client.QuotaChange{Messages: &limit}); err != nil {
		t.Fatal(err)
	}
	var taken, refused atomic.Int64
	clustertest.Eventually(t, 10*time.Second, func() bool {
		q, err := c.Nodes[1].Client().Quota(t.Context(), a)
		other, failed := c.Nodes[2].Client().Quota(t.Context(), a)
		return err == nil && failed == nil && q.Messages == limit && other.Messages == limit
	}, func() string { return "every node goes by the limit" })
	var work sync.WaitGroup
	for i := range 18 {
		door := c.Nodes[i%3].Client()
		work.Go(func() {
			d := door.NewDraft()
			defer d.Close()
			if _, err := d.Write([]byte("Subject: x\r\n\r\n")); err != nil {
				t.Error(err)
				return
			}
			err := door.Deliver(t.Context(), d, client.Delivery{Recipients: []client.Account{a}})[0]
			var over *client.QuotaError
			switch {
			case err == nil:
				taken.Add(1)
			case errors.As(err, &over):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	work.Wait()
	q, err := c.Nodes[2].Client().Quota(t.Context(), a)
	if err != nil || taken.Load() != int64(limit) || refused.Load() != 18-int64(limit) || q.Used.Messages != limit {
		t.Errorf("%d taken, %d refused, %d held, %v", taken.Load(), refused.Load(), q.Used.Messages, err)
	}
}

// An account has its folders from its first login or its first mail on, with their uses, subscribed.
func testFirstFolders(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "first", nil)
	r := st.rawUser("")
	uses := r.ok(`LIST (SPECIAL-USE) "" * RETURN (SUBSCRIBED)`)
	for _, use := range []string{"Archive", "Drafts", "Junk", "Sent", "Trash"} {
		if want := fmt.Sprintf(`* LIST (\HasNoChildren \Subscribed \%s) "/" "%s"`, use, use); !strings.Contains(strings.Join(uses, "\n"), want) {
			t.Errorf("%q lacks %s", uses, want)
		}
	}
}
