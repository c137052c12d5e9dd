package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/bodyworn/ingestd/configs"
	"github.com/bodyworn/ingestd/ingest"
)

// setFields says once what fields are called: other goroutines read it while they log.
var setFields = sync.OnceFunc(func() {
	zerolog.TimeFieldFormat = "2006-01-02T15:04:05.000Z07:00"
	zerolog.TimestampFunc = func() time.Time { return time.Now().UTC() }
	zerolog.MessageFieldName = "msg"
})

// newLogger writes JSON lines, or a console form for a person at a terminal.
func newLogger(w io.Writer, c configs.Log) zerolog.Logger {
	setFields()
	switch formatOf(w, c.Format) {
	case configs.FormatConsole:
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: time.DateTime, NoColor: os.Getenv("NO_COLOR") != ""}
	case configs.FormatJournal:
		w = journalWriter{w}
	}
	level, err := zerolog.ParseLevel(string(c.Level))
	if err != nil {
		level = zerolog.InfoLevel // Load has checked it
	}
	return zerolog.New(w).Level(level).With().Timestamp().Logger()
}

// formatOf tells which format auto means for w.
func formatOf(w io.Writer, format configs.LogFormat) configs.LogFormat {
	f, isFile := w.(*os.File)
	switch {
	case format != configs.FormatAuto:
		return format
	case isFile && term.IsTerminal(int(f.Fd())):
		return configs.FormatConsole
	case isFile && isJournal(f, os.Getenv("JOURNAL_STREAM")):
		return configs.FormatJournal
	}
	return configs.FormatJSON
}

// isJournal tells whether a file is the stream to systemd's journal. The variable is
// there also for a program whose output somebody has led elsewhere: it names the stream
// by device and inode, see systemd.exec(5).
func isJournal(f *os.File, stream string) bool {
	var st unix.Stat_t
	if stream == "" || unix.Fstat(int(f.Fd()), &st) != nil {
		return false
	}
	return stream == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// journalWriter puts before each line the priority that the journal takes off it again,
// see sd-daemon(3): the line that it keeps is JSON.
type journalWriter struct{ io.Writer }

// WriteLevel implements zerolog.LevelWriter.
func (w journalWriter) WriteLevel(level zerolog.Level, line []byte) (int, error) {
	priority := "<6>"
	switch {
	case level >= zerolog.ErrorLevel:
		priority = "<3>"
	case level == zerolog.WarnLevel:
		priority = "<4>"
	case level < zerolog.InfoLevel:
		priority = "<7>"
	}
	// In one write: lines of several goroutines would else mix.
	n, err := w.Write(append([]byte(priority), line...))
	return max(0, n-len(priority)), err
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
	if e.State != "" {
		line = line.Str("state", string(e.State))
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
