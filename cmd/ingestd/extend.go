package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/custody"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
)

const (
	// lengthenEvery is how often a daemon looks after the locks of stored sessions.
	lengthenEvery = 24 * time.Hour
	// lengthenRetry is when it looks again if the store did not answer.
	lengthenRetry = 10 * time.Minute
)

func (a *app) retentionExtendCmd() *cobra.Command {
	return &cobra.Command{
		Use: "extend", Short: "Lock stored sessions for as long as the rules in force ask for now",
		Long: `extend goes through the stored sessions and makes locks longer where the retention file,
retention.months and the tags in force now ask for more. The daemon does the same at
its start, when its settings are loaded again, and once a day. Nothing is ever
shortened. If it is cut off, run it again: it does what is left.

Exit codes: 0 all is locked as long as it must be · 1 something is not, and why.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.atDesk(cmd.Context(), "", true, func(ctx context.Context, _ *workplace, d *custody.Desk, _ error) error {
				done, err := d.Lengthen(ctx, everySession)
				if a.output == "json" {
					return errors.Join(err, printJSON(a.out, struct {
						Schema string `json:"schema"`
						custody.Lengthened
					}{"ingestd.retention-extended/1", done}))
				}
				a.printLengthened(done, d.Location)
				return err
			})
		},
	}
}

func everySession(journal.Session) bool { return true }

func (a *app) printLengthened(r custody.Lengthened, loc *time.Location) {
	if len(r.Extended) > 0 {
		var rows [][]any
		for _, e := range r.Extended {
			until := when(e.To, loc)
			if e.Permanent {
				until += " 永久 permanent"
			}
			rows = append(rows, []any{e.Session, when(e.From, loc), until, e.Rule, e.Objects, orDash(tame(e.Why))})
		}
		a.printTable([]string{"SESSION", "LOCKED UNTIL", "NOW UNTIL", "RULE", "OBJECTS", "WHY"}, rows, 5)
	}
	fmt.Fprintln(a.out, lengthenedWords(r))
}

func lengthenedWords(r custody.Lengthened) string {
	words := fmt.Sprintf("%d sessions: %d locked for longer 已延长; %d stay as they are, since less is asked for now and a lock can't be shortened 不缩短",
		r.Sessions, len(r.Extended), r.Stays)
	if r.Undecided > 0 {
		words += fmt.Sprintf("; %d not decided by the retention file", r.Undecided)
	}
	if r.Elsewhere > 0 {
		words += fmt.Sprintf("; besides %d in another bucket", r.Elsewhere)
	}
	return words
}

// keepLengthening looks after the locks of stored sessions: at once, whenever the
// settings were loaded again, and once a day, until ctx ends. Footage that is being
// taken in does not wait for it.
func (r *running) keepLengthening(ctx context.Context) {
	for {
		d := r.workplace.desk(r.station)
		d.Policy = r.retention.Load().Rules()
		wait := lengthenEvery
		done, err := d.Lengthen(ctx, everySession)
		if ctx.Err() != nil {
			return
		}
		if len(done.Extended) > 0 {
			r.emit(ingest.Event{Name: "retention.extended", Message: lengthenedWords(done)})
		}
		if err != nil {
			if errors.Is(err, storage.ErrUnavailable) {
				wait = lengthenRetry
			}
			r.emit(ingest.Event{Name: "retention.trouble", Level: ingest.Warn, Err: err,
				Message: "not every stored session is locked for as long as it must be; what it has stays locked as it is, and it is tried again"})
		}
		select {
		case <-ctx.Done():
			return
		case <-r.reloaded:
		case <-time.After(wait):
		}
	}
}
