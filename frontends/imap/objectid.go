package imap

import (
	"encoding/base64"

	"hongyan/cluster/client"
)

// Object ids (RFC 8474). A message's is made of the hash of its bytes, so that copies have the same one, in whatever mailbox, account or
// region, and nothing has to be kept for it. A mailbox's is made of its number, which the account gives once and which stays when it is
// renamed, when its shard changes its leader, and when the account moves. To other accounts it is told with the owner's number.

func emailID(ref client.Ref) string {
	return "M" + base64.RawURLEncoding.EncodeToString(ref.Hash[:])
}

func mailboxID(a client.Account, m *client.Mailbox) string {
	if a.Guest == 0 {
		return "F" + decimal(m.ID)
	}
	return "F" + decimal(a.ID) + "-" + decimal(m.ID)
}
