package smtp

import (
	"errors"
	"testing"

	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
)

// testDetails: mail for user+folder, and for accounts that are full, by both protocols.
func testDetails(t *testing.T, c *clustertest.Cluster, mx, lmtp string) {
	three, plus, door := c.Account(t, "three"), c.Account(t, "three+own"), c.Nodes[0].Client()
	if _, err := door.CreateMailbox(t.Context(), three, "Lists/Go", ""); err != nil {
		t.Fatal(err)
	}
	send := func(to, greet, want string, server string) {
		t.Helper()
		p := connect(t, server)
		p.do(greet+" c", "250")
		p.do("MAIL FROM:<a@remote.test>", "250")
		p.do("RCPT TO:<"+to+"@example.test>", "250")
		p.do("DATA", "354")
		p.do("Subject: x\r\n\r\n.", want)
	}
	for to, folder := range map[string]string{"three+lists/go": "Lists/Go", "Three+Archive": "Archive", "three+none+such": "INBOX", "three": "INBOX"} {
		before, err := door.Status(t.Context(), three, folder)
		if err != nil {
			t.Fatal(err)
		}
		send(to, "EHLO", "250", mx)
		send(to, "LHLO", "250", lmtp)
		after, err := c.Nodes[2].Client().Status(t.Context(), three, folder)
		if err != nil || after.Messages != before.Messages+2 {
			t.Errorf("%s: %d messages in %s, %v; there were %d", to, after.Messages, folder, err, before.Messages)
		}
	}
	send("three+own", "EHLO", "250", mx)
	if got := stored(t, door, plus); len(got) != 1 {
		t.Errorf("%d messages for the account with a + in its name", len(got))
	}
	if _, err := door.Authenticate(t.Context(), "three+Archive@example.test", clustertest.Password); !errors.Is(err, client.ErrBadCredentials) {
		t.Errorf("login with a detail: %v", err)
	}
	messages, forGood := uint64(9), true
	change := client.QuotaChange{Messages: &messages}
	if err := c.Nodes[0].SetQuota(t.Context(), three.Address, change); err != nil {
		t.Fatal(err)
	}
	send("three", "EHLO", "250", mx) // the ninth
	full := func(want string) {
		t.Helper()
		p := connect(t, mx)
		p.do("EHLO c", "250")
		p.do("MAIL FROM:<a@remote.test>", "250")
		p.do("RCPT TO:<three+Archive@example.test>", want)
	}
	full("452 4.2.2")
	if err := c.Nodes[0].SetQuota(t.Context(), clustertest.Domain, client.QuotaChange{Permanent: &forGood}); err != nil {
		t.Fatal(err)
	}
	full("552 5.2.2")
}

// A recipient without room is refused by itself, before the message: behind it SMTP has one reply for all.
func TestFullAtRecipient(t *testing.T) {
	f := newFake()
	f.room = func(a client.Account, bytes uint64) error {
		switch {
		case a.ID == 1 && bytes > 1000:
			return &client.QuotaError{}
		case a.ID == 2:
			return &client.QuotaError{Permanent: true}
		case a.ID == 3:
			return errors.New("nobody to ask")
		}
		return nil
	}
	for _, c := range []struct{ mail, rcpt, want string }{
		{"MAIL FROM:<>", "u1", "250"},
		{"MAIL FROM:<> SIZE=700", "u1", "250"},
		{"MAIL FROM:<> SIZE=1000", "u1", "452 4.2.2"}, // with our trace header
		{"MAIL FROM:<>", "u2", "552 5.2.2"},
		{"MAIL FROM:<> SIZE=2000", "u3", "250"},
	} {
		_, addr := start(t, f, Config{}, false)
		p := connect(t, addr)
		p.do("EHLO c", "250")
		p.do(c.mail, "250")
		p.do("RCPT TO:<"+c.rcpt+"@example.test>", c.want)
		p.do("RCPT TO:<u4@example.test>", "250")
	}
}

// What is asked to be free is what the message then takes, with our own header fields.
func TestRoomForTheTraceHeader(t *testing.T) {
	f := newFake()
	var asked uint64
	f.room = func(_ client.Account, bytes uint64) error {
		asked = bytes
		return nil
	}
	_, addr := start(t, f, Config{}, false)
	p := connect(t, addr)
	p.do("EHLO c", "250")
	p.do("MAIL FROM:<a@remote.test> SIZE=17", "250")
	p.do("RCPT TO:<u1@example.test>", "250")
	p.do("DATA", "354")
	p.do("Subject: x\r\n\r\ny\r\n.", "250")
	f.mu.Lock()
	defer f.mu.Unlock()
	if got := uint64(len(f.messages["u1@example.test"][0])); got != asked {
		t.Fatalf("%d bytes were asked for of a message that takes %d", asked, got)
	}
}
