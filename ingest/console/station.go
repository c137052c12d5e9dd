package console

import (
	"context"
	"errors"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/accounts"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/ledger"
)

// stationPages tell how the station is: its slots, its bucket, its health.
func (c *Console) stationPages() []Page {
	technical := []accounts.Role{accounts.ITStaff, accounts.Admin}
	watch := []accounts.Role{accounts.Auditor, accounts.ITStaff, accounts.Admin}
	return []Page{
		{Route: "GET /admin/dock", Name: "dock", Roles: technical, Menu: 6, Serve: c.dock},
		{Route: "GET /admin/bucket", Name: "bucket", Roles: watch, Menu: 8, Serve: c.bucket},
		{Route: "POST /admin/bucket", Name: "bucket-look", Roles: technical, Serve: c.bucketLook},
		{Route: "GET /admin/health", Name: "health", Roles: watch, Menu: 10, Serve: c.health},
	}
}

// slotRow is a slot as the board tells it, and where it is.
type slotRow struct {
	ingest.SlotView
	Port string // empty: not known
}

// ClockBad tells whether the recorder's clock was wrong when it was docked.
func (r slotRow) ClockBad() bool {
	return r.Verdict == device.ClockOff || r.Verdict == device.ClockReset || r.Verdict == device.ClockWrongZone
}

// dock is the metal one, slot by slot.
func (c *Console) dock(v *Visit) error {
	var rows []slotRow
	for _, s := range c.Station.Slots() {
		rows = append(rows, slotRow{s, c.Ports[s.Name]})
	}
	return v.Show("dock.html", rows)
}

type bucketScreen struct {
	Findings []storage.Finding
	At       time.Time // zero: not looked at since the daemon started
	Bad      int
}

func (c *Console) bucket(v *Visit) error {
	s := bucketScreen{}
	s.Findings, s.At = c.Station.LastAudit()
	for _, f := range s.Findings {
		if f.Severity != storage.SeverityNote {
			s.Bad++
		}
	}
	return v.Show("bucket.html", s)
}

// bucketLook has the settings of the bucket looked at now.
func (c *Console) bucketLook(v *Visit) error {
	if c.Desk == nil {
		return v.noDesk()
	}
	done, err := v.carryOut(func(ctx context.Context) error {
		_, err := c.Station.Audit(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if !done {
		return v.goTo("/admin/bucket", "plan_going_on")
	}
	return v.goTo("/admin/bucket", "bucket_looked")
}

// healthScreen is what IT staff look at first.
type healthScreen struct {
	Checks    []ingest.Check
	AllReady  bool
	Room      ingest.Room
	DaysLeft  int
	DaysKnown bool
	RoomErr   string
	Counts    journal.Counts
	Clock     device.StationClock
	Software  string
	// CertificateEnds is when browsers stop to trust the console; zero: it has none.
	CertificateEnds time.Time
	CertificateSoon bool
	AuditAt         time.Time
	AuditBad        int
	LedgerSize      int64
	LedgerBroken    bool
	Verified        *ledger.Entry // the last verify.done; nil: there is none
	Attention       []ingest.Noted
}

// Told tells whether the reader may have the words of an event. Those about a session may
// name files; its kind, slot and time are for everybody who looks after the station.
func (s healthScreen) Told(v *Visit, n ingest.Noted) bool {
	return v.Footage() || n.Session == "" && n.Path == ""
}

type stateCount struct {
	State journal.SessionState
	Count int
}

// Sessions are the counts in the order of a session's life.
func (s healthScreen) Sessions() (all []stateCount) {
	for _, state := range []journal.SessionState{journal.StateOpen, journal.StateSealing, journal.StateSealed, journal.StateFailed} {
		all = append(all, stateCount{state, s.Counts.Sessions[state]})
	}
	return all
}

// certificateSoon is how long before its end a certificate is warned of.
const certificateSoon = 30 * 24 * time.Hour

func (c *Console) health(v *Visit) error {
	if c.Desk == nil {
		return v.noDesk()
	}
	ctx := v.Context()
	s := healthScreen{Checks: c.Station.Ready(ctx), AllReady: true, Clock: c.Station.Clock(), Software: c.Software}
	for _, check := range s.Checks {
		s.AllReady = s.AllReady && check.Ready
	}
	var err error
	if s.Room, err = c.Station.Room(ctx); err != nil {
		s.RoomErr = err.Error()
	}
	s.DaysLeft, s.DaysKnown = s.Room.Days()
	if s.Counts, err = c.Journal.Counts(ctx); err != nil {
		return err
	}
	if s.LedgerSize, err = c.Evidence.Ledger.Size(); err != nil {
		return err
	}
	for line, err := range c.Evidence.Ledger.Events(ctx, "verify.done") {
		if s.LedgerBroken = errors.Is(err, ledger.ErrBroken); s.LedgerBroken {
			s.Verified = nil // what it says can't be trusted
			break
		}
		if err != nil {
			return err
		}
		s.Verified = &line.Entry
	}
	if c.Attention != nil {
		s.Attention = c.Attention()
	}
	if s.CertificateEnds, err = c.CertificateEnds(); err != nil {
		return err
	}
	s.CertificateSoon = !s.CertificateEnds.IsZero() && time.Until(s.CertificateEnds) < certificateSoon
	findings, at := c.Station.LastAudit()
	s.AuditAt = at
	for _, f := range findings {
		if f.Severity != storage.SeverityNote {
			s.AuditBad++
		}
	}
	return v.Show("health.html", s)
}
