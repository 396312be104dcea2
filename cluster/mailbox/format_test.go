package mailbox

import (
	"testing"

	"hongyan/engine/codec/codectest"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

func samples() []codectest.Sample {
	m := Message{
		Ref: volume.Ref{Volume: 7, Record: 2, Length: 300, Hash: [32]byte{1, 2, 3}}, Summary: []byte("summary"), Date: 1_700_000_000, Zone: 480,
		System: index.FlagSeen, Keywords: []string{"$Work", "工作"},
	}
	uids := []byte{0x3b, 0x30, 0, 0, 1, 0, 0, 1, 0, 1, 0, 2, 0} // a roaring set
	box := index.Mailbox{
		ID: 9, Name: "项目/2026", UIDValidity: 1_700_000_000, UIDNext: 5, HighestModSeq: 1000, Messages: 4, Unseen: 3, Deleted: 1, Size: 1200,
		SpecialUse: `\Archive`, Subscribed: true, Keywords: []string{"$Work"}, NoSelect: true,
	}
	told := box
	told.Told, told.Recent = 4, 1
	flags := index.Flags{System: index.FlagFlagged, Keywords: []string{"$Work"}}
	limits := &index.Limits{Bytes: 1 << 30, Messages: 1000}
	terms := []Terms{{Limits: limits, Detail: "工作"}}
	return []codectest.Sample{
		{Name: "ensure", Value: &Command{Ensure: &Ensure{Account: 1}}},
		{Name: "deliver", Value: &Command{Deliver: &Deliver{Accounts: []uint64{1, 1 << 40}, Message: m}}, Former: true},
		{Name: "append", Value: &Command{Append: &Append{Account: 1, Mailbox: "Sent", Message: m}}, Former: true},
		{Name: "store", Value: &Command{Store: &Store{Account: 1, Mailbox: 9, UIDs: uids, Op: uint8(index.OpAdd), System: index.FlagSeen, Keywords: []string{"a"}, UnchangedSince: 77}}},
		{Name: "copy", Value: &Command{Copy: &Copy{Account: 1, Mailbox: 9, UIDs: uids, To: "Archive", Move: true}}, Former: true},
		{Name: "copy-sharing", Value: &Command{Copy: &Copy{Account: 1, Mailbox: 9, UIDs: uids, To: "Archive", Move: true, Dated: true, Limits: limits}}},
		{Name: "append-all", Value: &Command{AppendAll: &AppendAll{Account: 1, Mailbox: "Sent", List: []Entering{{Message: m, Request: [16]byte{15: 2}}, {Message: m}}, Limits: limits}}},
		{Name: "replace", Value: &Command{Replace: &Replace{Account: 1, Mailbox: "Sent", Message: m, From: 9, UID: 4, Limits: limits}}},
		{Name: "expunge", Value: &Command{Expunge: &Expunge{Account: 1, Mailbox: 9, UIDs: uids, OnlyDeleted: true}}},
		{Name: "create", Value: &Command{Create: &Create{Account: 1, Name: "a/b", SpecialUse: `\Sent`}}},
		{Name: "delete", Value: &Command{Delete: &Delete{Account: 1, Name: "a/b"}}},
		{Name: "rename", Value: &Command{Rename: &Rename{Account: 1, From: "a", To: "b"}}},
		{Name: "subscribe", Value: &Command{Subscribe: &Subscribe{Account: 1, Name: "a", On: true}}},
		{Name: "condemn", Value: &Command{Condemn: &Condemn{Volume: 7, Generation: 2}}},
		{Name: "deliver-early", Value: &Command{Deliver: &Deliver{Accounts: []uint64{1}, Message: m, Early: true}}, Former: true},
		{Name: "append-early", Value: &Command{Append: &Append{Account: 1, Mailbox: "Sent", Message: m, Early: true}}, Former: true},
		{Name: "rebind", Value: &Command{Rebind: &Rebind{Accounts: []uint64{1, 2}, Mailbox: "INBOX", Old: volume.Ref{Volume: 6, Record: 1}, Message: m}}, Former: true},
		{Name: "revalidate", Value: &Command{Revalidate: &Revalidate{Accounts: []uint64{5, 9}}}},
		{Name: "amend", Value: &Command{Amend: &Amend{Account: 1, Mailbox: 9, Entry: index.Amendment{
			UID: 4, Seen: volume.Ref{Volume: 6, Record: 1}, Ref: m.Ref, Size: 300, Date: 1_700_000_000, Zone: -60, Summary: []byte("summary"),
		}}}},
		{Name: "recount", Value: &Command{Recount: &Recount{Account: 1, Mailbox: 9}}},
		{Name: "told", Value: &Command{Told: &Told{Marks: []Mark{{Account: 1, Mailbox: 9, Below: 5}, {Account: 2, Mailbox: 1, Below: 1 << 20}}}}},
		{Name: "settle", Value: &Command{Settle: &Settle{Volume: 7, Last: 9}}},
		{Name: "move", Value: &Command{Move: &Move{Step: MoveArrived, Account: 1, Fence: 5, Shard: 2, At: 77, After: 3, Markers: []index.Early{{Volume: 7, Last: 9}}}}},
		{Name: "import", Value: &Command{Import: &Import{Account: 1, Fence: 5, Puts: []index.Pair{{Key: []byte("c"), Value: []byte{1}}}, Removes: [][]byte{[]byte("nx")}}}},
		{Name: "result", Value: &Result{
			Code: Limit, Message: "why", UIDValidity: 3, FirstUID: 4, UIDs: uids, Failed: uids, Changed: []index.FlagChange{{UID: 1, ModSeq: 2, Flags: flags}},
			Mailbox: &box, Refused: []Refusal{{Account: 1, Code: NoMailbox, Message: "why"}},
		}, Former: true},
		{Name: "result-moved", Value: &Result{
			Code: Limit, Message: "why", UIDValidity: 3, FirstUID: 4, UIDs: uids, Failed: uids, Changed: []index.FlagChange{{UID: 1, ModSeq: 2, Flags: flags}},
			Mailbox: &box, Refused: []Refusal{{Account: 1, Code: Moved, Message: "why", Shard: 2, At: 77}}, Shard: 2, At: 77, Next: 3,
		}, Former: true},
		{Name: "result-mended", Value: &Result{
			Code: Limit, Message: "why", UIDValidity: 3, FirstUID: 4, UIDs: uids, Failed: uids, Changed: []index.FlagChange{{UID: 1, ModSeq: 2, Flags: flags}},
			Mailbox: &box, Refused: []Refusal{{Account: 1, Code: Moved, Message: "why", Shard: 2, At: 77}}, Shard: 2, At: 77, Next: 3, Done: true,
		}, Former: true},
		{Name: "result-told", Value: &Result{
			Code: Limit, Message: "why", UIDValidity: 3, FirstUID: 4, UIDs: uids, Failed: uids, Changed: []index.FlagChange{{UID: 1, ModSeq: 2, Flags: flags}},
			Mailbox: &told, Refused: []Refusal{{Account: 1, Code: Moved, Message: "why", Shard: 2, At: 77}}, Shard: 2, At: 77, Next: 3, Done: true,
		}},
		{Name: "query", Value: &Query{Shard: 1, Min: 2, Kind: QueryMessages, Account: 4, Mailbox: 5, Name: "n", UIDs: uids, Want: 3, Flag: 1, Since: 9}, Former: true},
		{Name: "query-guest", Value: &Query{Shard: 1, Min: 2, Kind: QueryMessages, Account: 4, Mailbox: 5, Name: "n", UIDs: uids, Want: 3, Flag: 1, Since: 9, User: 8}, Former: true},
		{Name: "query-but", Value: &Query{Shard: 1, Min: 2, Kind: QueryChanges, Account: 4, Mailbox: 5, Name: "n", UIDs: uids, Want: 3, Flag: 1, Since: 9, But: []uint64{12, 300}, User: 8}},
		{Name: "as", Value: &Command{As: &As{User: 8, Do: &Command{Expunge: &Expunge{Account: 1, Mailbox: 9, UIDs: uids, OnlyDeleted: true}}}}},
		{Name: "grant", Value: &Command{Grant: &Grant{Account: 1, Mailbox: "项目", User: 8, Address: "bo@example.org", Op: uint8(index.OpAdd), Rights: index.RightLookup | index.RightRead}}},
		{Name: "sharer", Value: &Command{Sharer: &Sharer{Account: 8, Owner: 1, Address: "anna@example.org", Forget: 77}}},
		{Name: "frame", Value: &Frame{
			Code: Invalid, Message: "why", Mailboxes: []index.Mailbox{box}, Names: []string{"a"}, UIDs: uids, Unseen: uids,
			Messages: []index.Message{{UID: 1, ModSeq: 2, Flags: flags, Date: 3, Zone: -60, Size: 5, Ref: m.Ref, Summary: []byte("s"), SaveDate: 8}},
			Changed:  []index.FlagChange{{UID: 1, ModSeq: 2, Flags: flags}}, ModSeq: 9, UIDNext: 10, More: true, Applied: 12,
		}, Former: true},
		{Name: "frame-moved", Value: &Frame{
			Code: Moved, Message: "why", Mailboxes: []index.Mailbox{box}, Names: []string{"a"}, UIDs: uids, Unseen: uids,
			Messages: []index.Message{{UID: 1, ModSeq: 2, Flags: flags, Date: 3, Zone: -60, Size: 5, Ref: m.Ref, Summary: []byte("s"), SaveDate: 8}},
			Changed:  []index.FlagChange{{UID: 1, ModSeq: 2, Flags: flags}}, ModSeq: 9, UIDNext: 10, More: true, Applied: 12, Shard: 2, At: 77,
		}, Former: true},
		{Name: "frame-odd", Value: &Frame{
			Code: Moved, Message: "why", Mailboxes: []index.Mailbox{box}, Names: []string{"a"}, UIDs: uids, Unseen: uids,
			Messages: []index.Message{{UID: 1, ModSeq: 2, Flags: flags, Date: 3, Zone: -60, Size: 5, Ref: m.Ref, Summary: []byte("s"), SaveDate: 8}},
			Changed:  []index.FlagChange{{UID: 1, ModSeq: 2, Flags: flags}}, ModSeq: 9, UIDNext: 10, More: true, Applied: 12, Shard: 2, At: 77, Odd: true,
		}, Former: true},
		{Name: "annotate", Value: &Command{Annotate: &Annotate{Account: 1, Mailbox: "INBOX", List: []index.Annotation{{User: 1, Name: "/private/comment", Value: []byte("note")}, {Name: "/shared/comment"}}}}},
		{Name: "annotation", Value: &index.Annotation{Mailbox: 9, User: 1, Name: "/private/comment", Seq: 77, Value: []byte("note")}},
		{Name: "frame-sharing", Value: &Frame{
			Code: Moved, Message: "why", Mailboxes: []index.Mailbox{told}, Names: []string{"a"}, UIDs: uids, Unseen: uids,
			Messages: []index.Message{{UID: 1, ModSeq: 2, Flags: flags, Date: 3, Zone: -60, Size: 5, Ref: m.Ref, Summary: []byte("s"), SaveDate: 8}},
			Changed:  []index.FlagChange{{UID: 1, ModSeq: 2, Flags: flags}}, ModSeq: 9, UIDNext: 10, More: true, Applied: 12, Shard: 2, At: 77, Odd: true,
			Annotations: []index.Annotation{{Mailbox: 9, Name: "/shared/comment", Seq: 77, Value: []byte("note")}},
			Usage:       &index.Usage{Bytes: 1 << 40, Messages: 7},
		}, Former: true},
		{Name: "frame-shared", Value: &Frame{
			Code: Moved, Message: "why", Mailboxes: []index.Mailbox{told}, Names: []string{"a"}, UIDs: uids, Unseen: uids,
			Messages: []index.Message{{UID: 1, ModSeq: 2, Flags: flags, Date: 3, Zone: -60, Size: 5, Ref: m.Ref, Summary: []byte("s"), SaveDate: 8}},
			Changed:  []index.FlagChange{{UID: 1, ModSeq: 2, Flags: flags}}, ModSeq: 9, UIDNext: 10, More: true, Applied: 12, Shard: 2, At: 77, Odd: true,
			Annotations: []index.Annotation{{Mailbox: 9, Name: "/shared/comment", Seq: 77, Value: []byte("note")}},
			Usage:       &index.Usage{Bytes: 1 << 40, Messages: 7},
			Grants:      []index.Grant{{Mailbox: 9, User: 8, Rights: index.RightLookup | index.RightAdminister, Address: "bo@example.org"}},
			Sharers:     []index.Sharer{{Owner: 1, Address: "anna@example.org", Seq: 77}},
		}},
		{Name: "deliver-terms", Value: &Command{Deliver: &Deliver{Accounts: []uint64{1, 2}, Message: m, Early: true, Terms: terms}}},
		{Name: "append-limited", Value: &Command{Append: &Append{Account: 1, Mailbox: "Sent", Message: m, Early: true, Limits: limits}}},
		{Name: "rebind-terms", Value: &Command{Rebind: &Rebind{Accounts: []uint64{1, 2}, Mailbox: "INBOX", Old: volume.Ref{Volume: 6, Record: 1}, Message: m, Terms: terms}}},
		{Name: "origin-detail", Value: &Origin{
			Delivery: [16]byte{15: 1}, From: "a@remote.test", Date: 1_700_000_000, Zone: 480, System: 1, Keywords: []string{"a"},
			Targets: []Target{{Account: 1, Mailbox: "INBOX", Detail: "工作"}}, Arrived: 1_700_000_001,
		}, Former: true},
		{Name: "origin-moved", Value: &Origin{
			Delivery: [16]byte{15: 1}, From: "a@remote.test", Date: 1_700_000_000, Zone: 480, System: 1, Keywords: []string{"a"},
			Targets: []Target{{Account: 1, Mailbox: "INBOX", Detail: "工作"}}, Arrived: 1_700_000_001, Before: []Former{{Volume: 7, Record: 2}},
		}},
		{Name: "message-copied", Value: &index.Message{UID: 1, ModSeq: 2, Flags: flags, Date: 3, Zone: -60, Size: 5, Ref: m.Ref, Summary: []byte("s"), SaveDate: 8, CopyDate: 9}},
		{Name: "event", Value: &Event{Account: 1, Mailbox: 2}},
		{Name: "origin", Value: &Origin{
			Delivery: [16]byte{15: 1}, From: "a@remote.test", Date: 1_700_000_000, Zone: 480, System: 1, Keywords: []string{"a"},
			Targets: []Target{{Account: 1, Mailbox: "INBOX"}}, Arrived: 1_700_000_001,
		}, Former: true},
	}
}

// TestFormats holds encodings against those of version 1: they are in logs and on disks, and between nodes. A field may be added, with a
// new number and as docs/formats.md says; what is there must stay as it is.
func TestFormats(t *testing.T) { codectest.Golden(t, "testdata/formats-v1.txt", samples()) }
