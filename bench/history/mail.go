package history

// sending is the mail to a user that was tried and not acknowledged.
type sending struct{ user, id string }

// Try notes that a message is about to be sent to a user's INBOX, for the first time or again. Unless Acknowledge follows its outcome is
// unknown. Who knows more of it uses Begin and End.
func (h *History) Try(user, id string, raw []byte) {
	call := h.Begin(Op{Kind: Deliver, Mailbox: MailboxName(user, "INBOX"), Message: id, Hash: Sum(raw)})
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tried[sending{user, id}] = call
}

// Acknowledge notes that a server took the message on that was tried last.
func (h *History) Acknowledge(user, id string) {
	h.mu.Lock()
	call := h.tried[sending{user, id}]
	delete(h.tried, sending{user, id})
	h.mu.Unlock()
	if call != nil {
		call.End(Result{Outcome: OK})
	}
}
