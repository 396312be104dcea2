package shard

import (
	"io"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// newRaftLogger carries hashicorp/raft's log lines into slog, at debug level: it repeats itself every few milliseconds while
// a peer is away. What an operator must know, the group and the transport say themselves.
func newRaftLogger(log *slog.Logger) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Level: hclog.Warn, Output: io.Discard})
	l.RegisterSink(raftSink{log})
	return l
}

type raftSink struct{ log *slog.Logger }

// Accept implements hclog.SinkAdapter.
func (s raftSink) Accept(name string, level hclog.Level, msg string, args ...any) {
	s.log.Debug(name+": "+msg, append(args, "level", level.String())...)
}
