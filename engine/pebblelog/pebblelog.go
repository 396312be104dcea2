// Package pebblelog hands the few messages of a pebble database to slog. It keeps nothing.
package pebblelog

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
)

// Logger is a pebble.Logger. Pebble writes its routine messages at info level; they are of no use to an operator, and become debug's.
type Logger struct {
	Log    *slog.Logger
	What   string     // the database, such as "index"
	Errors slog.Level // of pebble's errors
}

// Infof implements pebble.Logger.
func (l Logger) Infof(format string, args ...any) {
	l.tell(slog.LevelDebug, "pebble", text(format, args))
}

// Errorf implements pebble.Logger.
func (l Logger) Errorf(format string, args ...any) { l.tell(l.Errors, "pebble", text(format, args)) }

// Fatalf must not return: pebble calls it where its memory and its files no longer agree. The process ends.
func (l Logger) Fatalf(format string, args ...any) {
	message := text(format, args)
	l.tell(slog.LevelError, "pebble cannot go on", message)
	panic(l.What + ": " + message)
}

func (l Logger) tell(level slog.Level, what, message string) {
	l.Log.Log(context.Background(), level, l.What+": "+what, "message", message)
}

func text(format string, args []any) string { return strings.TrimSpace(fmt.Sprintf(format, args...)) }
