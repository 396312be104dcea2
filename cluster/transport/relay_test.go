package transport_test

import (
	"net"
	"sync"
	"testing"

	"hongyan/cluster/transport"
	"hongyan/cluster/transport/transporttest"
)

// relay stands between two nodes and can drop their connections, refuse new ones, or hold all bytes back.
type relay struct {
	listener net.Listener
	target   string
	wg       sync.WaitGroup

	mu     sync.Mutex // guards the rest
	conns  map[net.Conn]bool
	broken bool          // refuse new connections
	held   chan struct{} // not nil: hold bytes until it is closed
}

func newRelay(t *testing.T, target string) *relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: listener, target: target, conns: make(map[net.Conn]bool)}
	r.wg.Go(r.accept)
	t.Cleanup(func() {
		listener.Close()
		r.set(true, false)
		r.wg.Wait()
	})
	return r
}

func (r *relay) accept() {
	for {
		in, err := r.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", r.target)
		if err != nil || !r.add(in, out) {
			in.Close()
			if err == nil {
				out.Close()
			}
			continue
		}
		r.wg.Go(func() { r.copy(in, out) })
		r.wg.Go(func() { r.copy(out, in) })
	}
}

func (r *relay) add(conns ...net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken {
		return false
	}
	for _, c := range conns {
		r.conns[c] = true
	}
	return true
}

func (r *relay) copy(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		k, err := from.Read(buf)
		r.mu.Lock()
		held := r.held
		r.mu.Unlock()
		if held != nil {
			<-held
		}
		if k > 0 {
			if _, err := to.Write(buf[:k]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// set changes the relay's state: broken drops all connections and refuses new ones, hold keeps bytes back.
func (r *relay) set(broken, hold bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = broken
	if broken {
		for c := range r.conns {
			c.Close()
		}
		clear(r.conns)
	}
	switch {
	case hold && r.held == nil:
		r.held = make(chan struct{})
	case !hold && r.held != nil:
		close(r.held)
		r.held = nil
	}
}

// relayed opens nodes that reach each other only through relays; relays[from+to] is the one that from dials.
func relayed(t *testing.T, tune func(*transport.Config), ids ...string) (nets []*transport.Net, relays map[string]*relay) {
	t.Helper()
	relays = make(map[string]*relay)
	for _, config := range transporttest.Configs(t, ids...) {
		peers := make([]transport.Peer, len(config.Peers))
		for i, p := range config.Peers {
			if peers[i] = p; p.ID != config.ID {
				r := newRelay(t, p.Addr)
				relays[config.ID+p.ID] = r
				peers[i].Addr = r.listener.Addr().String()
			}
		}
		config.Peers = peers
		transport.HurryBeats(&config)
		if tune != nil {
			tune(&config)
		}
		n, err := transport.Listen(config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		})
		nets = append(nets, n)
	}
	return nets, relays
}
