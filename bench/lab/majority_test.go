package lab

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	gosmtp "github.com/emersion/go-smtp"
)

// noMajorityAnswer is how long anybody may wait for "later" at a node that has lost the others: what docs/architecture.md
// says, and something for a busy machine.
const noMajorityAnswer = 13 * time.Second

// noMajority kills two of three nodes. The third one says "later" in every protocol within its time, also in a session that
// was open, which goes on reading what it has; when the others are back it takes and serves mail at once.
func noMajority(t *testing.T, r *crashRun) {
	left, user := r.cluster.Nodes[2], r.cluster.Accounts[0]
	raw := []byte("Subject: before\r\n\r\nbefore\r\n")
	if err := r.attempt(left, []string{user.Address}, raw, true); err != nil {
		t.Fatal(err)
	}
	open := r.session(left, user)
	defer open.Close()
	inbox, err := open.Select("INBOX", nil).Wait()
	if err != nil {
		t.Fatal(err)
	}
	r.control("kill", r.cluster.Nodes[0].ID)
	r.control("kill", r.cluster.Nodes[1].ID)

	seen := &goimap.StoreFlags{Op: goimap.StoreFlagsAdd, Flags: []goimap.Flag{goimap.FlagSeen}}
	whole := &goimap.FetchItemBodySection{Peek: true}
	var all sync.WaitGroup
	for what, ask := range map[string]func() error{
		"SMTP": func() error { return later(r.attempt(left, []string{user.Address}, raw, false)) },
		"LMTP": func() error { return later(r.attempt(left, []string{user.Address}, raw, true)) },
		"POP3": func() error { return r.popLater(left, user) },
		"SELECT": func() error {
			c := r.session(left, user)
			defer c.Close()
			_, err := c.Select("INBOX", nil).Wait()
			return unavailable(err)
		},
		"APPEND": func() error {
			c := r.session(left, user)
			defer c.Close()
			cmd := c.Append("INBOX", int64(len(raw)), nil)
			_, _ = cmd.Write(raw) // what fails here fails below, too
			_ = cmd.Close()
			_, err := cmd.Wait()
			return unavailable(err)
		},
		"open session": func() error {
			if _, err := open.Fetch(goimap.SeqSetNum(inbox.NumMessages), &goimap.FetchOptions{BodySection: []*goimap.FetchItemBodySection{whole}}).Collect(); err != nil {
				return fmt.Errorf("FETCH of a message whose bytes are here: %w", err)
			}
			return unavailable(open.Store(goimap.SeqSetNum(1), seen, nil).Close())
		},
	} {
		all.Go(func() {
			began := time.Now()
			if err := ask(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			took := time.Since(began)
			t.Logf("%s answered after %v", what, took.Round(time.Millisecond))
			if took > noMajorityAnswer {
				t.Errorf("%s answered after %v", what, took)
			}
		})
	}
	all.Wait()

	r.control("start", r.cluster.Nodes[0].ID)
	began := time.Now()
	eventuallyWithin(t, 10*time.Second, "mail is taken again", func() bool {
		return r.attempt(left, []string{user.Address}, raw, false) == nil
	})
	if err := open.Store(goimap.SeqSetNum(1), seen, nil).Close(); err != nil {
		t.Errorf("STORE in the open session: %v", err)
	}
	t.Logf("mail was taken again %v after the second node was back", time.Since(began).Round(time.Millisecond))
	r.control("start", r.cluster.Nodes[1].ID)
}

func (r *crashRun) session(n Member, a Account) *imapclient.Client {
	c, err := imapclient.DialTLS(n.IMAPS, &imapclient.Options{TLSConfig: r.tls})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := c.Login(a.Address, a.Password).Wait(); err != nil {
		r.t.Fatal(err)
	}
	return c
}

// later says what is wrong with an answer that should be 451.
func later(err error) error {
	var refused *gosmtp.SMTPError
	if errors.As(err, &refused) && refused.Code == 451 {
		return nil
	}
	return fmt.Errorf("got %w, expected 451", err)
}

// unavailable says what is wrong with an answer that should be NO [UNAVAILABLE].
func unavailable(err error) error {
	var refused *goimap.Error
	if errors.As(err, &refused) && refused.Type == goimap.StatusResponseTypeNo && refused.Code == goimap.ResponseCodeUnavailable {
		return nil
	}
	return fmt.Errorf("got %w, expected NO [UNAVAILABLE]", err)
}

// popLater logs in by POP3, which opens the maildrop.
func (r *crashRun) popLater(n Member, a Account) error {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", n.POP3S, r.tls)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	lines := bufio.NewScanner(conn)
	answer := ""
	for _, command := range []string{"", "USER " + a.Address + "\r\n", "PASS " + a.Password + "\r\n"} {
		if _, err := conn.Write([]byte(command)); err != nil {
			return err
		}
		lines.Scan()
		answer = lines.Text()
	}
	if !strings.HasPrefix(answer, "-ERR [SYS/TEMP]") {
		return fmt.Errorf("got %q, %w", answer, lines.Err())
	}
	return nil
}
