package command

import (
	goimap "github.com/emersion/go-imap/v2"

	"hongyan/frontends/imap/wire"
)

// Replace takes the arguments of REPLACE or, with uid, UID REPLACE, in front of the message: which one it replaces, and where to (RFC 8508 section 5).
func Replace(d *wire.Decoder, uid bool) (set goimap.NumSet, mailbox string, err error) {
	if set, err = numSet(d, uid); err != nil {
		return nil, "", err
	}
	one := false
	switch set := set.(type) {
	case goimap.SeqSet:
		one = len(set) == 1 && set[0].Start == set[0].Stop
	case goimap.UIDSet:
		one = len(set) == 1 && set[0].Start == set[0].Stop && !goimap.IsSearchRes(set)
	}
	if !one {
		return nil, "", wire.Bad("Expected one message to replace")
	}
	mailbox, err = Append(d)
	return set, mailbox, err
}
