package member_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
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

// A word reaches all other members, each once, up to its full length; what is too long or about something else does not.
func TestWords(t *testing.T) {
	t.Parallel()
	const other member.Subject = 200
	lists := map[string]*member.List{}
	var mu sync.Mutex
	heard := map[string][]string{}
	for _, n := range transporttest.Nodes(t, "a", "b", "c") {
		n.Serve()
		l := start(t, n, nil)
		lists[n.ID()] = l
		l.Hear(member.Logins, func(word []byte) {
			mu.Lock()
			defer mu.Unlock()
			heard[n.ID()] = append(heard[n.ID()], string(word))
		})
	}
	for id, l := range lists {
		eventually(t, id+" knows all", func() bool { return ids(l) == "a b c" })
	}
	long := strings.Repeat("x", member.MaxWord)
	told := []string{"", "short", long}
	got := func(id string) []string {
		mu.Lock()
		defer mu.Unlock()
		got := slices.Clone(heard[id])
		slices.Sort(got)
		return got
	}
	eventually(t, "the links for packets are there", func() bool { // the first packet may be lost while one is dialled
		lists["a"].Tell(member.Logins, []byte("ping"))
		return len(got("b")) > 0 && len(got("c")) > 0
	})
	lists["a"].Tell(other, []byte("nobody asked"))
	lists["a"].Tell(member.Logins, []byte(long+"x"))
	for _, word := range told {
		lists["a"].Tell(member.Logins, []byte(word))
	}
	for _, id := range []string{"b", "c"} {
		words := func() []string { return slices.DeleteFunc(got(id), func(w string) bool { return w == "ping" }) }
		eventually(t, id+" heard all", func() bool { return len(words()) >= len(told) })
		if !slices.Equal(words(), told) {
			t.Errorf("%s heard %.80q", id, words())
		}
	}
	if len(got("a")) > 0 {
		t.Error("a heard itself")
	}
	if err := lists["a"].Close(); err != nil {
		t.Fatal(err)
	}
	lists["a"].Tell(member.Logins, []byte("after the end"))
}
