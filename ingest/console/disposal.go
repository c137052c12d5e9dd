package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/bodyworn/ingestd/ingest/accounts"
	"github.com/bodyworn/ingestd/ingest/custody"
	"github.com/bodyworn/ingestd/ingest/journal"
)

// disposalPages show what expires, make plans of disposal (到期销毁), and apply them.
func (c *Console) disposalPages() []Page {
	watch, order := []accounts.Role{accounts.Auditor, accounts.Admin}, []accounts.Role{accounts.Admin}
	return []Page{
		{Route: "GET /admin/disposal", Name: "disposal", Roles: watch, Menu: 4, Serve: c.disposalList},
		{Route: "POST /admin/disposal", Name: "plan-make", Roles: order, Serve: c.planMake},
		{Route: "GET /admin/disposal/{plan}", Name: "plan", Roles: watch, Serve: c.planDetail},
		{Route: "POST /admin/disposal/{plan}/apply", Name: "plan-apply", Roles: order, PasswordAgain: true, Serve: c.planApply},
	}
}

// expiresWithin is how many days the page looks ahead.
const expiresWithin = 30

type disposalScreen struct {
	Plans   []journal.Plan
	Preview custody.Preview
	Broken  string // why it can't be told; empty: it can
	Days    int
}

func (c *Console) disposalList(v *Visit) error {
	s := disposalScreen{Days: expiresWithin}
	d, err := v.desk()
	if err == nil {
		s.Plans, err = c.Journal.Plans(v.Context())
	}
	if err != nil {
		return err
	}
	// Where it can't be told there are the plans still, and what is wrong.
	if s.Preview, err = d.Preview(v.Context(), expiresWithin); err != nil {
		s.Broken = err.Error()
	}
	return v.Show("disposal.html", s)
}

func (c *Console) planMake(v *Visit) error {
	d, err := v.desk()
	if err != nil {
		return err
	}
	var p *custody.Plan
	done, err := v.carryOut(func(ctx context.Context) (err error) {
		p, err = d.Plan(ctx, time.Time{})
		return err
	})
	switch {
	case err != nil:
		return err
	case !done:
		return v.goTo("/admin/disposal", "plan_going_on")
	case p.ID == "":
		return v.goTo("/admin/disposal", "plan_none")
	}
	return v.goTo("/admin/disposal/"+url.PathEscape(p.ID), "")
}

// planScreen is one plan as it was made, and what has become of it.
type planScreen struct {
	Plan custody.Plan
	Is   journal.Plan
	// Preview can't be applied, and Old not any more. Own says that this account has
	// asked, and that another one must confirm.
	Preview, Old, Own bool
	MayApply          bool
	Kept              map[custody.ReasonKind]int
	Wrong             string
}

func (c *Console) planScreen(v *Visit) (s planScreen, err error) {
	if s.Is, err = c.Journal.Plan(v.Context(), v.r.PathValue("plan")); err != nil {
		return s, err
	}
	if err := json.Unmarshal(s.Is.Body, &s.Plan); err != nil {
		return s, fmt.Errorf("plan %s: %w", s.Is.ID, err)
	}
	s.Preview, s.Own = s.Plan.AsOf != nil, s.Is.AskedBy == v.Account.Actor()
	s.Old = s.Is.State == journal.PlanOpen && c.Journal.Now().After(s.Plan.GoodUntil)
	s.MayApply = v.Admin() && !s.Preview && !s.Old && (s.Is.State == journal.PlanOpen && !s.Own || s.Is.State == journal.PlanApplying)
	s.Kept = map[custody.ReasonKind]int{}
	for _, k := range s.Plan.Kept {
		s.Kept[k.Reasons[0].Kind]++
	}
	return s, nil
}

func (c *Console) planDetail(v *Visit) error {
	s, err := c.planScreen(v)
	if err != nil {
		return err
	}
	return v.Show("plan.html", s)
}

// planApply wants the id typed, as the command does: what is deleted can't be had back.
func (c *Console) planApply(v *Visit) error {
	s, err := c.planScreen(v)
	if err != nil {
		return err
	}
	if strings.TrimSpace(v.r.PostFormValue("confirm")) != s.Plan.ID {
		s.Wrong = v.T("plan.not_confirmed")
		return v.ShowAs(http.StatusUnprocessableEntity, "plan.html", s)
	}
	d, err := v.desk()
	if err != nil {
		return err
	}
	var did custody.Applied
	done, err := v.carryOut(func(ctx context.Context) (err error) {
		did, err = d.Apply(ctx, s.Plan.ID, v.Shown(strings.TrimSpace(v.r.PostFormValue("reason"))))
		return err
	})
	if errors.Is(err, custody.ErrRefused) {
		// What has become of it, and why it was refused, on its own page.
		again, readErr := c.planScreen(v)
		if readErr != nil {
			return errors.Join(err, readErr)
		}
		again.Wrong = v.T("plan.refused", "Why", err.Error())
		return v.ShowAs(http.StatusConflict, "plan.html", again)
	}
	if err != nil {
		return err
	}
	say := "plan_applied"
	switch {
	case !done:
		say = "plan_going_on"
	case did.Asked:
		say = "plan_asked"
	case len(did.Left) > 0:
		say = "plan_left"
	}
	return v.goTo("/admin/disposal/"+url.PathEscape(s.Plan.ID), say)
}
