package imap

import (
	"encoding/base64"

	"hongyan/cluster/client"
)

// Object ids (RFC 8474). A message's is made of the hash of its bytes, so that copies have the same one, in whatever mailbox, account or
// region, and nothing has to be kept for it. A mailbox's is made of its number, which the account gives once and which stays when it is
// renamed, when its shard changes its leader, and when the account moves.

func emailID(ref client.Ref) string {
	return "M" + base64.RawURLEncoding.EncodeToString(ref.Hash[:])
}

func mailboxID(m *client.Mailbox) string { return "F" + decimal(m.ID) }
