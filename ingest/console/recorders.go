package console

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/bodyworn/ingestd/ingest/accounts"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/ingest/register"
	"github.com/bodyworn/ingestd/storage/ledger"
)

// recorderPages are the register of recorders (台账).
func (c *Console) recorderPages() []Page {
	watch, order := []accounts.Role{accounts.Auditor, accounts.ITStaff, accounts.Admin}, []accounts.Role{accounts.Admin}
	return []Page{
		{Route: "GET /admin/recorders", Name: "recorders", Roles: watch, Menu: 5, Query: []string{"edit"}, Serve: c.recorderList},
		{Route: "POST /admin/recorders", Name: "recorder-save", Roles: order, Serve: c.recorderSave},
		{Route: "POST /admin/recorders/remove", Name: "recorder-remove", Roles: order, Serve: c.recorderRemove},
	}
}

type recordersScreen struct {
	Rows  []recorderRow
	Form  journal.Recorder // what is being typed
	Wrong string
}

// recorderRow is a recorder with its last docking.
type recorderRow struct {
	journal.Recorder
	Last *journal.Session // nil: never docked here
}

func (c *Console) recordersScreen(v *Visit, form journal.Recorder) (s recordersScreen, err error) {
	s.Form = form
	all, err := c.Journal.Recorders(v.Context())
	if err != nil {
		return s, err
	}
	for _, r := range all {
		last, err := c.Journal.Last(v.Context(), r.Serial)
		if err != nil && !errors.Is(err, journal.ErrNotFound) {
			return s, err
		}
		s.Rows = append(s.Rows, recorderRow{r, last})
		if r.Serial == v.Query("edit") {
			s.Form = r
		}
	}
	return s, nil
}

func (c *Console) recorderList(v *Visit) error {
	s, err := c.recordersScreen(v, journal.Recorder{})
	if err != nil {
		return err
	}
	return v.Show("recorders.html", s)
}

func (v *Visit) register() register.Register {
	return register.Register{Journal: v.c.Journal, Record: func(_ context.Context, e ledger.Entry) error { return v.Record(e) }, HasProfile: v.c.HasProfile}
}

func (c *Console) recorderSave(v *Visit) error {
	get := func(name string) string { return strings.TrimSpace(v.Shown(v.r.PostFormValue(name))) }
	r := journal.Recorder{Serial: get("serial"), Officer: get("officer"), Unit: get("unit"), Profile: get("profile"), Note: get("note")}
	err := v.register().Add(v.Context(), r)
	wrong := map[error]string{register.ErrSerial: "recorder.serial_wrong", register.ErrProfile: "recorder.profile_wrong"}
	for is, message := range wrong {
		if errors.Is(err, is) {
			s, err := c.recordersScreen(v, r)
			if err != nil {
				return err
			}
			s.Wrong = v.T(message)
			return v.ShowAs(http.StatusUnprocessableEntity, "recorders.html", s)
		}
	}
	if err != nil {
		return err
	}
	return v.goTo("/admin/recorders", "recorder_saved")
}

func (c *Console) recorderRemove(v *Visit) error {
	if err := v.register().Remove(v.Context(), strings.TrimSpace(v.r.PostFormValue("serial"))); err != nil {
		return err
	}
	return v.goTo("/admin/recorders", "recorder_removed")
}
