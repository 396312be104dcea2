package mailbox

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/engine/effort"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

const (
	anna = 1
	bo   = 2
)

// letters makes rights of their letters.
func letters(s string) (r index.Rights) {
	for i, l := range index.RightLetters {
		if strings.ContainsRune(s, l) {
			r |= 1 << i
		}
	}
	return r
}

func set(uids ...uint32) []byte {
	b, err := EncodeUIDs(roaring.BitmapOf(uids...))
	if err != nil {
		panic(err)
	}
	return b
}

func entering(system uint8, keywords ...string) Message {
	return Message{Ref: volume.Ref{Volume: 1, Record: 1, Length: 10}, Summary: []byte{1}, System: system, Keywords: keywords}
}

// shared is a shard in which anna has Projects (7) with a message, and Projects/below (8).
func shared(t *testing.T) *replica {
	r := newReplica(t)
	for _, c := range []*Command{
		{Create: &Create{Account: anna, Name: "Projects"}},
		{Create: &Create{Account: anna, Name: "Projects/below"}},
		{Append: &Append{Account: anna, Mailbox: "Projects", Message: entering(index.FlagFlagged, "work")}},
		{Ensure: &Ensure{Account: bo}},
	} {
		if got := r.do(t, *c); got.Code != OK {
			t.Fatal(got)
		}
	}
	return r
}

// as applies a command on behalf of bo.
func (r *replica) as(t *testing.T, c *Command) *Result {
	t.Helper()
	return r.do(t, Command{As: &As{User: bo, Do: c}})
}

// all is everything that the shard has of anna's account.
func (r *replica) all(t *testing.T) (out string) {
	t.Helper()
	v := r.store.View()
	err := v.Account(anna, func(key, value []byte) error {
		out += fmt.Sprintf("%x %x\n", key, value)
		return nil
	})
	if err := errors.Join(err, v.Close()); err != nil {
		t.Fatal(err)
	}
	return out
}

func (r *replica) grant(t *testing.T, mailbox, rights string) {
	t.Helper()
	c := &Command{Grant: &Grant{Account: anna, Mailbox: mailbox, User: bo, Address: "bo@x", Rights: letters(rights)}}
	if got := r.do(t, *c); got.Code != OK {
		t.Fatal(got)
	}
}

// guestNeed are the rights that a command wants, each in its mailbox; any is that one of them does.
type guestNeed struct {
	name  string
	c     *Command
	q     *Query
	here  string // on Projects
	below string // on Projects/below
	any   bool
}

func guestNeeds() []guestNeed {
	store := func(op index.FlagOp, system uint8, keywords ...string) *Command {
		return &Command{Store: &Store{Account: anna, Mailbox: 7, UIDs: set(1), Op: uint8(op), System: system, Keywords: keywords}}
	}
	notes := []index.Annotation{{User: bo, Name: "/private/comment", Value: []byte("x")}}
	return []guestNeed{
		{name: "STORE +Seen", c: store(index.OpAdd, index.FlagSeen), here: "s"},
		{name: "STORE -Deleted", c: store(index.OpRemove, index.FlagDeleted), here: "t"},
		{name: "STORE +Flagged", c: store(index.OpAdd, index.FlagFlagged), here: "w"},
		{name: "STORE +work", c: store(index.OpAdd, 0, "work"), here: "w"},
		{name: "STORE Seen Deleted work", c: store(index.OpSet, index.FlagSeen|index.FlagDeleted, "work"), here: "stw", any: true},
		{name: "STORE ()", c: store(index.OpSet, 0), here: "stw", any: true},
		{name: "COPY", c: &Command{Copy: &Copy{Account: anna, Mailbox: 7, UIDs: set(1), To: "Projects/below"}}, here: "r", below: "i"},
		{name: "MOVE", c: &Command{Copy: &Copy{Account: anna, Mailbox: 7, UIDs: set(1), To: "Projects/below", Move: true}}, here: "rte", below: "i"},
		{name: "EXPUNGE", c: &Command{Expunge: &Expunge{Account: anna, Mailbox: 7, UIDs: set(1), OnlyDeleted: true}}, here: "e"},
		{name: "APPEND", c: &Command{AppendAll: &AppendAll{Account: anna, Mailbox: "Projects", List: []Entering{{Message: entering(0)}}}}, here: "i"},
		{name: "REPLACE", c: &Command{Replace: &Replace{Account: anna, Mailbox: "Projects/below", Message: entering(0), From: 7, UID: 1}}, here: "rte", below: "i"},
		{name: "CREATE", c: &Command{Create: &Create{Account: anna, Name: "Projects/new"}}, here: "k"},
		{name: "CREATE deep", c: &Command{Create: &Create{Account: anna, Name: "Projects/new/deep"}}, here: "k"},
		{name: "DELETE", c: &Command{Delete: &Delete{Account: anna, Name: "Projects/below"}}, below: "x"},
		{name: "RENAME", c: &Command{Rename: &Rename{Account: anna, From: "Projects/below", To: "Projects/other"}}, here: "k", below: "x"},
		{name: "SETMETADATA", c: &Command{Annotate: &Annotate{Account: anna, Mailbox: "Projects", List: notes}}, here: "rswip", any: true},
		{name: "SETACL", c: &Command{Grant: &Grant{Account: anna, Mailbox: "Projects", User: 3, Rights: 1, Address: "cy@x"}}, here: "a"},

		{name: "STATUS", q: &Query{Kind: QueryStatus, Name: "Projects"}, here: "r"},
		{name: "SELECT", q: &Query{Kind: QuerySelect, Name: "Projects"}, here: "r"},
		{name: "FETCH", q: &Query{Kind: QueryMessages, Mailbox: 7, UIDs: set(1)}, here: "r"},
		{name: "SEARCH", q: &Query{Kind: QueryFlagged, Mailbox: 7, Flag: index.FlagSeen}, here: "r"},
		{name: "updates", q: &Query{Kind: QueryChanges, Mailbox: 7}, here: "r"},
		{name: "GETMETADATA", q: &Query{Kind: QueryAnnotations, Name: "Projects"}, here: "rswip", any: true},
		{name: "GETACL", q: &Query{Kind: QueryGrants, Name: "Projects"}, here: "a"},
		{name: "MYRIGHTS", q: &Query{Kind: QueryRights, Name: "Projects"}, here: "lrikxa", any: true},
	}
}

// code does what n says on behalf of bo.
func (n *guestNeed) code(t *testing.T, r *replica) Code {
	t.Helper()
	if n.c != nil {
		return r.as(t, n.c).Code
	}
	q := *n.q
	q.Account, q.User = anna, bo
	return r.ask(t, &q)[0].Code
}

// Each right alone, all, all but one, none: who has what a command needs may do it; who lacks it hears NoRight with l and NoMailbox without.
func TestGuestNeeds(t *testing.T) {
	for _, n := range guestNeeds() {
		t.Run(n.name, func(t *testing.T) {
			annotates := strings.HasSuffix(n.name, "METADATA")
			try := func(here, below string) {
				t.Helper()
				r := shared(t)
				r.grant(t, "Projects", here)
				r.grant(t, "Projects/below", below)
				may := true
				if n.any {
					may = strings.ContainsAny(here, n.here) && (!annotates || strings.Contains(here, "l"))
				} else {
					may = letters(here).Has(letters(n.here)) && letters(below).Has(letters(n.below))
				}
				before := r.all(t)
				got := n.code(t, r)
				if (got == OK) != may || !may && got != NoRight && got != NoMailbox {
					t.Errorf("with %q on it and %q below: code %d", here, below, got)
				}
				if !may && n.c != nil && before != r.all(t) {
					t.Errorf("with %q on it and %q below: refused, and it changed something", here, below)
				}
				creates := n.name == "CREATE" || n.name == "CREATE deep" || n.name == "RENAME"
				if knows := strings.Contains(here, "l") && strings.Contains(below, "l"); !may && !creates && knows != (got == NoRight) && here == below {
					t.Errorf("with %q on it and %q below: code %d says whether it is there", here, below, got)
				}
			}
			all := index.RightLetters
			try("", "")
			try(all, all)
			for i, l := range all {
				if i%effort.Of(4, 1, 1) > 0 {
					continue
				}
				try(string(l), string(l))
				try("l"+string(l), "l"+string(l))
				try(strings.ReplaceAll(all, string(l), ""), all)
				try(all, strings.ReplaceAll(all, string(l), ""))
			}
		})
	}
}

// Whatever a guest asks of a mailbox that is not there, he hears what he would of one that he may not know of.
func TestGuestNoMailbox(t *testing.T) {
	r := shared(t)
	for _, name := range []string{"nothing", "Projects"} {
		for _, c := range []*Command{
			{AppendAll: &AppendAll{Account: anna, Mailbox: name, List: []Entering{{Message: entering(0)}}}},
			{Delete: &Delete{Account: anna, Name: name}},
			{Rename: &Rename{Account: anna, From: name, To: "other"}},
			{Annotate: &Annotate{Account: anna, Mailbox: name}},
			{Grant: &Grant{Account: anna, Mailbox: name, User: 3, Rights: 1}},
		} {
			if got := r.as(t, c); got.Code != NoMailbox {
				t.Errorf("%s: %+v", name, got)
			}
		}
		for _, k := range []QueryKind{QueryStatus, QuerySelect, QueryAnnotations, QueryGrants, QueryRights} {
			if got := r.ask(t, &Query{Kind: k, Account: anna, User: bo, Name: name})[0]; got.Code != NoMailbox {
				t.Errorf("%s, query %d: %+v", name, k, got)
			}
		}
	}
	for _, name := range []string{"top", "INBOX", "Projects", "Projects/x"} {
		if got := r.as(t, &Command{Create: &Create{Account: anna, Name: name}}); got.Code != NoRight {
			t.Errorf("create %s: %+v", name, got)
		}
	}
}

// What is the owner's alone nobody does on another's behalf.
func TestGuestInvalid(t *testing.T) {
	r := shared(t)
	r.grant(t, "Projects", index.RightLetters)
	r.grant(t, "INBOX", index.RightLetters)
	for i, c := range []*Command{
		{Deliver: &Deliver{Accounts: []uint64{anna}, Message: entering(0)}},
		{Append: &Append{Account: anna, Mailbox: "Projects", Message: entering(0)}},
		{Subscribe: &Subscribe{Account: anna, Name: "Projects", On: true}},
		{Ensure: &Ensure{Account: anna}},
		{Sharer: &Sharer{Account: anna, Owner: 9, Address: "x@x"}},
		{Recount: &Recount{Account: anna, Mailbox: 7}},
		{Annotate: &Annotate{Account: anna, Mailbox: "Projects", List: []index.Annotation{{User: anna, Name: "/private/comment", Value: []byte("x")}}}},
		{Move: &Move{Step: MoveDrop, Account: anna}},
		{},
		{As: &As{User: bo, Do: &Command{Delete: &Delete{Account: anna, Name: "Projects"}}}},
		nil,
	} {
		if got := r.as(t, c); got.Code != Invalid {
			t.Errorf("case %d: %+v", i, got)
		}
	}
	if got := r.as(t, &Command{Rename: &Rename{Account: anna, From: "inbox", To: "Projects/in"}}); got.Code != NoRight {
		t.Error(got)
	}
	if got := r.as(t, &Command{Annotate: &Annotate{Account: anna}}); got.Code == OK {
		t.Error(got)
	}
	for _, k := range []QueryKind{QuerySubscriptions, QueryUsage, QuerySharers, 99} {
		if got := r.ask(t, &Query{Kind: k, Account: anna, User: bo})[0]; got.Code != Invalid {
			t.Errorf("query %d: %+v", k, got)
		}
	}
}

// Messages that a guest enters have the flags that he could give them, and no others; those that he may not change stay as they are.
func TestGuestFlags(t *testing.T) {
	r := shared(t)
	r.grant(t, "Projects", "lrwte")
	flagsOf := func(box uint32) (out string) {
		for _, m := range r.ask(t, &Query{Kind: QueryMessages, Account: anna, Mailbox: box, UIDs: set(1, 2, 3, 4), Want: uint8(index.WantFlags)})[0].Messages {
			out += fmt.Sprintf("%d %d %v; ", m.UID, m.Flags.System, m.Flags.Keywords)
		}
		return out
	}
	for _, step := range []struct {
		rights string // on Projects/below
		c      *Command
		want   string
	}{
		{"li", &Command{AppendAll: &AppendAll{Account: anna, Mailbox: "Projects/below", List: []Entering{{Message: entering(31, "k")}}}}, "1 0 []; "},
		{"lis", &Command{Copy: &Copy{Account: anna, Mailbox: 7, UIDs: set(1), To: "Projects/below"}}, "1 0 []; 2 0 []; "},
		{"liw", &Command{Copy: &Copy{Account: anna, Mailbox: 7, UIDs: set(1), To: "Projects/below"}}, "1 0 []; 2 0 []; 3 4 [work]; "},
		{"list", &Command{Replace: &Replace{Account: anna, Mailbox: "Projects/below", Message: entering(31, "k"), From: 7, UID: 1}}, "1 0 []; 2 0 []; 3 4 [work]; 4 9 []; "},
		{"lw", &Command{Store: &Store{Account: anna, Mailbox: 8, UIDs: set(1, 4), System: 31, Keywords: []string{"z"}}}, "1 22 [z]; 2 0 []; 3 4 [work]; 4 31 [z]; "},
		{"ls", &Command{Store: &Store{Account: anna, Mailbox: 8, UIDs: set(1, 4)}}, "1 22 [z]; 2 0 []; 3 4 [work]; 4 30 [z]; "},
	} {
		r.grant(t, "Projects/below", step.rights)
		if got := r.as(t, step.c); got.Code != OK {
			t.Fatalf("%s: %+v", step.rights, got)
		}
		if got := flagsOf(8); got != step.want {
			t.Errorf("%s: got %s, want %s", step.rights, got, step.want)
		}
	}
}

// A guest sees the folders that he may know of, with his rights; and his own and the shared annotations.
func TestGuestSees(t *testing.T) {
	r := shared(t)
	see := func() (out string) {
		for _, f := range r.ask(t, &Query{Kind: QueryMailboxes, Account: anna, User: bo}) {
			for i, m := range f.Mailboxes {
				out += fmt.Sprintf("%s %d; ", m.Name, f.Grants[i].Rights)
			}
		}
		return out
	}
	if got := see(); got != "" {
		t.Error(got)
	}
	r.grant(t, "Projects", "r")
	r.grant(t, "Projects/below", "lr")
	if got := see(); got != "Projects/below 3; " {
		t.Error(got)
	}
	if got := r.ask(t, &Query{Kind: QuerySelect, Account: anna, User: bo, Name: "projects/below"})[0]; got.Code != NoMailbox {
		t.Error(got.Code) // names other than INBOX have their case
	}
	if got := r.ask(t, &Query{Kind: QuerySelect, Account: anna, User: bo, Name: "Projects/below"})[0]; got.Code != OK || len(got.Grants) != 1 || got.Grants[0].Rights != letters("lr") {
		t.Error(got)
	}
	for box, list := range map[string][]index.Annotation{
		"Projects":       {{Name: "/shared/comment", Value: []byte("hidden")}},
		"Projects/below": {{Name: "/shared/comment", Value: []byte("x")}, {User: anna, Name: "/private/comment", Value: []byte("hers")}, {User: bo, Name: "/private/comment", Value: []byte("his")}},
	} {
		if got := r.do(t, Command{Annotate: &Annotate{Account: anna, Mailbox: box, List: list}}); got.Code != OK {
			t.Fatal(got)
		}
	}
	for _, q := range []*Query{{Kind: QueryNotes}, {Kind: QueryAnnotations, Name: "Projects/below"}} {
		q.Account, q.User = anna, bo
		got := ""
		for _, n := range r.ask(t, q)[0].Annotations {
			got += fmt.Sprintf("%d %d %s; ", n.Mailbox, n.User, n.Name)
		}
		if got != "8 0 /shared/comment; 8 2 /private/comment; " {
			t.Errorf("query %d: %s", q.Kind, got)
		}
	}
}

// Rights are set, added and removed; who has none left has no entry.
func TestGrantOps(t *testing.T) {
	r := shared(t)
	for i, step := range []struct {
		op     index.FlagOp
		rights string
		want   string
	}{
		{index.OpSet, "lr", "lr"}, {index.OpAdd, "sr", "lrs"}, {index.OpRemove, "lt", "rs"}, {index.OpSet, "a", "a"}, {index.OpRemove, "a", ""}, {index.OpAdd, "l", "l"}, {index.OpSet, "", ""},
	} {
		c := &Command{Grant: &Grant{Account: anna, Mailbox: "Projects", User: bo, Address: "bo@x", Op: uint8(step.op), Rights: letters(step.rights)}}
		if got := r.do(t, *c); got.Code != OK {
			t.Fatal(got)
		}
		list := r.ask(t, &Query{Kind: QueryGrants, Account: anna, Name: "Projects"})[0].Grants
		if step.want == "" {
			if len(list) != 0 {
				t.Errorf("step %d: %v", i, list)
			}
		} else if want := (index.Grant{Mailbox: 7, User: bo, Rights: letters(step.want), Address: "bo@x"}); len(list) != 1 || list[0] != want {
			t.Errorf("step %d: %v", i, list)
		}
	}
	for _, c := range []*Grant{{Account: anna, Mailbox: "Projects", User: bo, Op: 9}, {Account: anna, Mailbox: "Projects", User: anna, Rights: 1}, {Account: anna, Mailbox: "none", User: bo, Rights: 1}} {
		if got := r.do(t, Command{Grant: c}); got.Code == OK {
			t.Errorf("%+v", c)
		}
	}
}

// A sharer is noted, told of, and forgotten by who knew its last note.
func TestSharer(t *testing.T) {
	r := shared(t)
	sharers := func() []index.Sharer { return r.ask(t, &Query{Kind: QuerySharers, Account: bo})[0].Sharers }
	note := Command{Sharer: &Sharer{Account: bo, Owner: anna, Address: "anna@x"}}
	r.do(t, note)
	first := sharers()
	r.do(t, note)
	list := sharers()
	if len(list) != 1 || list[0].Owner != anna || list[0].Address != "anna@x" || list[0].Seq <= first[0].Seq {
		t.Fatal(first, list)
	}
	for _, step := range []struct {
		seq  uint64
		gone bool
	}{{first[0].Seq, false}, {list[0].Seq, true}, {list[0].Seq, false}} {
		if got := r.do(t, Command{Sharer: &Sharer{Account: bo, Owner: anna, Forget: step.seq}}); got.Code != OK || got.Done != step.gone {
			t.Error(step, got)
		}
	}
	if list = sharers(); len(list) != 0 {
		t.Error(list)
	}
}
