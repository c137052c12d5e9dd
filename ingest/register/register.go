// Package register changes the register of recorders (台账): which recorder is whose, of
// which unit and make. It stands beside the flow: a session asks the journal, people
// change it here, from the command line or the console, and the ledger has it first.
package register

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage/ledger"
)

// What is refused.
var (
	ErrSerial  = errors.New("it names no recorder")
	ErrProfile = errors.New("there is no such profile: `ingestd recorders profiles` lists them")
)

// Register changes the register of a journal.
type Register struct {
	Journal *journal.Journal
	// Record writes to the ledger; what it can't have does not happen.
	Record func(context.Context, ledger.Entry) error
	// HasProfile tells whether there is a profile of a name.
	HasProfile func(name string) (bool, error)
}

// Add puts a recorder into the register, or changes its entry. The time of the entry is
// that of now.
func (r Register) Add(ctx context.Context, entry journal.Recorder) error {
	if strings.Trim(entry.Serial, "0 \t") == "" {
		return fmt.Errorf("serial number %q: %w", entry.Serial, ErrSerial)
	}
	if entry.Profile != "" {
		there, err := r.HasProfile(entry.Profile)
		if err != nil {
			return err
		}
		if !there {
			return fmt.Errorf("profile %q: %w", entry.Profile, ErrProfile)
		}
	}
	entry.AddedAt = r.Journal.Now()
	// The note is in no ledger: nothing could ever be taken out of it again.
	if err := r.Record(ctx, ledger.Entry{
		Event: "recorder.registered", Recorder: entry.Serial, Time: entry.AddedAt,
		Detail: map[string]string{"officer": entry.Officer, "unit": entry.Unit, "profile": entry.Profile},
	}); err != nil {
		return err
	}
	return r.Journal.AddRecorder(ctx, entry)
}

// Remove takes a recorder out of the register; journal.ErrNotFound: it is not in it. Its
// sessions stay.
func (r Register) Remove(ctx context.Context, serial string) error {
	all, err := r.Journal.Recorders(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(all, func(e journal.Recorder) bool { return e.Serial == serial }) {
		return fmt.Errorf("recorder %s is not in the register: %w", serial, journal.ErrNotFound)
	}
	if err := r.Record(ctx, ledger.Entry{Event: "recorder.removed", Recorder: serial}); err != nil {
		return err
	}
	return r.Journal.RemoveRecorder(ctx, serial)
}
