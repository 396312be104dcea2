package client

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hongyan/cluster/mailbox"
	"hongyan/cluster/wire"
)

func newTestHub() *Client {
	c := &Client{tokens: make(map[uint32]uint64)}
	c.hub = newHub(nil, nil, nil, c.reached, c.places.of, nil)
	return c
}

func woken(wake <-chan struct{}) bool {
	select {
	case <-wake:
		return true
	default:
		return false
	}
}

// Each change wakes those whom it concerns, once until they look; everything wakes all of a shard.
func TestWhoIsWoken(t *testing.T) {
	c := newTestHub()
	any, cancelAny := c.Watch(account, 0)
	one, cancelOne := c.Watch(account, 1)
	other, cancelOther := c.Watch(Account{ID: 8, Shard: 2}, 0)
	defer cancelOther()
	for _, step := range []struct {
		what            string
		shard           uint32
		events          []mailbox.Event
		any, one, other bool
	}{
		{"its folder", 1, []mailbox.Event{{Account: 7, Mailbox: 1}, {Account: 7, Mailbox: 1}}, true, true, false},
		{"another folder", 1, []mailbox.Event{{Account: 7, Mailbox: 2}}, true, false, false},
		{"the folders as such", 1, []mailbox.Event{{Account: 7}}, true, true, false},
		{"another account", 2, []mailbox.Event{{Account: 8, Mailbox: 5}, {Account: 9}}, false, false, true},
		{"all of a shard", 1, nil, true, true, false},
		{"all of the other", 2, nil, false, false, true},
	} {
		c.Publish(step.shard, step.events)
		if a, o, x := woken(any), woken(one), woken(other); a != step.any || o != step.one || x != step.other {
			t.Errorf("%s: woke %v %v %v", step.what, a, o, x)
		}
		if woken(any) || woken(one) || woken(other) {
			t.Errorf("%s: woken twice", step.what)
		}
	}
	cancelAny()
	cancelOne()
	again, cancel := c.Watch(account, 0)
	cancelAny() // a second time, and after the account has another watcher
	c.Publish(1, []mailbox.Event{{Account: 7, Mailbox: 1}})
	if !woken(again) || woken(any) {
		t.Error("who was cancelled is woken, or who was not is not")
	}
	cancel()
	if len(c.hub.sessions) != 1 {
		t.Errorf("%d accounts are watched", len(c.hub.sessions))
	}
}

// What a replica here saw goes to other nodes that watch it, what another node told does not: they may be the ones that told it.
func TestNothingIsRelayedBack(t *testing.T) {
	c := newTestHub()
	wake, cancel := c.Watch(account, 0)
	defer cancel()
	r := &remoteWatch{wake: make(chan struct{}, 1)}
	c.hub.remotes[1] = map[*remoteWatch]struct{}{r: {}}
	for _, events := range [][]mailbox.Event{nil, {{Account: 7, Mailbox: 1}}} {
		c.Publish(1, events)
		if _, ok := r.take(); !ok || !woken(wake) {
			t.Errorf("%v was not published", events)
		}
		c.hub.relay(1, events)
		if got, ok := r.take(); ok || !woken(wake) {
			t.Errorf("%v was relayed as %v, or woke nobody", events, got)
		}
	}
}

// fakeReplica is what feed watches.
type fakeReplica struct {
	applied atomic.Uint64
	leader  atomic.Bool
	broken  atomic.Bool
}

func (f *fakeReplica) Applied() uint64 { return f.applied.Load() }

func (f *fakeReplica) Leader() string {
	if f.leader.Load() {
		return "v1"
	}
	return ""
}

func (f *fakeReplica) Err() error {
	if f.broken.Load() {
		return errors.New("the disk is broken")
	}
	return nil
}

// feeding runs feed in a bubble of virtual time.
func feeding(t *testing.T, story func(r *remoteWatch, g *fakeReplica, sent <-chan watchFrame, ended <-chan error)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r := &remoteWatch{wake: make(chan struct{}, 1), all: true}
		g := &fakeReplica{}
		g.leader.Store(true)
		sent, ended := make(chan watchFrame), make(chan error, 1)
		go func() {
			ended <- r.feed(ctx, g, func(f *watchFrame) error {
				select {
				case sent <- *f:
				case <-ctx.Done():
				}
				return nil
			})
		}()
		story(r, g, sent, ended)
		cancel()
		synctest.Wait()
	})
}

// Events go out in order with the state that holds them; too many become "everything"; nothing is sent for nothing.
func TestFeed(t *testing.T) {
	feeding(t, func(r *remoteWatch, g *fakeReplica, sent <-chan watchFrame, _ <-chan error) {
		if f := <-sent; f.Events != nil {
			t.Errorf("begins with %v", f.Events)
		}
		g.applied.Store(5)
		r.offer([]mailbox.Event{{Account: 1, Mailbox: 1}})
		if f := <-sent; len(f.Events) != 1 || f.Applied != 5 {
			t.Errorf("got %+v", f)
		}
		for range watchQueue + 1 {
			r.offer([]mailbox.Event{{Account: 1, Mailbox: 1}})
		}
		for queued := 0; ; { // some may have left one by one
			f := <-sent
			if f.Events == nil {
				break
			}
			if queued += len(f.Events); queued > watchQueue {
				break
			}
		}
		synctest.Wait()
		r.wake <- struct{}{} // late, its event has gone out already
		select {
		case f := <-sent:
			t.Errorf("everybody is woken for nothing: %+v", f)
		case <-time.After(time.Minute):
		}
		if events, ok := r.take(); ok {
			t.Errorf("%d events are left", len(events))
		}
	})
}

// A replica that fell out of the group, or whose store failed, ends the watch: the watcher goes to another.
func TestFeedEnds(t *testing.T) {
	for name, spoil := range map[string]func(*fakeReplica){
		"alone":  func(g *fakeReplica) { g.leader.Store(false) },
		"broken": func(g *fakeReplica) { g.broken.Store(true) },
	} {
		t.Run(name, func(t *testing.T) {
			feeding(t, func(_ *remoteWatch, g *fakeReplica, sent <-chan watchFrame, ended <-chan error) {
				<-sent
				time.Sleep(time.Hour)
				if len(ended) != 0 {
					t.Fatal("ended while all was well")
				}
				spoil(g)
				select {
				case err := <-ended:
					if !errors.Is(err, wire.ErrUnavailable) {
						t.Error(err)
					}
				case <-time.After(10 * time.Second):
					t.Error("goes on")
				}
			})
		})
	}
}
