package imap

import "sync/atomic"

// Stats are counts since the start, but for Open, Sessions and Idle, which are of the moment.
type Stats struct {
	Open, Sessions, Idle int64 // connections, of which logged in, of which in IDLE

	Connections, TLSFailures, Logins, LoginFailures  uint64
	Commands, Bad, Byes, Panics                      uint64
	Appended, AppendedBytes, Fetched, FetchedBytes   uint64
	Searches, Updates, Unavailable, InternalFailures uint64
}

type counters struct {
	sessions, idle                                   atomic.Int64
	connections, tlsFailures, logins, loginFailures  atomic.Uint64
	commands, bad, byes, panics                      atomic.Uint64
	appended, appendedBytes, fetched, fetchedBytes   atomic.Uint64
	searches, updates, unavailable, internalFailures atomic.Uint64
}

// Stats is a snapshot of the counters.
func (s *Server) Stats() Stats {
	c := &s.stats
	st := Stats{
		Sessions: c.sessions.Load(), Idle: c.idle.Load(),
		Connections: c.connections.Load(), TLSFailures: c.tlsFailures.Load(),
		Logins: c.logins.Load(), LoginFailures: c.loginFailures.Load(),
		Commands: c.commands.Load(), Bad: c.bad.Load(), Byes: c.byes.Load(), Panics: c.panics.Load(),
		Appended: c.appended.Load(), AppendedBytes: c.appendedBytes.Load(),
		Fetched: c.fetched.Load(), FetchedBytes: c.fetchedBytes.Load(),
		Searches: c.searches.Load(), Updates: c.updates.Load(),
		Unavailable: c.unavailable.Load(), InternalFailures: c.internalFailures.Load(),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		st.Open += int64(l.Open())
	}
	return st
}
