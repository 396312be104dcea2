package shard

import (
	"io"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// newRaftLogger carries hashicorp/raft's log lines into slog. Its routine lines (elections, pipelines) are
// told at debug level: the group says itself what an operator must know.
func newRaftLogger(log *slog.Logger) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Level: hclog.Info, Output: io.Discard})
	l.RegisterSink(raftSink{log})
	return l
}

type raftSink struct{ log *slog.Logger }

// Accept implements hclog.SinkAdapter.
func (s raftSink) Accept(name string, level hclog.Level, msg string, args ...any) {
	switch {
	case level >= hclog.Error:
		s.log.Warn(name+": "+msg, args...)
	default:
		s.log.Debug(name+": "+msg, args...)
	}
}
