package console

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/bodyworn/ingestd/ingest/journal"
)

// apiPages are the same as the pages, for programs with a login. Times are RFC 3339 in
// the station's time zone; null is unknown. Errors are RFC 9457.
func (c *Console) apiPages() []Page {
	query := []string{"officer", "recorder", "day", "state", "after"}
	return []Page{
		{Route: "GET /api/v1/sessions", Name: "api-sessions", Roles: ofFootage, Query: query, Serve: c.apiSessions},
		{Route: "GET /api/v1/sessions/{session}", Name: "api-session", Roles: ofFootage, Serve: c.apiSession},
	}
}

type apiSession struct {
	Schema       string     `json:"schema,omitempty"`
	ID           string     `json:"id"`
	State        string     `json:"state"`
	Recorder     string     `json:"recorder"`
	Officer      string     `json:"officer_id"`
	Slot         string     `json:"slot"`
	DockedAt     *time.Time `json:"docked_at"`
	EndedAt      *time.Time `json:"ended_at"`
	RetainUntil  *time.Time `json:"retain_until"`
	DisposedAt   *time.Time `json:"disposed_at"`
	Permanent    bool       `json:"permanent"`
	Verification string     `json:"verification"`
	Reason       string     `json:"reason"`
	ManifestKey  string     `json:"manifest_key"`
	ManifestSum  string     `json:"manifest_sha256"`
	FileCount    *int       `json:"file_count,omitempty"` // in a list
	Bytes        *int64     `json:"bytes,omitempty"`
	Files        []apiFile  `json:"files,omitempty"` // of one
}

type apiFile struct {
	Path   string `json:"path"` // what is not UTF-8 of it is U+FFFD; the manifest has the bytes
	Kind   string `json:"kind"`
	Bytes  int64  `json:"bytes"`
	State  string `json:"state"`
	Reason string `json:"reason"`
	SHA256 string `json:"sha256"`
}

func (v *Visit) apiSessionOf(s journal.Session) apiSession {
	at := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		t = t.In(v.location)
		return &t
	}
	return apiSession{
		ID: s.ID, State: string(s.State), Recorder: s.Recorder, Officer: s.Officer, Slot: s.Slot, DockedAt: at(s.DockedAt), EndedAt: at(s.EndedAt),
		RetainUntil: at(s.RetainUntil), DisposedAt: at(s.DisposedAt), Permanent: s.Permanent, Verification: s.Verification, Reason: s.Reason,
		ManifestKey: s.Manifest.Key, ManifestSum: s.Manifest.SHA256,
	}
}

func (c *Console) apiSessions(v *Visit) error {
	q, wrong := v.sessionQuery()
	if wrong != "" {
		return Problem{Status: http.StatusUnprocessableEntity, Code: "bad_request", Detail: v.T(wrong)}
	}
	rows, more, err := c.Journal.Find(v.Context(), q)
	if err != nil {
		return err
	}
	items, next := []apiSession{}, ""
	for _, r := range rows {
		s := v.apiSessionOf(r.Session)
		s.FileCount, s.Bytes = &r.Files, &r.Bytes
		items = append(items, s)
	}
	if more {
		last := rows[len(rows)-1]
		next = journal.Place{DockedAt: last.DockedAt, ID: last.ID}.String()
	}
	return v.ShowJSON(map[string]any{"schema": "ingestd.console.sessions/1", "items": items, "next": next})
}

func (c *Console) apiSession(v *Visit) error {
	files, err := c.Journal.Files(v.Context(), v.Session.ID)
	if err != nil {
		return err
	}
	s := v.apiSessionOf(v.Session)
	s.Schema = "ingestd.console.session/1"
	for _, f := range files {
		s.Files = append(s.Files, apiFile{strings.ToValidUTF8(f.Entry.Path, "\uFFFD"), string(f.Entry.Kind), f.Entry.Size, string(f.State), f.Reason, f.SHA256})
	}
	return v.ShowJSON(s)
}

// ShowJSON answers a program.
func (v *Visit) ShowJSON(data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	v.w.Header().Set("Content-Type", "application/json")
	_, err = v.w.Write(text)
	return err
}
