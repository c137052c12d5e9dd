package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage/ledger"
)

// account is what the ledger of a station tells that no manifest has.
type account struct {
	lines     int64
	newest    time.Time
	sessions  map[string]*told
	recorders map[string]journal.Recorder // the register (台账)
	holds     map[string]*hold
}

// told is the same of one session.
type told struct {
	manifests   []ledger.Object // that the session was sealed with
	officer     string
	reason      string
	preUse      *device.PreUseCheckup
	scrubs      []journal.Scrub
	quarantined []journal.Quarantined
	tags        map[string]journal.Tag
	until       time.Time // the latest that its lock was lengthened to
	permanent   bool
	disposed    time.Time
}

func newAccount() *account {
	return &account{sessions: map[string]*told{}, recorders: map[string]journal.Recorder{}, holds: map[string]*hold{}}
}

// of gives what is told of a session; it may be nothing. It only reads.
func (a *account) of(session string) *told {
	if t := a.sessions[session]; t != nil {
		return t
	}
	return &told{}
}

// replay has the effect of one event. Events that are not among the replays say nothing
// that a journal keeps.
type replay func(a *account, e ledger.Entry) error

var replays = map[string]replay{
	"session.sealed":      ofSession(sealed),
	"session.failed":      ofSession(sealed),
	"preuse.checked":      ofSession(preUseChecked),
	"session.scrubbed":    ofSession(scrubbed),
	"object.quarantined":  ofSession(quarantined),
	"tag.added":           ofSession(tagAdded),
	"tag.removed":         ofSession(tagRemoved),
	"retention.extended":  ofSession(extended),
	"disposal.session":    ofSession(disposed),
	"recorder.registered": registered,
	"recorder.removed":    removed,
	"hold.added":          holdAdded,
	"hold.released":       holdReleased,
}

// take takes in the next line. What a line that can't be understood says is left out.
func (a *account) take(e ledger.Entry) error {
	a.lines++
	if e.Time.After(a.newest) {
		a.newest = e.Time
	}
	if do := replays[e.Event]; do != nil {
		return do(a, e)
	}
	return nil
}

func ofSession(do func(t *told, e ledger.Entry) error) replay {
	return func(a *account, e ledger.Entry) error {
		if e.Session == "" {
			return errors.New("it names no session")
		}
		if a.sessions[e.Session] == nil {
			a.sessions[e.Session] = &told{tags: map[string]journal.Tag{}}
		}
		return do(a.sessions[e.Session], e)
	}
}

func sealed(t *told, e ledger.Entry) error {
	if len(e.Objects) != 1 || e.Objects[0].SHA256 == "" {
		return errors.New("it does not name its manifest")
	}
	// After a crash it may be told twice, of the same manifest.
	t.manifests = append(t.manifests, e.Objects[0])
	t.officer, t.reason = e.Officer, e.Reason
	return nil
}

func preUseChecked(t *told, e ledger.Entry) error {
	var p device.PreUseCheckup
	if err := json.Unmarshal([]byte(e.Detail["preuse"]), &p); err != nil {
		return fmt.Errorf("the check before use: %w", err)
	}
	t.preUse = &p
	return nil
}

func scrubbed(t *told, e ledger.Entry) error {
	objects, err1 := strconv.Atoi(e.Detail["objects"])
	bytes, err2 := strconv.ParseInt(e.Detail["bytes"], 10, 64)
	findings, err3 := strconv.Atoi(e.Detail["findings"])
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	t.scrubs = append(t.scrubs, journal.Scrub{Session: e.Session, At: e.Time, Objects: objects, Bytes: bytes, Findings: findings})
	return nil
}

func quarantined(t *told, e ledger.Entry) error {
	for _, o := range e.Objects {
		t.quarantined = append(t.quarantined, journal.Quarantined{Key: o.Key, Version: o.Version, Session: e.Session, Reason: e.Reason, At: e.Time})
	}
	return nil
}

func tagAdded(t *told, e ledger.Entry) error {
	tag := e.Detail["tag"]
	if tag == "" {
		return errors.New("it names no tag")
	}
	if _, ok := t.tags[tag]; !ok { // the first one counts, as in the journal
		t.tags[tag] = journal.Tag{Session: e.Session, Tag: tag, AddedAt: e.Time, AddedBy: e.Actor}
	}
	return nil
}

func tagRemoved(t *told, e ledger.Entry) error {
	delete(t.tags, e.Detail["tag"])
	return nil
}

func extended(t *told, e ledger.Entry) error {
	to, err := time.Parse(time.RFC3339, e.Detail["to"])
	if err != nil {
		return err
	}
	if to.After(t.until) {
		t.until = to
	}
	t.permanent = t.permanent || e.Detail["permanent"] == "true"
	return nil
}

func disposed(t *told, e ledger.Entry) error {
	if t.disposed.IsZero() {
		t.disposed = e.Time
	}
	return nil
}

func registered(a *account, e ledger.Entry) error {
	if e.Recorder == "" {
		return errors.New("it names no recorder")
	}
	r := journal.Recorder{Serial: e.Recorder, Officer: e.Detail["officer"], Unit: e.Detail["unit"], Profile: e.Detail["profile"], AddedAt: e.Time}
	if had, ok := a.recorders[r.Serial]; ok {
		r.AddedAt = had.AddedAt
	}
	a.recorders[r.Serial] = r
	return nil
}

func removed(a *account, e ledger.Entry) error {
	delete(a.recorders, e.Recorder)
	return nil
}
