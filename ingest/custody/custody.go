// Package custody is what happens to footage after its session was sealed, until the
// day it is deleted (第十一条): it is tagged, kept for longer, put on hold (保全) and,
// when its time has come and nothing keeps it, disposed of by a plan (到期销毁).
//
// It stands behind ingest in the flow, and beside it in the daemon: cmd gives the
// orders of people, and the daemon has it look after the locks.
//
// Its promises:
//   - The ledger has an order before it is carried out, and what was refused; that locks
//     were lengthened it has when they are.
//   - Footage can only be kept for longer. The lock in the store is what counts, and it
//     is asked, not remembered.
//   - Nothing is deleted but exactly what a plan has shown to people, and nothing of it
//     while anything that protects it can't be read.
//   - Whatever is cut off is finished by giving the same order again.
package custody

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/continuity"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/ledger"
	"github.com/bodyworn/ingestd/storage/policy"
)

// ErrRefused is an order that may not be carried out. The ledger has it.
var ErrRefused = errors.New("refused")

// Desk is where orders about stored footage are carried out.
type Desk struct {
	Station *ingest.Station // whose ledger it is
	Vault   *storage.Vault
	// Disposer deletes footage, with a key that may; nil: Vault.
	Disposer *storage.Vault
	Journal  *journal.Journal
	Evidence ingest.Evidence
	Location *time.Location
	// Policy and Months are those of the settings in force; Policy may be nil.
	Policy *policy.Policy
	Months int
	// TwoPersons wants a second person for a release and for a disposal.
	TwoPersons bool
	// Administrators may release holds and dispose of footage; empty: whoever can use
	// the station's folder. A person is named as in Person.
	Administrators []string
	// Person gives the orders, for example "uid 1000".
	Person string
	// Actor is Person as the ledger has it; empty: the station itself.
	Actor string
	// Continuity looks for signs of interruptions; nil: nobody looks.
	Continuity *continuity.Examiner
	// Progress is called as work goes on; it may be nil.
	Progress func(done, total int)
}

// record writes to the ledger who did what.
func (d *Desk) record(ctx context.Context, e ledger.Entry) error {
	e.Actor = d.Actor
	return d.Station.Record(ctx, e)
}

// refuse writes down an order that is not carried out, and gives ErrRefused with why.
// The event is its name, such as hold.refused.
func (d *Desk) refuse(ctx context.Context, e ledger.Entry, why error) error {
	e.Reason = why.Error()
	return errors.Join(fmt.Errorf("%w: %w", ErrRefused, why), d.record(ctx, e))
}

func (d *Desk) progress(done, total int) {
	if d.Progress != nil {
		d.Progress(done, total)
	}
}

// ended tells whether a session has come to its end in the store.
func ended(s journal.Session) bool {
	return s.State == journal.StateSealed || s.State == journal.StateFailed
}

// facts gives what is known of an ended session for a policy: what it was stored with,
// its tags, and the register as it is now.
func (d *Desk) facts(ctx context.Context, s journal.Session, units map[string]string) (policy.Facts, error) {
	var files []*journal.File
	if s.Clock.Kind == device.ClockMeasured { // else they tell nothing
		var err error
		if files, err = d.Journal.Files(ctx, s.ID); err != nil {
			return policy.Facts{}, err
		}
	}
	f := ingest.RetentionFacts(s, files, units[s.Recorder], s.EndedAt)
	tags, err := d.Journal.Tags(ctx, s.ID)
	for _, t := range tags {
		f.Tags = append(f.Tags, t.Tag)
	}
	return f, err
}

// units gives the units in the register, by serial number.
func (d *Desk) units(ctx context.Context) (map[string]string, error) {
	all, err := d.Journal.Recorders(ctx)
	if err != nil {
		return nil, err
	}
	units := map[string]string{}
	for _, r := range all {
		units[r.Serial] = r.Unit
	}
	return units, nil
}
