package member_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"hongyan/cluster/member"
	"hongyan/cluster/transport"
	"hongyan/cluster/transport/transporttest"
)

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !cond(); {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func ids(l *member.List) string {
	var out []string
	for _, m := range l.Members() {
		out = append(out, m.ID)
	}
	return strings.Join(out, " ")
}

func start(t *testing.T, n *transport.Net, onEvent func(member.Event)) *member.List {
	t.Helper()
	l, err := member.Start(member.Config{Net: n, OnEvent: onEvent, Meta: member.Meta{
		Region: "region-" + n.ID(), Roles: []string{"storage", "frontend"}, Version: "1", HTTP: "http://" + n.ID(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func TestMembership(t *testing.T) {
	t.Parallel()
	configs := transporttest.Configs(t, "a", "b", "c")
	nets, lists := map[string]*transport.Net{}, map[string]*member.List{}
	events := make(chan member.Event, 100)
	for _, config := range configs {
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
	for id, l := range lists {
		eventually(t, id+" knows all", func() bool { return ids(l) == "a b c" })
	}
	m := lists["a"].Members()[2]
	if m.Region != "region-c" || m.HTTP != "http://c" || m.Version != "1" || !slices.Equal(m.Roles, []string{"storage", "frontend"}) {
		t.Errorf("a knows this of c: %+v", m)
	}

	if err := lists["b"].Leave(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a and c know that b left", func() bool { return ids(lists["a"]) == "a c" && ids(lists["c"]) == "a c" })

	nets["c"].Close() // no word
	lists["c"].Close()
	eventually(t, "a misses c", func() bool { return ids(lists["a"]) == "a" })

	config := configs[2]
	config.Listen, config.Listener = config.Listener.Addr().String(), nil
	again, err := transport.Listen(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { again.Close() })
	again.Serve()
	l := start(t, again, nil)
	eventually(t, "c is back", func() bool { return ids(lists["a"]) == "a c" && ids(l) == "a c" })

	var told []string
	eventually(t, "a told all of it", func() bool {
		for len(events) > 0 {
			e := <-events
			told = append(told, fmt.Sprint(e.Kind, " ", e.Member.ID))
		}
		return len(told) == 6
	})
	slices.Sort(told[:3])
	if got := strings.Join(told, ", "); got != "joined a, joined b, joined c, left b, left c, joined c" {
		t.Errorf("events at a: %s", got)
	}
}

func TestMetadataIsBounded(t *testing.T) {
	n := transporttest.Nodes(t, "a")[0]
	if l, err := member.Start(member.Config{Net: n, Meta: member.Meta{Region: strings.Repeat("x", 600)}}); err == nil {
		l.Close()
		t.Fatal("600 bytes of metadata were taken")
	}
}
