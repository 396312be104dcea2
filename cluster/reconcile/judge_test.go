package reconcile

import (
	"errors"
	"strings"
	"testing"

	"hongyan/cluster/client"
	"hongyan/cluster/replica"
	"hongyan/engine/message"
	"hongyan/engine/volume"
)

func TestJudge(t *testing.T) {
	sealed := replica.Entry{ID: 7, Copies: []string{"a", "b"}, State: replica.Sealed, Length: 1000, Generation: 2}
	open := replica.Entry{ID: 7, Copies: []string{"a", "b"}}
	cold, empty := sealed, sealed
	cold.Cold, empty.Length = &replica.Cold{}, 0
	said := func(node string, s State) answer {
		return answer{node: node, Record: Record{State: s, Generation: 2, Durable: 1000}}
	}
	both := func(s State) []answer { return []answer{said("a", s), said("b", s)} }
	behind, short := said("b", NoRecord), said("b", NoRecord)
	behind.Generation, short.Durable = 1, 999
	last := sealed
	last.Last = 20
	fresh := both(NoRecord)
	for i := range fresh {
		fresh[i].Generation, fresh[i].Durable = 0, 10
	}
	early := fresh[1]
	early.State = Other
	for _, x := range []struct {
		what    string
		e       replica.Entry
		unknown bool
		early   bool
		answers []answer
		proved  bool
		state   State
	}{
		{"it is there", sealed, false, false, both(Same), false, Same},
		{"it is on one copy, the other is damaged", sealed, false, false, []answer{said("a", Unreadable), said("b", Same)}, false, Same},
		{"no such volume", sealed, true, false, nil, true, NoCopy},
		{"no such volume, and unsettled entries", sealed, true, true, nil, false, Unreadable},
		{"a volume without records", empty, false, false, both(NoCopy), true, NoCopy},
		{"no such record", sealed, false, false, both(NoRecord), true, NoRecord},
		{"no such record in an open volume", open, false, false, fresh, true, NoRecord},
		{"unsettled entries behind the last record", sealed, false, true, both(NoRecord), false, Unreadable},
		{"unsettled entries, and a record before the last", last, false, true, both(Other), true, Other},
		{"early entries of an open volume", open, false, true, fresh, true, NoRecord},
		{"an early entry that the other copy does not have yet", open, false, true, []answer{said("a", Same), fresh[1]}, false, Same},
		{"an open volume whose copy is not as far as its primary", open, false, true, []answer{fresh[0], early}, false, Unreadable},
		{"another record", sealed, false, false, both(Other), true, Other},
		{"collected", sealed, false, false, both(Erased), true, Erased},
		{"a node is down", sealed, false, false, []answer{said("a", NoRecord), {node: "b", err: errors.New("down")}}, false, Unreadable},
		{"a node was not asked", sealed, false, false, both(NoRecord)[:1], false, Unreadable},
		{"a copy is gone", sealed, false, false, []answer{said("a", NoRecord), said("b", NoCopy)}, false, Unreadable},
		{"no copy is left", sealed, false, false, both(NoCopy), true, NoCopy},
		{"no copy is left of those that answer", sealed, false, false, both(NoCopy)[:1], false, Unreadable},
		{"no copy of an open volume is left", open, false, false, both(NoCopy), false, Unreadable},
		{"no copy is left of a cold volume", cold, false, false, both(NoCopy), false, Unreadable},
		{"a copy is damaged", sealed, false, false, []answer{said("a", NoRecord), said("b", Unreadable)}, false, Unreadable},
		{"a copy has not switched", sealed, false, false, []answer{said("a", NoRecord), behind}, false, Unreadable},
		{"a copy is being filled", sealed, false, false, []answer{said("a", NoRecord), short}, false, Unreadable},
		{"the copies differ", sealed, false, false, []answer{said("a", NoRecord), said("b", Other)}, false, Unreadable},
		{"no copies", replica.Entry{ID: 7, State: replica.Sealed, Length: 9}, false, false, nil, false, Unreadable},
		{"cold", cold, false, false, both(NoRecord), false, Unreadable},
	} {
		if v := judge(x.e, !x.unknown, x.early, 20, x.answers); v.proved != x.proved || v.state != x.state || v.proved && v.why == "" {
			t.Errorf("%s: %+v", x.what, v)
		}
	}
}

func summaryOf(t *testing.T, raw string) []byte {
	t.Helper()
	sc := message.NewScanner()
	if _, err := sc.Write([]byte(raw)); err != nil {
		t.Fatal(err)
	}
	b, err := sc.Finish().Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A record in an entry's place is the entry's message only if it names the account and nothing of what the entry says of it differs, its Message-ID among it.
func TestIdentified(t *testing.T) {
	sum := summaryOf(t, "Message-ID: <1@a.test>\r\n\r\nbody")
	e := client.Message{Date: 5, Zone: 60, Summary: sum}
	for _, x := range []struct {
		what string
		f    *Facts
		want bool
	}{
		{"all the same", &Facts{Named: true, Date: 5, Zone: 60, Summary: sum}, true},
		{"nothing known", nil, false},
		{"somebody else's", &Facts{Date: 5, Zone: 60, Summary: sum}, false},
		{"another date", &Facts{Named: true, Date: 6, Zone: 60, Summary: sum}, false},
		{"another zone", &Facts{Named: true, Date: 5, Summary: sum}, false},
		{"another message of the same size", &Facts{Named: true, Date: 5, Zone: 60, Summary: summaryOf(t, "Message-ID: <2@a.test>\r\n\r\nbody")}, false},
	} {
		if got := identified(&e, x.f); got != x.want {
			t.Errorf("%s: %v", x.what, got)
		}
	}
	bare := summaryOf(t, "Subject: x\r\n\r\nbody")
	e.Summary = bare
	if identified(&e, &Facts{Named: true, Date: 5, Zone: 60, Summary: bare}) {
		t.Error("a message without Message-ID was identified by its summary")
	}
}

func TestDescribed(t *testing.T) {
	raw := "Message-ID: <1@a.test>\r\n\r\nbody"
	good := client.Message{Size: uint64(len(raw)), Date: 5, Summary: summaryOf(t, raw), Ref: volume.Ref{Length: uint64(len(raw))}}
	f := &Facts{Named: true, Date: 5}
	for _, x := range []struct {
		want   string
		change func(e *client.Message)
	}{
		{"", func(*client.Message) {}},
		{"summary cannot be read", func(e *client.Message) { e.Summary = []byte("x") }},
		{"summary is of a message of 4 bytes", func(e *client.Message) { e.Summary = summaryOf(t, "a:b\n") }},
		{"size is given", func(e *client.Message) { e.Size++ }},
		{"date is given", func(e *client.Message) { e.Date++ }},
		{"date is given", func(e *client.Message) { e.Zone++ }},
	} {
		e := good
		x.change(&e)
		if got := described(&e, f); x.want == "" && got != "" || !strings.Contains(got, x.want) {
			t.Errorf("%q, want %q", got, x.want)
		}
	}
}

func TestCouldHold(t *testing.T) {
	const day = 24 * 3600
	for _, x := range []struct {
		e     replica.Entry
		saved int64
		want  bool
	}{
		{replica.Entry{State: replica.Open}, 100 * day, true},
		{replica.Entry{State: replica.Sealed, SealedAt: 100 * day}, 100 * day, true},
		{replica.Entry{State: replica.Sealed, SealedAt: 99*day - 1}, 100 * day, false},
		{replica.Entry{State: replica.Sealed, SealedAt: 1}, 0, true}, // nobody knows when it came
		{replica.Entry{State: replica.Sealed}, 100 * day, true},      // nor when that was sealed
	} {
		if got := couldHold(x.e, x.saved); got != x.want {
			t.Errorf("%+v at %d: %v", x.e, x.saved, got)
		}
	}
}
