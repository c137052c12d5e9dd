package main

import (
	"io"
	"os"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/term"

	"github.com/bodyworn/ingestd/configs"
	"github.com/bodyworn/ingestd/ingest"
)

// newLogger writes JSON lines, or a console form for a person at a terminal.
func newLogger(w io.Writer, c configs.Log) zerolog.Logger {
	zerolog.TimeFieldFormat = "2006-01-02T15:04:05.000Z07:00"
	zerolog.MessageFieldName = "msg"
	console := c.Format == configs.FormatConsole
	if f, ok := w.(*os.File); ok && c.Format == configs.FormatAuto {
		console = term.IsTerminal(int(f.Fd()))
	}
	if console {
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: time.DateTime, NoColor: os.Getenv("NO_COLOR") != ""}
	}
	level, err := zerolog.ParseLevel(string(c.Level))
	if err != nil {
		level = zerolog.InfoLevel // Load has checked it
	}
	return zerolog.New(w).Level(level).With().Timestamp().Logger()
}

// logEvent writes one event: ids, never names of people.
func logEvent(log zerolog.Logger, e ingest.Event) {
	line := log.Info()
	switch e.Level {
	case ingest.Warn:
		line = log.Warn()
	case ingest.Alarm:
		line = log.Error()
	}
	line = line.Str("event", e.Name)
	for _, field := range [][2]string{{"slot", e.Slot}, {"session", e.Session}, {"recorder", e.Recorder}, {"officer_id", e.Officer}, {"file", e.Path}} {
		if field[1] != "" {
			line = line.Str(field[0], field[1])
		}
	}
	if e.Bytes > 0 {
		line = line.Int64("bytes", e.Bytes)
	}
	if e.Took > 0 {
		line = line.Int64("dur_ms", e.Took.Milliseconds())
	}
	if e.Err != nil {
		line = line.AnErr("err", e.Err)
	}
	line.Msg(e.Message)
}
