package directory

import (
	"fmt"
	"strings"
	"testing"

	"hongyan/engine/index"
)

func number(n uint64) *uint64 { return &n }

// quoted is a directory with a domain and some accounts, u1 and so on.
func quoted(t *testing.T, accounts int) *tables {
	t.Helper()
	d := newTables(t)
	d.do(Command{AddShards: &AddShards{Shards: []Shard{{Number: 1, Home: "south"}}}})
	for _, name := range []string{"example.test", "other.test"} {
		d.do(Command{AddDomain: &Domain{Name: name, Home: "south"}})
	}
	for i := range accounts {
		d.do(Command{AddAccount: &AddAccount{Address: fmt.Sprintf("u%d@example.test", i+1)}})
	}
	d.do(Command{AddAccount: &AddAccount{Address: "u1@other.test"}})
	return d
}

func TestLimitsInForce(t *testing.T) {
	d := quoted(t, 2)
	effectiveOf := func(address string) index.Limits {
		t.Helper()
		v := d.store.View()
		defer v.Close()
		a, err := load[Account](v, []byte(accountTable+address))
		if err != nil {
			t.Fatal(err)
		}
		dom, err := load[Domain](v, []byte(domainTable+DomainOf(address)))
		if err != nil {
			t.Fatal(err)
		}
		return effective(a.Limits, dom.Quota)
	}
	for _, step := range []struct {
		c    Command
		u1   index.Limits
		u2   index.Limits
		fail string
	}{
		{c: Command{SetAccountQuota: &SetAccountQuota{Address: "U1@example.test", Limits: ChangeLimits{Bytes: number(100)}}}, u1: index.Limits{Bytes: 100}},
		{c: Command{SetDomainQuota: &SetDomainQuota{Domain: "Example.test", Default: ChangeLimits{Bytes: number(7), Messages: number(8)}}},
			u1: index.Limits{Bytes: 100}, u2: index.Limits{Bytes: 7, Messages: 8}},
		{c: Command{SetAccountQuota: &SetAccountQuota{Address: "u2@example.test", Limits: ChangeLimits{Messages: number(0)}}},
			u1: index.Limits{Bytes: 100}, u2: index.Limits{Bytes: 7}},
		{c: Command{SetAccountQuota: &SetAccountQuota{Address: "u1@example.test", Follow: true}}, u1: index.Limits{Bytes: 7, Messages: 8}, u2: index.Limits{Bytes: 7}},
		{c: Command{SetAccountQuota: &SetAccountQuota{Address: "u3@example.test"}}, u1: index.Limits{Bytes: 7, Messages: 8}, u2: index.Limits{Bytes: 7}, fail: "no account"},
		{c: Command{SetDomainQuota: &SetDomainQuota{Domain: "no.test"}}, u1: index.Limits{Bytes: 7, Messages: 8}, u2: index.Limits{Bytes: 7}, fail: "no domain"},
		{c: Command{SetAccountQuota: &SetAccountQuota{Address: "u1@example.test", Limits: ChangeLimits{Bytes: number(maxQuota + 1)}}},
			u1: index.Limits{Bytes: 7, Messages: 8}, u2: index.Limits{Bytes: 7}, fail: "at most"},
	} {
		r := d.do(step.c)
		if step.fail == "" && r.Refused != "" || !strings.Contains(r.Refused, step.fail) {
			t.Errorf("%+v: %q", step.c, r.Refused)
		}
		if u1, u2 := effectiveOf("u1@example.test"), effectiveOf("u2@example.test"); u1 != step.u1 || u2 != step.u2 {
			t.Errorf("%+v: %+v and %+v", step.c, u1, u2)
		}
	}
}

// The limits of a domain's accounts never exceed its total, whatever is changed, and what is refused changes nothing.
func TestTotalIsAllotted(t *testing.T) {
	d := quoted(t, 3)
	domain := func(c SetDomainQuota) Command {
		c.Domain = "example.test"
		return Command{SetDomainQuota: &c}
	}
	account := func(n int, c SetAccountQuota) Command {
		c.Address = fmt.Sprintf("u%d@example.test", n)
		return Command{SetAccountQuota: &c}
	}
	for i, step := range []struct {
		c    Command
		fail string
		sum  uint64 // bytes that are allotted afterwards
	}{
		{domain(SetDomainQuota{Total: ChangeLimits{Bytes: number(1000)}}), "would have no limit", 0},
		{domain(SetDomainQuota{Total: ChangeLimits{Bytes: number(299)}, Default: ChangeLimits{Bytes: number(100)}}), "together", 0},
		{domain(SetDomainQuota{Total: ChangeLimits{Bytes: number(1000)}, Default: ChangeLimits{Bytes: number(100)}}), "", 300},
		{account(1, SetAccountQuota{Limits: ChangeLimits{Bytes: number(801)}}), "together", 300},
		{account(1, SetAccountQuota{Limits: ChangeLimits{Bytes: number(800)}}), "", 1000},
		{account(1, SetAccountQuota{Limits: ChangeLimits{Bytes: number(0)}}), "needs a limit", 1000},
		{Command{AddAccount: &AddAccount{Address: "u4@example.test"}}, "together", 1000},
		{domain(SetDomainQuota{Default: ChangeLimits{Bytes: number(50)}}), "", 900},
		{Command{AddAccount: &AddAccount{Address: "u4@example.test"}}, "", 950},
		{Command{AddAccount: &AddAccount{Address: "u4@example.test", Reset: true}}, "", 950},
		{domain(SetDomainQuota{Default: ChangeLimits{Bytes: number(0)}}), "would have no limit", 950},
		{domain(SetDomainQuota{Default: ChangeLimits{Bytes: number(67)}}), "together", 950},
		{domain(SetDomainQuota{Total: ChangeLimits{Bytes: number(949)}}), "together", 950},
		{domain(SetDomainQuota{Total: ChangeLimits{Bytes: number(950)}}), "", 950},
		{account(1, SetAccountQuota{Follow: true}), "", 200},
		{domain(SetDomainQuota{Total: ChangeLimits{Messages: number(10)}}), "would have no limit", 200},
		{domain(SetDomainQuota{Total: ChangeLimits{Bytes: number(0)}}), "", 0}, // no total: nobody is counted
		{domain(SetDomainQuota{Total: ChangeLimits{Bytes: number(200)}}), "", 200},
	} {
		before := d.store.View()
		was, err := load[Domain](before, []byte(domainTable+"example.test"))
		if err != nil {
			t.Fatal(err)
		}
		shard, err := load[Shard](before, numberKey(shardTable, 1))
		if err != nil {
			t.Fatal(err)
		}
		if err := before.Close(); err != nil {
			t.Fatal(err)
		}
		r := d.do(step.c)
		if (step.fail == "") != (r.Refused == "") || !strings.Contains(r.Refused, step.fail) {
			t.Fatalf("step %d: %q", i, r.Refused)
		}
		v := d.store.View()
		now, err := load[Domain](v, []byte(domainTable+"example.test"))
		if err != nil {
			t.Fatal(err)
		}
		after, err := load[Shard](v, numberKey(shardTable, 1))
		if err != nil {
			t.Fatal(err)
		}
		if step.fail != "" && (fmt.Sprint(was.Quota) != fmt.Sprint(now.Quota) || shard != after) {
			t.Errorf("step %d: refused, and changed the tables", i)
		}
		if q := now.Quota; q.totaled() && q.Allotted().Bytes != step.sum {
			t.Errorf("step %d: %d allotted, want %d", i, q.Allotted().Bytes, step.sum)
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWithoutDetail(t *testing.T) {
	for address, want := range map[string]string{
		"a+b@c.test": "a@c.test", "a+b+c@c.test": "a@c.test", "a+@c.test": "a@c.test", "a@c.test": "", "+b@c.test": "", "a@c+d.test": "",
	} {
		got, ok := withoutDetail(address)
		if ok != (want != "") || ok && got != want {
			t.Errorf("%s: %q, %v", address, got, ok)
		}
	}
}
