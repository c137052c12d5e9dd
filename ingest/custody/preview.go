package custody

import (
	"context"
	"fmt"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest/journal"
)

// PreviewSchema is the form of a Preview.
const PreviewSchema = "ingestd.disposal-preview/1"

// Preview is what will expire within some days by what the journal knows: time enough to
// look at it, to tag it or to hold it. The store was not asked.
type Preview struct {
	Schema   string            `json:"schema"`
	At       time.Time         `json:"at"`
	Days     int               `json:"days"`
	Totals   PreviewTotals     `json:"totals"`
	Sessions []ExpiringSession `json:"sessions"` // the first to expire first, those that have expired among them
}

// PreviewTotals count what a preview lists.
type PreviewTotals struct {
	Sessions int `json:"sessions"`
	// Recordings are files that the sessions have stored.
	Recordings  int `json:"recordings"`
	NeverViewed int `json:"never_viewed"` // sessions
	NearHold    int `json:"near_hold"`    // sessions
	GapTotals
}

// ExpiringSession is a session of a preview.
type ExpiringSession struct {
	Session    string    `json:"session"`
	Recorder   string    `json:"recorder"`
	Officer    string    `json:"officer_id"`
	DockedAt   time.Time `json:"docked_at"`
	KeptUntil  time.Time `json:"kept_until"`
	Recordings int       `json:"recordings"`
	Bytes      int64     `json:"bytes"`
	Viewed     Viewed    `json:"viewed"`
	OpenGaps   *int      `json:"open_gaps"` // signs of interruptions; null: nobody could look
	NearHold   []string  `json:"near_hold"`
}

// Words is the preview in one sentence.
func (p Preview) Words() string {
	t := p.Totals
	return fmt.Sprintf("within %d days %d recordings in %d sessions expire: %d sessions never viewed, %s, %d near a hold",
		p.Days, t.Recordings, t.Sessions, t.NeverViewed, t.GapWords(), t.NearHold)
}

// gaps counts the signs of interruptions in a session; nil: nobody could look for any.
func (d *Desk) gaps(ctx context.Context, s journal.Session, files []*journal.File) (*int, error) {
	if d.Continuity == nil {
		return nil, nil
	}
	r, err := d.Continuity.Session(ctx, s, files)
	return r.Open(), err
}

// Preview looks some days ahead. It needs no store, and so neither Vault nor Station: it
// goes by the station's clock, tells of sessions in whatever bucket they lie, and takes
// objects that sessions have in common for as many as there are. It changes nothing.
func (d *Desk) Preview(ctx context.Context, days int) (Preview, error) {
	now := d.Journal.Now().In(d.Location)
	p := Preview{Schema: PreviewSchema, At: now, Days: days, Sessions: []ExpiringSession{}}
	l := &look{Desk: d, now: now.AddDate(0, 0, days)}
	var err error
	if l.units, err = d.units(ctx); err != nil {
		return p, err
	}
	if l.holds, err = d.heldSessions(ctx); err != nil {
		return p, err
	}
	if l.views, err = d.views(ctx); err != nil {
		return p, err
	}
	sessions, err := d.Journal.Expiring(ctx, l.now)
	if err != nil {
		return p, err
	}
	for _, s := range sessions {
		reasons, err := l.known(ctx, s)
		if err != nil {
			return p, err
		}
		if len(reasons) > 0 {
			continue
		}
		e := ExpiringSession{
			Session: s.ID, Recorder: s.Recorder, Officer: s.Officer, DockedAt: s.DockedAt.In(d.Location), KeptUntil: s.RetainUntil.In(d.Location),
			Viewed: l.views[s.ID], NearHold: l.nearHold(s),
		}
		files, err := d.Journal.Files(ctx, s.ID)
		if err != nil {
			return p, err
		}
		for _, f := range files {
			if f.Entry.Kind == device.KindFile && f.State == journal.Verified {
				e.Recordings, e.Bytes = e.Recordings+1, e.Bytes+f.Entry.Size
			}
		}
		if e.OpenGaps, err = d.gaps(ctx, s, files); err != nil {
			return p, err
		}
		p.Totals.add(e.OpenGaps)
		p.Sessions = append(p.Sessions, e)
		p.Totals.Sessions, p.Totals.Recordings = p.Totals.Sessions+1, p.Totals.Recordings+e.Recordings
		if e.Viewed.Count == 0 {
			p.Totals.NeverViewed++
		}
		if len(e.NearHold) > 0 {
			p.Totals.NearHold++
		}
	}
	return p, nil
}
