package console

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/bodyworn/ingestd/ingest/accounts"
	"github.com/bodyworn/ingestd/ingest/custody"
	"github.com/bodyworn/ingestd/ingest/journal"
)

// holdPages put footage on hold (保全), and release it.
func (c *Console) holdPages() []Page {
	watch, order := []accounts.Role{accounts.Auditor, accounts.Admin}, []accounts.Role{accounts.Admin}
	return []Page{
		{Route: "GET /admin/holds", Name: "holds", Roles: watch, Menu: 3, Query: []string{"all"}, Serve: c.holdList},
		{Route: "GET /admin/holds/new", Name: "hold-new", Roles: order, Query: []string{"session", "officer", "recorder", "from", "to"}, Serve: c.holdNew},
		{Route: "POST /admin/holds", Name: "hold-add", Roles: order, Serve: c.holdAdd},
		{Route: "GET /admin/holds/{hold}", Name: "hold", Roles: watch, Serve: c.holdDetail},
		{Route: "POST /admin/holds/{hold}/release", Name: "hold-release", Roles: order, PasswordAgain: true, Serve: c.holdRelease},
		{Route: "POST /admin/holds/{hold}/retry", Name: "hold-retry", Roles: order, Serve: c.holdRetry},
	}
}

type holdsScreen struct {
	All   bool // the released ones too
	Holds []journal.Hold
}

func (c *Console) holdList(v *Visit) error {
	all, err := c.Journal.Holds(v.Context())
	if err != nil {
		return err
	}
	s := holdsScreen{All: v.Query("all") != "", Holds: all}
	if !s.All {
		s.Holds = slices.DeleteFunc(s.Holds, func(h journal.Hold) bool { return h.State == journal.HoldReleased })
	}
	return v.Show("holds.html", s)
}

// holdForm is what is to be held, and why, as it was typed.
type holdForm struct {
	Session, Officer, Recorder, From, To string // the query; Session names one
	Case, Reason                         string
	Wrong                                string
	Found                                []journal.Held
	Left                                 []string // sessions that match and can't be held, in words
	Words                                string   // the query
}

func (v *Visit) holdForm(value func(string) string) holdForm {
	get := func(name string) string { return strings.TrimSpace(v.Shown(value(name))) }
	return holdForm{
		Session: get("session"), Officer: get("officer"), Recorder: get("recorder"), From: get("from"), To: get("to"), Case: get("case"), Reason: get("reason"),
	}
}

// day is the beginning of a day as people write it.
func (v *Visit) day(text string) (time.Time, bool) {
	at, err := time.ParseInLocation(time.DateOnly, text, v.location)
	return at, err == nil
}

// find looks for what is asked for; what is wrong with the asking is in f.Wrong.
func (v *Visit) find(d *custody.Desk, f *holdForm) error {
	if f.Session != "" {
		if _, err := v.c.Journal.Session(v.Context(), f.Session); err != nil {
			return err
		}
		f.Found = []journal.Held{{Session: f.Session}}
		return nil
	}
	q := custody.HoldQuery{Officer: f.Officer, Recorder: f.Recorder}
	for text, day := range map[string]*time.Time{f.From: &q.From, f.To: &q.To} {
		if text == "" {
			continue
		}
		var ok bool
		if *day, ok = v.day(text); !ok {
			f.Wrong = v.T("hold.day_wrong")
			return nil
		}
	}
	if f.Words = q.Words(); f.Words == "" || !q.From.IsZero() && !q.To.IsZero() && q.To.Before(q.From) {
		f.Wrong = v.T("hold.query_wrong")
		return nil
	}
	var err error
	f.Found, f.Left, err = d.Find(v.Context(), q)
	if nothingMatches(err) {
		f.Wrong = v.T("hold.none_found")
		return nil
	}
	return err
}

// holdNew asks, and shows what the answer would hold before it does.
func (c *Console) holdNew(v *Visit) error {
	f := v.holdForm(v.r.URL.Query().Get)
	if f.Session+f.Officer+f.Recorder+f.From+f.To == "" {
		return v.Show("hold_new.html", f)
	}
	d, err := v.desk()
	if err == nil {
		err = v.find(d, &f)
	}
	if err != nil {
		return err
	}
	if f.Wrong != "" {
		return v.ShowAs(http.StatusUnprocessableEntity, "hold_new.html", f)
	}
	return v.Show("hold_new.html", f)
}

func (c *Console) holdAdd(v *Visit) error {
	f := v.holdForm(v.r.PostFormValue)
	d, err := v.desk()
	if err == nil {
		err = v.find(d, &f)
	}
	if err != nil {
		return err
	}
	if f.Wrong == "" && (f.Case == "" || f.Reason == "") {
		f.Wrong = v.T("hold.why_missing")
	}
	if f.Wrong != "" {
		return v.ShowAs(http.StatusUnprocessableEntity, "hold_new.html", f)
	}
	var h journal.Hold
	done, err := v.carryOut(func(ctx context.Context) (err error) {
		h, err = d.Hold(ctx, custody.HoldOrder{Case: f.Case, Reason: f.Reason, Of: f.Found, AskedFor: f.Words})
		return err
	})
	switch {
	case err != nil && h.ID != "":
		return v.unfinished(h, err)
	case err != nil:
		return err
	case !done:
		return v.goTo("/admin/holds", "hold_going_on")
	}
	return v.goTo("/admin/holds/"+url.PathEscape(h.ID), "hold_added")
}

// holdScreen is one hold with what may be done to it.
type holdScreen struct {
	journal.Hold
	Unfinished bool // the store has not confirmed all of it
	// SecondPerson says that somebody else must confirm the release; Own that this is the
	// one who has asked.
	SecondPerson, Own bool
	MayOrder          bool
	Reason, Wrong     string
}

func (c *Console) holdScreen(v *Visit) (holdScreen, error) {
	h, err := c.Journal.Hold(v.Context(), v.r.PathValue("hold"))
	return holdScreen{
		Hold: h, Unfinished: h.State == journal.HoldSetting || h.State == journal.HoldReleasing, SecondPerson: h.State == journal.HoldAsked,
		Own: h.ReleaseAskedBy == v.Account.Actor(), MayOrder: v.Account.Role == accounts.Admin,
	}, err
}

func (c *Console) holdDetail(v *Visit) error {
	s, err := c.holdScreen(v)
	if err != nil {
		return err
	}
	return v.Show("hold.html", s)
}

func (c *Console) holdRelease(v *Visit) error {
	s, err := c.holdScreen(v)
	if err != nil {
		return err
	}
	if s.Reason = strings.TrimSpace(v.Shown(v.r.PostFormValue("reason"))); s.Reason == "" {
		s.Wrong = v.T("hold.release_why_missing")
		return v.ShowAs(http.StatusUnprocessableEntity, "hold.html", s)
	}
	return v.changeHold(s.ID, func(ctx context.Context, d *custody.Desk) (journal.Hold, error) {
		return d.Release(ctx, s.ID, s.Reason)
	})
}

func (c *Console) holdRetry(v *Visit) error {
	id := v.r.PathValue("hold")
	return v.changeHold(id, func(ctx context.Context, d *custody.Desk) (journal.Hold, error) { return d.Retry(ctx, id) })
}

// unfinished leads to a hold that counts and is not set on, or lifted from, everything: its
// page says so. Why, whoever looks after the station is told.
func (v *Visit) unfinished(h journal.Hold, err error) error {
	v.c.tell(Problem{Status: http.StatusBadGateway, Code: "order_failed", cause: err})
	return v.goTo("/admin/holds/"+url.PathEscape(h.ID), "")
}

func (v *Visit) changeHold(id string, order func(context.Context, *custody.Desk) (journal.Hold, error)) error {
	d, err := v.desk()
	if err != nil {
		return err
	}
	var h journal.Hold
	done, err := v.carryOut(func(ctx context.Context) (err error) {
		h, err = order(ctx, d)
		return err
	})
	if err != nil {
		if h.ID != "" && !errors.Is(err, custody.ErrRefused) {
			return v.unfinished(h, err)
		}
		return err
	}
	if !done { // and h is the order's still
		return v.goTo("/admin/holds/"+url.PathEscape(id), "hold_going_on")
	}
	say := map[journal.HoldState]string{journal.HoldAsked: "hold_asked", journal.HoldReleased: "hold_released", journal.HoldHeld: "hold_added"}[h.State]
	return v.goTo("/admin/holds/"+url.PathEscape(id), say)
}
