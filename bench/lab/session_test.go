package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	gosmtp "github.com/emersion/go-smtp"

	"hongyan/bench/history"
)

// TestOneCluster shows several things on one cluster, which goes on after each.
func TestOneCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a cluster for a while")
	}
	r := &crashRun{t: t, bin: program.Build(t, "../.."), dir: t.TempDir(), history: history.New()}
	r.start()
	defer r.stop()
	for _, part := range []struct {
		name string
		run  func(*testing.T, *crashRun)
	}{{"metrics", metrics}, {"sessions outlive a leader", sessionsOutliveALeader}, {"no majority", noMajority}} {
		ok := t.Run(part.name, func(t *testing.T) {
			r.t = t
			part.run(t, r)
		})
		r.t = t
		if !ok {
			return
		}
		r.cluster = r.reread()
	}
}

// sessionsOutliveALeader keeps an IMAP session and an LMTP session open on the two nodes that stay while the third,
// which leads the users' shards, is killed and comes back: both see a pause and no error.
func sessionsOutliveALeader(t *testing.T, r *crashRun) {
	nodes, user := r.cluster.Nodes, r.cluster.Accounts[0]

	mail, err := imapclient.DialTLS(nodes[1].IMAPS, &imapclient.Options{TLSConfig: r.tls})
	if err != nil {
		t.Fatal(err)
	}
	defer mail.Close()
	if err := mail.Login(user.Address, user.Password).Wait(); err != nil {
		t.Fatal(err)
	}
	inbox, err := mail.Select("INBOX", nil).Wait()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", nodes[2].LMTP)
	if err != nil {
		t.Fatal(err)
	}
	lmtp := gosmtp.NewClientLMTP(conn)
	defer lmtp.Close()

	worst := time.Duration(0)
	sent := inbox.NumMessages
	round := func(i int) {
		began := time.Now()
		raw := fmt.Appendf(nil, "Subject: %d\r\n\r\nunder a falling leader\r\n", i)
		if err := lmtp.SendMail("s@remote.test", []string{user.Address}, bytes.NewReader(raw)); err != nil {
			t.Fatalf("round %d: LMTP: %v", i, err)
		}
		sent++
		if err := mail.Noop().Wait(); err != nil {
			t.Fatalf("round %d: NOOP: %v", i, err)
		}
		store := &goimap.StoreFlags{Op: goimap.StoreFlagsAdd, Flags: []goimap.Flag{goimap.Flag(fmt.Sprintf("$Round%d", i%8))}}
		if err := mail.Store(goimap.UIDSetNum(1), store, nil).Close(); err != nil {
			t.Fatalf("round %d: STORE: %v", i, err)
		}
		status, err := mail.Status("INBOX", &goimap.StatusOptions{NumMessages: true}).Wait()
		if err != nil {
			t.Fatalf("round %d: STATUS: %v", i, err)
		}
		if *status.NumMessages != sent {
			t.Fatalf("round %d: %d messages, acknowledged %d", i, *status.NumMessages, sent)
		}
		worst = max(worst, time.Since(began))
	}
	eventuallyWithin(t, 30*time.Second, "the first region leads its shards", func() bool { return r.ledFromHome(nodes[0]) })
	for i := range 20 {
		round(i)
	}
	calm := worst
	busy := r.occupy(nodes[1:], user, inbox.NumMessages)
	var killed sync.WaitGroup
	killed.Go(func() { r.control("kill", nodes[0].ID) })
	for i := range 60 {
		round(100 + i)
	}
	killed.Wait()
	r.control("start", nodes[0].ID)
	eventuallyWithin(t, 30*time.Second, "leadership is home again", func() bool {
		round(200)
		return r.ledFromHome(nodes[0])
	})
	busy.end(t, sent)
	t.Logf("%d messages, longest round %v, before the kill %v", sent, worst.Round(time.Millisecond), calm.Round(time.Millisecond))
}

// ledFromHome says whether a node leads every shard whose home is its region.
func (r *crashRun) ledFromHome(n Member) bool {
	st, err := GetStatus(r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	var view clusterView
	if err := json.Unmarshal(st.Cluster, &view); err != nil {
		r.t.Fatal(err)
	}
	for _, s := range view.Shards {
		if s.Home == n.Region && s.Leader != n.ID {
			return false
		}
	}
	return len(view.Shards) > 0
}
