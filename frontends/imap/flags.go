package imap

import (
	"strings"

	goimap "github.com/emersion/go-imap/v2"

	"hongyan/cluster/client"
	"hongyan/engine/index"
	"hongyan/frontends/imap/wire"
)

const maxKeyword = 64 // bytes of a keyword

// systemFlag pairs a flag's name with its bit.
type systemFlag struct {
	name goimap.Flag
	bit  uint8
}

func systemFlags() [5]systemFlag {
	return [5]systemFlag{
		{goimap.FlagAnswered, index.FlagAnswered},
		{goimap.FlagFlagged, index.FlagFlagged},
		{goimap.FlagDeleted, index.FlagDeleted},
		{goimap.FlagSeen, index.FlagSeen},
		{goimap.FlagDraft, index.FlagDraft},
	}
}

// systemBit is the bit of a system flag, 0 for anything else.
func systemBit(f goimap.Flag) uint8 {
	for _, s := range systemFlags() {
		if strings.EqualFold(string(f), string(s.name)) {
			return s.bit
		}
	}
	return 0
}

// flagsIn are flags as a client gave them. \Recent, which clients cannot change, is refused like any unknown
// system flag.
func flagsIn(flags []goimap.Flag) (client.Flags, error) {
	var out client.Flags
	for _, f := range flags {
		if bit := systemBit(f); bit != 0 {
			out.System |= bit
			continue
		}
		if !wire.IsAtom(string(f)) {
			return out, bad("Invalid flag")
		}
		if len(f) > maxKeyword {
			return out, no(goimap.ResponseCodeLimit, "Keyword too long")
		}
		if !hasKeyword(out.Keywords, string(f)) {
			out.Keywords = append(out.Keywords, string(f))
		}
	}
	return out, nil
}

// flagsOut are flags as a client is told.
func flagsOut(f client.Flags) []goimap.Flag {
	out := make([]goimap.Flag, 0, 5+len(f.Keywords))
	for _, s := range systemFlags() {
		if f.System&s.bit != 0 {
			out = append(out, s.name)
		}
	}
	return appendKeywords(out, f.Keywords)
}

// mailboxFlags are the flags that a mailbox has, for FLAGS.
func mailboxFlags(keywords []string) []goimap.Flag {
	out := make([]goimap.Flag, 0, 6+len(keywords))
	for _, s := range systemFlags() {
		out = append(out, s.name)
	}
	return appendKeywords(out, keywords)
}

// appendKeywords leaves out what cannot be written as an atom.
func appendKeywords(out []goimap.Flag, keywords []string) []goimap.Flag {
	for _, k := range keywords {
		if wire.IsAtom(k) {
			out = append(out, goimap.Flag(k))
		}
	}
	return out
}

func hasKeyword(list []string, k string) bool {
	for _, have := range list {
		if strings.EqualFold(have, k) {
			return true
		}
	}
	return false
}
