package custody

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/ingest/manifest"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/ledger"
)

const (
	// PlanSchema is the form of a Plan.
	PlanSchema = "ingestd.disposal-plan/1"
	// PlanGoodFor is how long a plan may be applied: what it shows people must be fresh.
	PlanGoodFor = 7 * 24 * time.Hour
)

// Plan says which footage may go now and why, and which may not (到期销毁). Its JSON is
// what people are shown, what the journal keeps, and what the ledger has the SHA-256 of:
// nothing else is ever deleted by its id.
type Plan struct {
	Schema   string `json:"schema"`
	ID       string `json:"id"` // empty: there is nothing to dispose of, and it is not kept
	Station  string `json:"station"`
	Timezone string `json:"timezone"`
	BucketID string `json:"bucket_id"`
	Store    string `json:"store"`
	// MadeAt is the earlier of the station's and the store's time.
	MadeAt time.Time `json:"made_at"`
	MadeBy string    `json:"made_by"`
	// AsOf is the time that a preview looks at, later than MadeAt; null: none, it can be
	// applied until GoodUntil.
	AsOf      *time.Time `json:"as_of"`
	GoodUntil time.Time  `json:"good_until"`
	Policy    string     `json:"policy_sha256"` // empty: there is no retention file
	Months    int        `json:"months"`        // retention.months
	// Clock is the station's. A plan is made with any, and applied only with one that is
	// kept by a time service.
	Clock      device.StationClock `json:"clock"`
	Totals     PlanTotals          `json:"totals"`
	Disposable []Disposable        `json:"disposable"`
	Kept       []Kept              `json:"kept"`
}

// PlanTotals count what a plan lists. The sessions that it does not list are counted too.
type PlanTotals struct {
	Sessions    int   `json:"sessions"`
	Files       int   `json:"files"`
	Objects     int   `json:"objects"`
	Bytes       int64 `json:"bytes"`
	NeverViewed int   `json:"never_viewed"` // sessions
	NearHold    int   `json:"near_hold"`    // sessions
	GapTotals
	Kept      int `json:"kept_sessions"`
	Open      int `json:"open_sessions"`
	Elsewhere int `json:"sessions_elsewhere"` // in a bucket that the station had before
	Disposed  int `json:"sessions_disposed"`  // by earlier plans
}

// GapTotals count sessions by their signs of interruptions (记录中断).
type GapTotals struct {
	OpenGaps   *int `json:"open_gaps"`       // with signs; null: nobody could look in any session
	Unexamined int  `json:"gaps_unexamined"` // in which nobody could look
}

func (t *GapTotals) add(signs *int) {
	if signs == nil {
		t.Unexamined++
		return
	}
	if t.OpenGaps == nil {
		t.OpenGaps = new(int)
	}
	if *signs > 0 {
		*t.OpenGaps++
	}
}

// GapWords tell of them.
func (t GapTotals) GapWords() string {
	switch {
	case t.OpenGaps == nil:
		return "gaps 记录中断 not examined 未检查"
	case t.Unexamined > 0:
		return fmt.Sprintf("with signs of gaps 记录中断 %d, not examined 未检查 %d", *t.OpenGaps, t.Unexamined)
	default:
		return fmt.Sprintf("with signs of gaps 记录中断 %d", *t.OpenGaps)
	}
}

// Disposable is a session whose footage may go.
type Disposable struct {
	Session  string    `json:"session"`
	Recorder string    `json:"recorder"`
	Officer  string    `json:"officer_id"`
	DockedAt time.Time `json:"docked_at"`
	EndedAt  time.Time `json:"ended_at"`
	// KeptUntil is the end of its lock, DaysKept the days since it was stored.
	KeptUntil time.Time `json:"kept_until"`
	DaysKept  int       `json:"days_kept"`
	// Retention is the rule of the manifest; null: it was sealed without a retention
	// file, by retention.months.
	Retention *manifest.Retention `json:"retention"`
	Manifest  PlannedObject       `json:"manifest"` // which stays
	Files     int                 `json:"files"`
	Bytes     int64               `json:"bytes"`   // of Objects
	Objects   []PlannedObject     `json:"objects"` // that are deleted
	// SharedWith are sessions with which it has objects in common; they go by the same
	// plan or have gone.
	SharedWith []string `json:"shared_with"`
	Viewed     Viewed   `json:"viewed"`
	// Gaps is how many signs of interruptions (记录中断) there are; null: nobody could look
	// for any.
	Gaps *int `json:"open_gaps"`
	// NearHold are holds on other sessions of the same officer or recorder that were
	// docked within a day of it.
	NearHold []string `json:"near_hold"`
}

// PlannedObject is one version in the bucket.
type PlannedObject struct {
	Key     string `json:"key"`
	Version string `json:"version_id"`
	SHA256  string `json:"sha256"`
	Size    int64  `json:"size"`
}

// Viewed is what the ledger tells of looks at a session's footage: playback, views and
// exports.
type Viewed struct {
	Count int        `json:"count"`
	Last  *time.Time `json:"last"` // null: never
}

// Kept is a session that stays, and why.
type Kept struct {
	Session string   `json:"session"`
	Reasons []Reason `json:"reasons"`
}

// Reason is why a session stays.
type Reason struct {
	Kind  ReasonKind `json:"kind"`
	Words string     `json:"words"`
	Until *time.Time `json:"until,omitempty"` // where it ends by itself
}

// ReasonKind is stable.
type ReasonKind string

// Why a session is kept.
const (
	Locked    ReasonKind = "locked"     // its lock has not ended
	Ruled     ReasonKind = "rule"       // what is in force now asks for more
	Permanent ReasonKind = "permanent"  // 永久保存
	OnHold    ReasonKind = "hold"       // 保全
	Shared    ReasonKind = "shared"     // a session that is kept needs one of its objects
	Undecided ReasonKind = "undecided"  // the rules can't say
	NotStored ReasonKind = "not_stored" // it failed: what is stored of it may be all there is
	Documents ReasonKind = "documents"  // its manifest is not there, or not as it was signed
	Differs   ReasonKind = "differs"    // the store holds something else than the manifest says
)

// Plan goes through all sessions and tells which may be disposed of. What it finds is
// kept under an id, if there is anything, first in the ledger, then in the journal. With
// an asOf later than now it is a preview, which can't be applied; the zero time is now.
func (d *Desk) Plan(ctx context.Context, asOf time.Time) (*Plan, error) {
	now, err := d.Vault.AgreedTime(ctx)
	if errors.Is(err, storage.ErrClocks) {
		return nil, d.refuse(ctx, ledger.Entry{Event: "disposal.refused"}, err)
	}
	if err != nil {
		return nil, err
	}
	p := &Plan{
		Schema: PlanSchema, Station: d.Station.ID(), Timezone: d.Location.String(), Store: d.Vault.Describe(),
		MadeAt: now.In(d.Location), MadeBy: d.Person, GoodUntil: now.Add(PlanGoodFor).In(d.Location),
		Policy: d.policyDigest(), Months: d.Months, Clock: d.Station.Clock(),
	}
	if asOf.After(now) {
		preview := asOf.In(d.Location)
		p.AsOf = &preview
	}
	if !asOf.IsZero() {
		now = asOf
	}
	l, err := d.look(ctx, now)
	if err != nil {
		return nil, err
	}
	p.BucketID = l.bucket
	if err := l.all(ctx, p); err != nil {
		return nil, err
	}
	if len(p.Disposable) == 0 {
		return p, nil
	}
	p.ID = "P" + p.MadeAt.Format("20060102") + "-" + strings.ToLower(rand.Text()[:6])
	return p, d.keep(ctx, p)
}

func (d *Desk) policyDigest() string {
	if d.Policy == nil {
		return ""
	}
	return d.Policy.Digest()
}

// keep writes a plan down, first its digest.
func (d *Desk) keep(ctx context.Context, p *Plan) error {
	body, err := p.encode()
	if err != nil {
		return err
	}
	state, kind := journal.PlanOpen, "plan"
	if p.AsOf != nil {
		state, kind = journal.PlanVoid, "preview, it can't be applied"
	}
	if err := d.record(ctx, ledger.Entry{Event: "disposal.planned", Detail: map[string]string{
		"plan": p.ID, "sha256": digest(body), "kind": kind, "good_until": p.GoodUntil.Format(time.RFC3339),
		"sessions": strconv.Itoa(p.Totals.Sessions), "objects": strconv.Itoa(p.Totals.Objects), "bytes": strconv.FormatInt(p.Totals.Bytes, 10),
	}}); err != nil {
		return err
	}
	return d.Journal.SavePlan(ctx, journal.Plan{ID: p.ID, State: state, MadeAt: p.MadeAt, MadeBy: p.MadeBy, Body: body})
}

// encode gives the JSON of a plan. The same plan always gives the same bytes.
func (p *Plan) encode() ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(p); err != nil {
		return nil, fmt.Errorf("encode plan %s: %w", p.ID, err)
	}
	return out.Bytes(), nil
}

func digest(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}
