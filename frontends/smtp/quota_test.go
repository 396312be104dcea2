package smtp

import (
	"errors"
	"testing"

	"hongyan/cluster/client"
)

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
		{"MAIL FROM:<> SIZE=1000", "u1", "250"},
		{"MAIL FROM:<> SIZE=1001", "u1", "452 4.2.2"},
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
