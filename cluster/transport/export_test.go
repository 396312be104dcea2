package transport

import "time"

// Hasten shortens liveness for tests: a peer is down after some 400 ms of silence.
func Hasten(c *Config) {
	c.timing.ping = 50 * time.Millisecond
	c.timing.silence = 350 * time.Millisecond
	c.timing.redialMax = 100 * time.Millisecond
	c.timing.dial = 300 * time.Millisecond
	c.timing.handshake = 300 * time.Millisecond
	c.timing.progress = 400 * time.Millisecond
}

// HurryBeats keeps heartbeats together for a moment only: for raft with timers as short as it has in tests.
func HurryBeats(c *Config) { c.timing.gather = 10 * time.Millisecond }

// HurryRenewal looks at the certificate's files all the time.
func HurryRenewal(c *Config) { c.timing.renewal = 10 * time.Millisecond }

// Dial connects to a peer's service as this node would.
var Dial = (*Net).dialForTest

func (n *Net) dialForTest(node, service string) error {
	conn, err := n.dial(n.ctx, n.find(node), service)
	if err != nil {
		return err
	}
	if _, err = conn.Read(make([]byte, 1)); err != nil { // in TLS 1.3 the server's refusal comes after the client's success
		return err
	}
	return conn.Close()
}

// Offers are the protocols of a service that a node takes part in.
var Offers = func(n *Net, service string) []string { return n.offers(service) }
