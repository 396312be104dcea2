package history

import "sync"

// Journal notes the deliveries of senders that say only when they try and when they were acknowledged (bench/load/send). A try that was not acknowledged
// stays of unknown outcome, whatever the server said to it.
type Journal struct {
	h *History

	mu    sync.Mutex // guards what follows
	calls map[attempt]*Call
}

type attempt struct{ user, id string }

// Journal makes one for INBOXes. Several may write to one history.
func (h *History) Journal() *Journal { return &Journal{h: h, calls: make(map[attempt]*Call)} }

// Try notes that the message is about to be sent to the user, for the first time or again.
func (j *Journal) Try(user, id string, raw []byte) {
	c := j.h.Begin(Op{Client: "sender", Kind: Deliver, Mailbox: MailboxName(user, "INBOX"), Message: id, Hash: Sum(raw)})
	j.mu.Lock()
	defer j.mu.Unlock()
	j.calls[attempt{user, id}] = c
}

// Acknowledge notes that a server took the message on for the user.
func (j *Journal) Acknowledge(user, id string) {
	j.mu.Lock()
	c := j.calls[attempt{user, id}]
	delete(j.calls, attempt{user, id})
	j.mu.Unlock()
	if c != nil {
		c.End(Result{Outcome: OK})
	}
}
