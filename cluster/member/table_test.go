package member_test

import (
	"testing"

	"hongyan/cluster/member"
	"hongyan/cluster/transport"
	"hongyan/cluster/transport/transporttest"
)

// Members come and go with the peer table: one that enters it joins, and one that is taken out is gone at once, at whoever took it out and
// whatever the others still say. Back in the table it is a member again, though memberlist took it for alive all along, or for dead.
func TestMembersComeAndGoWithTheTable(t *testing.T) {
	t.Parallel()
	configs := transporttest.Configs(t, "a", "b", "c")
	all := configs[0].Peers
	nets, lists := map[string]*transport.Net{}, map[string]*member.List{}
	events := make(chan member.Event, 100)
	for _, config := range configs {
		if config.ID != "c" {
			config.Peers = all[:2]
		}
		n, err := transport.Listen(config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
		n.Serve()
		var onEvent func(member.Event)
		if n.ID() == "a" {
			onEvent = func(e member.Event) { events <- e }
		}
		nets[n.ID()], lists[n.ID()] = n, start(t, n, onEvent)
	}
	set := func(node string, peers []transport.Peer) {
		if err := nets[node].SetPeers(peers); err != nil {
			t.Fatal(err)
		}
	}
	told := func(kind member.Kind) {
		t.Helper()
		if e := <-events; e.Kind != kind || e.Member.ID != "c" {
			t.Fatalf("a was told %v", e)
		}
	}
	eventually(t, "a and b know each other", func() bool { return ids(lists["a"]) == "a b" && ids(lists["b"]) == "a b" && len(events) == 2 })
	<-events
	<-events
	set("a", all)
	set("b", all)
	eventually(t, "all know all", func() bool {
		return ids(lists["a"]) == "a b c" && ids(lists["b"]) == "a b c" && ids(lists["c"]) == "a b c"
	})
	told(member.Joined)

	set("a", all[:2]) // b still gossips with c, and says so
	if got := ids(lists["a"]); got != "a b" {
		t.Errorf("without c in the table the members are %s", got)
	}
	told(member.Left)
	eventually(t, "c misses a", func() bool { return !nets["c"].Up("a") })
	if got := ids(lists["a"]); got != "a b" {
		t.Errorf("a while later the members are %s", got)
	}
	set("a", all)
	eventually(t, "c is back", func() bool { return ids(lists["a"]) == "a b c" && ids(lists["c"]) == "a b c" })
	told(member.Joined)

	set("a", all[:2])
	set("b", all[:2])
	told(member.Left)
	eventually(t, "c is alone", func() bool { return ids(lists["c"]) == "c" }) // to its memberlist the others are dead
	if got := ids(lists["a"]) + ", " + ids(lists["b"]); got != "a b, a b" {
		t.Errorf("a and b have the members %s", got)
	}
	set("a", all)
	set("b", all)
	eventually(t, "c is back for all", func() bool {
		return ids(lists["a"]) == "a b c" && ids(lists["b"]) == "a b c" && ids(lists["c"]) == "a b c"
	})
	told(member.Joined)
}
