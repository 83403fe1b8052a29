// Package telemetry is how a process of the mesh is seen from outside: its log, its
// metrics, its health and its debug pages. It knows nothing about meshes; what there
// is to tell comes in as functions.
package telemetry

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/go-logr/logr"
)

// levels are the words that Open Service Mesh's users know.
func levels() map[string]slog.Level {
	return map[string]slog.Level{
		"trace": slog.LevelDebug - 1, "debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "warning": slog.LevelWarn,
		"error": slog.LevelError, "fatal": slog.LevelError, "panic": slog.LevelError, "disabled": slog.LevelError + 4,
	}
}

// Level is a log level that can be changed while a process runs.
type Level struct{ value slog.LevelVar }

// Set changes the level: trace, debug, info, warn, error or disabled.
func (l *Level) Set(word string) error {
	level, ok := levels()[word]
	if !ok {
		return fmt.Errorf("log level %q is not one of trace, debug, info, warn, error, disabled", word)
	}
	l.value.Set(level)
	return nil
}

// NewLogger returns a logger that writes JSON lines, and its level.
func NewLogger(out io.Writer, level string) (logr.Logger, *Level, error) {
	l := &Level{}
	if err := l.Set(level); err != nil {
		return logr.Discard(), nil, err
	}
	handler := slog.NewJSONHandler(out, &slog.HandlerOptions{Level: &l.value, ReplaceAttr: rename})
	return logr.FromSlogHandler(handler), l, nil
}

// rename gives a line's own fields the names that collectors of logs know.
func rename(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case slog.MessageKey:
		a.Key = "message"
	case slog.LevelKey:
		a.Value = slog.StringValue(word(a.Value))
	}
	return a
}

func word(v slog.Value) string {
	level, ok := v.Any().(slog.Level)
	switch {
	case !ok:
		return v.String()
	case level < slog.LevelDebug:
		return "trace"
	case level < slog.LevelInfo:
		return "debug"
	case level < slog.LevelWarn:
		return "info"
	case level < slog.LevelError:
		return "warn"
	default:
		return "error"
	}
}
