package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	goimap "github.com/emersion/go-imap/v2"

	"hongyan/frontends/imap/wire"
)

// at is a decoder that stands behind a command's name.
func at(t testing.TB, args string) *wire.Decoder {
	t.Helper()
	d := wire.NewDecoder(strings.NewReader(args+"\r\n"), wire.Limits{Line: 64 << 10, Literals: 64 << 10, Count: 100}, func() error { return nil })
	if err := d.Next(); err != nil {
		t.Fatal(err)
	}
	return d
}

// parsed is what a parser made of arguments, in short, or how they are answered.
func parsed(t testing.TB, parse func(d *wire.Decoder) (any, error), args string) string {
	t.Helper()
	got, err := parse(at(t, args))
	var answer *goimap.Error
	switch {
	case errors.As(err, &answer):
		return strings.TrimSpace(string(answer.Type) + " " + strings.TrimPrefix(string(answer.Code), "CLIENTBUG"))
	case err != nil:
		return err.Error()
	}
	return fmt.Sprint(got)
}

type parser func(d *wire.Decoder) (any, error)

// several joins what a parser returns beside its error.
func several(values ...any) string {
	return strings.TrimSuffix(strings.ReplaceAll(fmt.Sprintln(values...), "\x00", "0"), "\n")
}

func parsers() map[string]parser {
	return map[string]parser{
		"NOOP":  func(d *wire.Decoder) (any, error) { return "", None(d) },
		"LOGIN": func(d *wire.Decoder) (any, error) { u, p, err := Login(d); return several(u, p), err },
		"AUTH": func(d *wire.Decoder) (any, error) {
			m, r, err := Authenticate(d)
			return several(m, r == nil, string(r)), err
		},
		"ID":     func(d *wire.Decoder) (any, error) { p, err := ID(d); return p, err },
		"ENABLE": func(d *wire.Decoder) (any, error) { c, err := Enable(d); return c, err },
		"COMPR":  func(d *wire.Decoder) (any, error) { a, err := Compress(d); return a, err },
		"SELECT": func(d *wire.Decoder) (any, error) { s, err := ParseSelect(d); return shortSelect(s), err },
		"CREATE": func(d *wire.Decoder) (any, error) { n, u, err := Create(d); return several(n, u), err },
		"RENAME": func(d *wire.Decoder) (any, error) { f, to, err := Rename(d); return several(f, to), err },
		"STATUS": func(d *wire.Decoder) (any, error) { n, i, err := Status(d); return several(n, i), err },
		"STORE":  func(d *wire.Decoder) (any, error) { s, err := ParseStore(d, false); return shortStore(s), err },
		"NOTIFY": func(d *wire.Decoder) (any, error) { n, err := ParseNotify(d); return shortNotify(n), err },
		"GETM":   func(d *wire.Decoder) (any, error) { g, err := ParseGetMetadata(d); return several(g), err },
		"SETM":   func(d *wire.Decoder) (any, error) { s, err := ParseSetMetadata(d); return several(s), err },
		"COPY":   func(d *wire.Decoder) (any, error) { s, m, err := Copy(d, true); return several(s, m), err },
		"UIDS":   func(d *wire.Decoder) (any, error) { s, err := UIDs(d); return s, err },
		"LSUB":   func(d *wire.Decoder) (any, error) { l, err := ParseLsub(d); return short(l), err },
		"LIST":   func(d *wire.Decoder) (any, error) { l, err := ParseList(d); return short(l), err },
		"UFETCH": func(d *wire.Decoder) (any, error) { f, err := ParseFetch(d, true); return shortFetch(f), err },
		"FETCH":  func(d *wire.Decoder) (any, error) { f, err := ParseFetch(d, false); return shortFetch(f), err },
		"CANCEL": func(d *wire.Decoder) (any, error) { tags, err := CancelUpdate(d); return several(tags), err },
		"SEARCH": func(d *wire.Decoder) (any, error) { s, err := ParseSearch(d); return shortSearch(s), err },
		"SETACL": func(d *wire.Decoder) (any, error) { s, err := ParseSetACL(d); return several(s), err },
		"DELACL": func(d *wire.Decoder) (any, error) { m, i, err := Identified(d); return several(m, i), err },
	}
}

func short(l *List) string {
	if l == nil {
		return ""
	}
	var opts []string
	raw, _ := json.Marshal(l.Options)
	for _, o := range strings.Split(strings.Trim(string(raw), "{}"), ",") {
		if name, on := strings.CutSuffix(o, ":true"); on {
			opts = append(opts, strings.Trim(name, `"`))
		}
	}
	return strings.TrimSuffix(several(l.Reference, l.Patterns, opts, l.Status, l.Extended, strings.Join(l.Metadata, ",")), " ")
}

func shortNotify(n *Notify) string {
	if n == nil {
		return ""
	}
	out := []any{n.None, n.Status}
	for _, g := range n.Groups {
		out = append(out, g.Filter, g.Names, g.Events, len(g.Items))
	}
	return several(out...)
}

func shortSelect(s *Select) string {
	switch {
	case s == nil:
		return ""
	case s.Resync != nil:
		return several(s.Mailbox, s.CondStore, *s.Resync)
	case s.CondStore:
		return several(s.Mailbox, true)
	}
	return s.Mailbox
}

func shortStore(s *Store) string {
	switch {
	case s == nil:
		return ""
	case s.Conditional:
		return several(s.Set, s.StoreFlags, s.Since)
	}
	return several(s.Set, s.StoreFlags)
}

func shortFetch(f *Fetch) string {
	if f == nil {
		return ""
	}
	out := []any{f.Set}
	for _, it := range f.Items {
		out = append(out, it.Label)
		if p := it.Section.Partial; p != nil {
			out = append(out, *p)
		}
		if it.Section.Peek {
			out = append(out, "peek")
		}
	}
	if f.Changed {
		out = append(out, f.Since)
	}
	if f.Vanished {
		out = append(out, "vanished")
	}
	return several(out...)
}

func shortSearch(s *Search) string {
	if s == nil || s.Key == nil {
		return ""
	}
	out := shortKey(s.Key)
	if s.Extended {
		out += fmt.Sprint(" ", s.Options)
	}
	if s.Update {
		out += fmt.Sprint(" update ", len(s.Items))
	}
	return out
}

func shortKey(k *Key) string {
	names := [...]string{"all", "and", "or", "not", "set", "flag", "header", "body", "text", "before", "since", "sentbefore", "sentsince", "larger", "smaller", "modseq",
		"older", "younger", "emailid", "savedbefore", "savedsince"}
	out := names[k.Kind]
	switch k.Kind {
	case KeyAnd, KeyOr, KeyNot:
		var kids []string
		for _, c := range k.Keys {
			kids = append(kids, shortKey(c))
		}
		return out + "(" + strings.Join(kids, " ") + ")"
	case KeySet:
		return k.Set.String()
	case KeyFlag:
		return string(k.Flag)
	case KeyHeader:
		return out + ":" + k.Field + ":" + k.Text
	case KeyBody, KeyText:
		return out + ":" + k.Text
	case KeyLarger, KeySmaller, KeyModSeq:
		return fmt.Sprint(out, k.Size)
	case KeyAll:
		return out
	}
	return out + k.Date.Format(":2006-01-02")
}

func TestCommands(t *testing.T) {
	all := parsers()
	for _, c := range []struct{ name, args, want string }{
		{"NOOP", "", ""}, {"NOOP", " ", ""}, {"NOOP", " x", "BAD"},
		{"LOGIN", ` a "b c"`, "a b c"}, {"LOGIN", " {1}\r\na {3+}\r\nb\"c", `a b"c`}, {"LOGIN", " a", "BAD"}, {"LOGIN", " a b c", "BAD"}, {"LOGIN", "", "BAD"},
		{"AUTH", " plain", "PLAIN true "}, {"AUTH", " PLAIN =", "PLAIN false "}, {"AUTH", " PLAIN AGEAYg==", "PLAIN false 0a0b"}, {"AUTH", " PLAIN !", "BAD"}, {"AUTH", " PLAIN a b", "BAD"}, {"AUTH", "", "BAD"},
		{"ID", " NIL", "[]"}, {"ID", ` ("name" "x" "os" NIL)`, "[[name x]]"}, {"ID", " ()", "[]"}, {"ID", ` ("name")`, "BAD"}, {"ID", " x", "BAD"}, {"ID", ` (` + strings.Repeat(`"a" "b" `, 31) + `"a" "b")`, "NO LIMIT"},
		{"ENABLE", " condstore UTF8=ACCEPT", "[CONDSTORE UTF8=ACCEPT]"}, {"ENABLE", "", "BAD"}, {"ENABLE", strings.Repeat(" x", 65), "NO LIMIT"},
		{"COMPR", " deflate", "DEFLATE"}, {"COMPR", "", "BAD"},
		{"SELECT", " INBOX", "INBOX"}, {"SELECT", ` "a/b c"`, "a/b c"}, {"SELECT", " &V4M-", "垃"}, {"SELECT", " &x", "NO CANNOT"}, {"SELECT", " a b", "BAD"}, {"SELECT", ` "` + "\xff" + `"`, "NO CANNOT"},
		{"SELECT", " a (CONDSTORE)", "a true"}, {"SELECT", " a ()", "BAD"}, {"SELECT", " a (X)", "BAD"}, {"SELECT", " a (CONDSTORE", "BAD"}, {"SELECT", " a CONDSTORE", "BAD"}, {"SELECT", " a ", "a"},
		{"SELECT", " a (QRESYNC (67890007 20050715194045000 41,43:211,214:541))", "a false {67890007 20050715194045000 41,43:211,214:541}"},
		{"SELECT", " a (condstore qresync (1 2))", "a true {1 2 }"}, {"SELECT", " a (QRESYNC (1 2 1:9 (1,3:4 2,5:6)))", "a false {1 2 1:9}"}, {"SELECT", " a (QRESYNC (1 2 (1 2)))", "a false {1 2 }"},
		{"SELECT", " a (QRESYNC)", "BAD"}, {"SELECT", " a (QRESYNC (1))", "BAD"}, {"SELECT", " a (QRESYNC (0 1))", "BAD"}, {"SELECT", " a (QRESYNC (1 0))", "BAD"}, {"SELECT", " a (QRESYNC (4294967296 1))", "BAD"},
		{"SELECT", " a (QRESYNC (1 2 1:*))", "BAD"}, {"SELECT", " a (QRESYNC (1 2 $))", "BAD"}, {"SELECT", " a (QRESYNC (1 2 3 4))", "BAD"}, {"SELECT", " a (QRESYNC (1 2 3 (1:2 3)))", "BAD"}, {"SELECT", " a (QRESYNC (1 2 (1 2) 3))", "BAD"},
		{"SELECT", " a (QRESYNC (1 2) QRESYNC (1 2))", "BAD"}, {"SELECT", " a (QRESYNC (1 2 (1 2 3)))", "BAD"}, {"SELECT", " a (QRESYNC (1 9223372036854775808))", "BAD"},
		{"CREATE", " a", "a []"}, {"CREATE", ` a (USE (\Junk \Sent))`, `a [\Junk \Sent]`}, {"CREATE", " a (X (y))", "BAD"}, {"CREATE", " a (USE x)", "BAD"}, {"CREATE", ` a (USE (` + strings.Repeat(`\x `, 20) + `\x))`, "NO LIMIT"},
		{"RENAME", " a b", "a b"}, {"RENAME", " a", "BAD"},
		{"STATUS", " a (MESSAGES unseen MESSAGES)", "a [MESSAGES UNSEEN]"}, {"STATUS", " a ()", "BAD"}, {"STATUS", " a (X)", "BAD"}, {"STATUS", " a", "BAD"},
		{"STORE", ` 1 FLAGS (\Seen a)`, `1 {0 false [\Seen a]}`}, {"STORE", ` 1:* +FLAGS.SILENT \Seen a`, `1:* {1 true [\Seen a]}`}, {"STORE", ` 1 -flags ()`, `1 {2 false []}`},
		{"STATUS", " a (highestmodseq)", "a [HIGHESTMODSEQ]"},
		{"STORE", ` 7 (UNCHANGEDSINCE 320162338) +FLAGS.SILENT (\Deleted)`, `7 {1 true [\Deleted]} 320162338`}, {"STORE", ` 7 (unchangedsince 0) FLAGS x`, `7 {0 false [x]} 0`},
		{"STORE", ` 7 (UNCHANGEDSINCE) FLAGS x`, "BAD"}, {"STORE", ` 7 (UNCHANGEDSINCE x) FLAGS x`, "BAD"}, {"STORE", ` 7 (X 1) FLAGS x`, "BAD"}, {"STORE", ` 7 (UNCHANGEDSINCE 1)`, "BAD"},
		{"STORE", ` 1 LABELS (x)`, "BAD"}, {"STORE", ` 1 +FLAGS`, "BAD"}, {"STORE", ` 0 FLAGS x`, "BAD"}, {"STORE", ` 1 FLAGS (x`, "BAD"},
		{"COPY", " 1:2 x", "1:2 x"}, {"COPY", " $ x", "$ x"}, {"COPY", " 1", "BAD"}, {"UIDS", " 4:5", "4:5"}, {"UIDS", "", "BAD"}, {"UIDS", " 1 2", "BAD"},
		{"NOTIFY", " none", "true false"}, {"NOTIFY", " SET (SELECTED NONE)", "false false 0 [] 0 0"}, {"NOTIFY", " set status (inboxes (MailboxName))", "false true 2 [] 8 0"},
		{"NOTIFY", " SET (selected (Messagenew (uid body.peek[header.fields (from to)]) messageExpunge)) (subtree Lists (MessageNew MessageExpunge FlagChange)) (mailboxes (a \"b c\") (SubscriptionChange))",
			"false false 0 [] 3 2 4 [Lists] 7 0 5 [a b c] 16 0"},
		{"NOTIFY", " SET (subscribed (MessageNew MessageExpunge AnnotationChange))", "NO BADEVENT (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange MailboxMetadataChange ServerMetadataChange)"},
		{"GETM", ` "" /shared/Comment`, "&{ [/shared/comment] 9223372036854775807 0}"}, {"GETM", " (DEPTH 1 maxsize 1024) INBOX (/private/a /shared/b)", "&{INBOX [/private/a /shared/b] 1024 1}"},
		{"GETM", " (DEPTH 2) a /shared/b", "BAD"}, {"GETM", " (X 2) a /shared/b", "BAD"}, {"GETM", " a ()", "BAD"}, {"GETM", " a", "BAD"}, {"GETM", " a /shared/*", "BAD"}, {"GETM", " a /shared//b", "BAD"},
		{"GETM", " a /shared/b/", "BAD"}, {"GETM", " a /other/b", "BAD"}, {"GETM", " a shared/b", "BAD"}, {"GETM", " a /shared/\"", "BAD"}, {"GETM", " a /shared/" + strings.Repeat("x", 300), "NO LIMIT"},
		{"GETM", " a (" + strings.Repeat("/shared/b ", 20) + "/shared/b)", "NO LIMIT"},
		{"SETM", ` a (/shared/b "x" /private/c NIL /shared/d ~{2+}` + "\r\n\x00a)", "&{a [{0 0 /shared/b 0 [120]} {0 0 /private/c 0 []} {0 0 /shared/d 0 [0 97]}]}"},
		{"SETM", " a (/shared/b {8193}", "NO METADATA MAXSIZE 8192"}, {"SETM", " a ()", "BAD"}, {"SETM", " a (/shared/b)", "BAD"}, {"SETM", " a (/shared/b x)", "BAD"}, {"SETM", " a /shared/b NIL", "BAD"},
		{"SETM", " a (/shared/b \"" + strings.Repeat("x", 8193) + "\")", "NO METADATA MAXSIZE 8192"},
		{"NOTIFY", "", "BAD"}, {"NOTIFY", " SET", "BAD"}, {"NOTIFY", " SET STATUS", "BAD"}, {"NOTIFY", " NONE x", "BAD"}, {"NOTIFY", " SET (selected ())", "BAD"}, {"NOTIFY", " SET (selected MessageNew)", "BAD"},
		{"NOTIFY", " SET (selected (MessageNew))", "BAD"}, {"NOTIFY", " SET (selected (FlagChange))", "BAD"}, {"NOTIFY", " SET (selected (MailboxName))", "BAD"}, {"NOTIFY", " SET (nobody (MailboxName))", "BAD"},
		{"NOTIFY", " SET (personal (MessageNew (uid) MessageExpunge))", "BAD"}, {"NOTIFY", " SET (selected NONE) (selected-delayed NONE)", "BAD"}, {"NOTIFY", " SET (subtree () NONE)", "BAD"}, {"NOTIFY", " SET (subtree NONE)", "BAD"},
		{"NOTIFY", " SET" + strings.Repeat(" (personal NONE)", 33), "NO LIMIT"}, {"NOTIFY", " SET (subtree (" + strings.Repeat("a ", 256) + "a) NONE)", "NO LIMIT"}, {"NOTIFY", " SET (selected (MessageNew (x)))", "BAD"},
		{"LSUB", ` "" *`, " [*] [] [] false"}, {"LSUB", ` "" (a b)`, "BAD"}, {"LSUB", ` "" a RETURN ()`, "BAD"},
		{"LIST", ` "" %`, " [%] [] [] false"}, {"LIST", ` a/ ""`, "a/ [] [] [] false"}, {"LIST", ` "" (a "b%")`, " [a b%] [] [] true"},
		{"LIST", ` (SUBSCRIBED RECURSIVEMATCH) "" * RETURN (CHILDREN STATUS (MESSAGES))`, " [*] [SelectSubscribed SelectRecursiveMatch ReturnChildren] [MESSAGES] true"},
		{"LIST", ` () "" * RETURN (SUBSCRIBED SPECIAL-USE)`, " [*] [ReturnSubscribed ReturnSpecialUse] [] true"},
		{"LIST", ` (RECURSIVEMATCH) "" *`, "BAD"}, {"LIST", ` (X) "" *`, "BAD"}, {"LIST", ` "" * RETURN (X)`, "BAD"}, {"LIST", ` "" * (X)`, "BAD"}, {"LIST", ` ""`, "BAD"},
		{"LIST", ` "" (` + strings.Repeat("a ", 70) + `a)`, "NO LIMIT"}, {"LIST", ` "" "&x"`, " [&x] [] [] false"},
		{"FETCH", " 1 ALL", "1 FLAGS INTERNALDATE RFC822.SIZE ENVELOPE"}, {"FETCH", " 1 full", "1 FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODY"},
		{"FETCH", " 1:* (UID BODY.PEEK[1.2.MIME] body[] BODY[TEXT]<3.4>)", "1:* UID BODY[1.2.MIME] peek BODY[] BODY[TEXT]<3> {3 4}"},
		{"FETCH", ` 1 BODY[HEADER.FIELDS (From "X Y" {3}` + "\r\nTo\" b)]", `1 BODY[HEADER.FIELDS (From "X Y" "To\"" b)]`},
		{"FETCH", " 1 (BODY BODYSTRUCTURE RFC822 RFC822.HEADER RFC822.TEXT)", "1 BODY BODYSTRUCTURE RFC822 RFC822.HEADER peek RFC822.TEXT"},
		{"FETCH", " 1 (BINARY.PEEK[1]<0.5> BINARY.SIZE[2] BINARY[])", "1 BINARY[1]<0> {0 5} peek BINARY.SIZE[2] BINARY[]"},
		{"FETCH", " 1:3 (MODSEQ)", "1:3 MODSEQ"}, {"FETCH", " 1:3 FAST (CHANGEDSINCE 12345)", "1:3 FLAGS INTERNALDATE RFC822.SIZE MODSEQ 12345"},
		{"UFETCH", " 300:500 (FLAGS) (CHANGEDSINCE 12345 VANISHED)", "300:500 FLAGS MODSEQ 12345 vanished"}, {"UFETCH", " 1 (MODSEQ) (VANISHED CHANGEDSINCE 0)", "1 MODSEQ 0 vanished"},
		{"FETCH", " 1 FLAGS (CHANGEDSINCE 1 VANISHED)", "BAD"}, {"UFETCH", " 1 FLAGS (VANISHED)", "BAD"}, {"FETCH", " 1 FLAGS (CHANGEDSINCE)", "BAD"}, {"FETCH", " 1 FLAGS (X)", "BAD"}, {"FETCH", " 1 FLAGS ()", "BAD"},
		{"FETCH", " 1 ()", "BAD"}, {"FETCH", " 1 X", "BAD"}, {"FETCH", " 1 BODY[", "BAD"}, {"FETCH", " 1 BODY[0]", "BAD"}, {"FETCH", " 1 BODY[MIME]", "BAD"}, {"FETCH", " 1 BODY[1.]", "BAD"},
		{"FETCH", " 1 BODY[X]", "BAD"}, {"FETCH", " 1 BODY[]<1>", "BAD"}, {"FETCH", " 1 BODY[]<1.0>", "BAD"}, {"FETCH", " 1 BODY[HEADER.FIELDS ()]", "BAD"}, {"FETCH", " 1 BINARY[1.MIME]", "BAD"},
		{"FETCH", " 1 BINARY.SIZE[1]<0.1>", "BAD"}, {"FETCH", " 1 BODY[99999999999]", "BAD"}, {"FETCH", " 1 (FLAGS", "BAD"}, {"FETCH", " 1 BODY[1" + strings.Repeat(".1", 200) + "]", "NO LIMIT"},
		{"FETCH", " 1 (" + strings.Repeat("UID ", 5001) + "UID)", "NO LIMIT"}, {"FETCH", " 1 BODY[HEADER.FIELDS (" + strings.Repeat("a ", 200) + "a)]", "NO LIMIT"},
		{"SEARCH", " ALL", "and(all)"}, {"SEARCH", " 1:3 UID 5 $ SEEN", `and(1:3 5 $ \Seen)`}, {"SEARCH", " unseen new old", `and(not(\Seen) and(\Recent not(\Seen)) not(\Recent))`},
		{"SEARCH", " OR (SEEN FROM x) NOT KEYWORD $a", `and(or(and(\Seen header:FROM:x) not($a)))`}, {"SEARCH", ` HEADER X-Y "" TEXT {2}` + "\r\nab BODY c", "and(header:X-Y: text:ab body:c)"},
		{"SEARCH", " LARGER 5 SMALLER 0 ON 1-Feb-2020 SENTSINCE \"2-Feb-2020\"", "and(larger5 smaller0 and(since:2020-02-01 before:2020-02-02) sentsince:2020-02-02)"},
		{"SEARCH", " RETURN (MIN SAVE) CHARSET utf-8 DELETED", `and(\Deleted) {true false false false true}`}, {"SEARCH", " RETURN () 1", "and(1) {false false true false false}"},
		{"SEARCH", " CHARSET gb2312 SUBJECT {2}\r\n\xc4\xe3", "and(header:SUBJECT:你)"}, {"SEARCH", " CHARSET klingon ALL", "NO BADCHARSET"},
		{"SEARCH", " MODSEQ 620162338", "and(modseq620162338)"}, {"SEARCH", ` MODSEQ "/flags/\\draft" all 620162338 OR NOT MODSEQ 1 LARGER 5`, "and(modseq620162338 or(not(modseq1) larger5))"},
		{"SEARCH", " MODSEQ", "BAD"}, {"SEARCH", " MODSEQ x", "BAD"}, {"SEARCH", ` MODSEQ "/flags/x" some 1`, "BAD"}, {"SEARCH", ` MODSEQ "/flags/x" 1`, "BAD"}, {"SEARCH", ` MODSEQ "/flags/x" priv`, "BAD"},
		{"SEARCH", " SAVEDON 28-Dec-2014 SAVEDSINCE 1-Jan-2015 NOT SAVEDBEFORE 2-Jan-2015", "and(and(savedsince:2014-12-28 savedbefore:2014-12-29) savedsince:2015-01-01 not(savedbefore:2015-01-02))"},
		{"SEARCH", " savedatesupported", "and(all)"}, {"SEARCH", " SAVEDON x", "BAD"}, {"FETCH", " 998 (SAVEDATE)", "998 SAVEDATE"},
		{"SEARCH", "", "BAD"}, {"SEARCH", " ", "BAD"}, {"SEARCH", " ()", "BAD"}, {"SEARCH", " X", "BAD"}, {"SEARCH", " X y", "BAD"}, {"SEARCH", " NOT", "BAD"}, {"SEARCH", " OR SEEN", "BAD"}, {"SEARCH", " (SEEN", "BAD"},
		{"SEARCH", " LARGER x", "BAD"}, {"SEARCH", " LARGER -1", "BAD"}, {"SEARCH", " SINCE x", "BAD"}, {"SEARCH", " RETURN (X) ALL", "BAD"}, {"SEARCH", " RETURN ALL ALL", "BAD"}, {"SEARCH", " UID x", "BAD"},
		{"SEARCH", " RETURN (COUNT UPDATE (UID BODY[HEADER.FIELDS (TO FROM)]) CONTEXT) ALL", "and(all) {false false false true false} update 2"}, {"SEARCH", " RETURN (UPDATE) 1", "and(1) {false false false false false} update 0"},
		{"SEARCH", " RETURN (CONTEXT) 1", "and(1) {false false true false false}"}, {"SEARCH", " RETURN (UPDATE UPDATE) 1", "BAD"}, {"SEARCH", " RETURN (UPDATE ()) 1", "BAD"}, {"SEARCH", " RETURN (UPDATE (UID) 1", "BAD"},
		{"CANCEL", ` "B01"`, "[B01]"}, {"CANCEL", ` "a" "b"`, "[a b]"}, {"CANCEL", "", "BAD"}, {"CANCEL", " a", "BAD"}, {"CANCEL", ` "a" `, "BAD"}, {"CANCEL", strings.Repeat(` "a"`, 65), "NO LIMIT"},
		{"LIST", ` "" % RETURN (METADATA (/shared/Color /private/b) STATUS (MESSAGES))`, " [%] [] [MESSAGES] true /shared/color,/private/b"}, {"LIST", ` "" % RETURN (METADATA)`, "BAD"},
		{"LIST", ` "" % RETURN (METADATA ())`, "BAD"}, {"LIST", ` "" % RETURN (METADATA /shared/a)`, "BAD"}, {"LIST", ` "" % RETURN (METADATA (shared/a))`, "BAD"},
		{"SEARCH", strings.Repeat(" NOT", 100) + " SEEN", "NO LIMIT"}, {"SEARCH", " " + strings.Repeat("(", 70) + "SEEN", "NO LIMIT"}, {"SEARCH", strings.Repeat(" SEEN", 1001), "NO LIMIT"}, {"SEARCH", strings.Repeat(" BODY x", 17), "NO LIMIT"},
	} {
		if got := parsed(t, all[c.name], c.args); got != c.want {
			t.Errorf("%s%.80s\ngot  %s\nwant %s", c.name, c.args, got, c.want)
		}
	}
}

func TestPlain(t *testing.T) {
	if id, user, password, err := Plain([]byte("\x00u\x00p")); id != "" || user != "u" || password != "p" || err != nil {
		t.Error(id, user, password, err)
	}
	for _, in := range []string{"", "u\x00p", "\x00\x00p", "a\x00b\x00c\x00d"} {
		if _, _, _, err := Plain([]byte(in)); err == nil {
			t.Errorf("%q", in)
		}
	}
}

func TestAppend(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{" x {3}\r\nabc", "abc"}, {` x (\Seen $a) "01-Feb-2020 03:04:05 +0000" {3+}` + "\r\nabc", `[\Seen $a] abc`}, {" x ~{2}\r\n\x00a", "\x00a"},
		{" x UTF8 (~{2+}\r\nab)", "ab"}, {" x {1+}\r\na (\\Seen) {1+}\r\nb", `a [\Seen] b`},
		{" x UTF8 (~{2+}\r\nab", "BAD"}, {" x", "BAD"}, {" x abc", "BAD"}, {` x "y" {1}` + "\r\na", "BAD"}, {" x () () {1}\r\na", "BAD"}, {" x {1+}\r\nab", "BAD"}, {" x {1+}\r\na b", "BAD"},
	} {
		got := parsed(t, func(d *wire.Decoder) (any, error) {
			if _, err := Append(d); err != nil {
				return nil, err
			}
			var out []string
			for more := true; more; {
				m, err := AppendMessage(d)
				if err != nil {
					return nil, err
				}
				if err := m.Literal.Open(); err != nil {
					return nil, err
				}
				body, err := io.ReadAll(m.Literal)
				if err != nil {
					return nil, err
				}
				if len(m.Flags) > 0 {
					out = append(out, fmt.Sprint(m.Flags))
				}
				out = append(out, string(body))
				if more, err = EndMessage(d, m); err != nil {
					return nil, err
				}
			}
			return strings.Join(out, " "), nil
		}, c.args)
		if got != c.want {
			t.Errorf("%q: got %q, want %q", c.args, got, c.want)
		}
	}
}

// FuzzCommands has every parser read arbitrary arguments: none panics, and the decoder finds the next command.
func FuzzCommands(f *testing.F) {
	for _, seed := range []string{" 1:* (UID BODY.PEEK[1.2.MIME]<0.5>)", " RETURN (MIN) CHARSET gbk OR SEEN (NOT 1)", ` (SUBSCRIBED) "" (a b) RETURN (STATUS (MESSAGES))`, ` 1 +FLAGS (\Seen)`,
		" a (CONDSTORE QRESYNC (1 2 3:4 (1,2 3,4)))", " 1 (FLAGS) (CHANGEDSINCE 5 VANISHED)", ` 1 (UNCHANGEDSINCE 5) FLAGS x`, ` MODSEQ "/flags/\\draft" all 5`} {
		f.Add([]byte(seed))
	}
	all := parsers()
	f.Fuzz(func(t *testing.T, args []byte) {
		for _, parse := range all {
			d := wire.NewDecoder(strings.NewReader(string(args)+"\r\n"), wire.Limits{Line: 1 << 16, Literals: 1 << 16, Count: 10, Skip: 1 << 16}, func() error { return nil })
			if d.Next() != nil {
				return
			}
			if _, err := parse(d); err == nil && !d.AtEnd() {
				t.Fatalf("%q: more of the command is left", args)
			}
			_ = d.Finish() // an input without the end of its literals
		}
	})
}
