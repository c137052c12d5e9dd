package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/dustin/go-humanize"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/continuity"
	"github.com/bodyworn/ingestd/ingest/journal"
)

// printJSON writes a result for machines.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// sessionJSON is a session for machines.
type sessionJSON struct {
	Schema       string              `json:"schema,omitempty"`
	ID           string              `json:"id"`
	State        string              `json:"state"`
	Recorder     string              `json:"recorder"`
	Officer      string              `json:"officer_id"`
	Slot         string              `json:"slot"`
	Identity     device.Identity     `json:"identity"`
	Clock        device.ClockReading `json:"clock"`
	Health       device.Health       `json:"health"`
	Condition    journal.Condition   `json:"condition"`
	DockedAt     *time.Time          `json:"docked_at"`
	EndedAt      *time.Time          `json:"ended_at"`
	RetainUntil  *time.Time          `json:"retain_until"`
	DisposedAt   *time.Time          `json:"disposed_at"` // null: its footage was not disposed of (到期销毁)
	Verification string              `json:"verification"`
	Reason       string              `json:"reason"`
	Prefix       string              `json:"prefix"`
	ManifestKey  string              `json:"manifest_key"`
	Tags         []string            `json:"tags"`
	Holds        []string            `json:"holds"` // ids of those that are not released
	Files        []fileJSON          `json:"files,omitempty"`
	// Continuity is what its recordings tell of interruptions (记录中断); absent in lists.
	Continuity *continuity.Report `json:"continuity,omitempty"`
	// Scrub is the last proof that the session was read again; absent: never.
	Scrub       *scrubJSON        `json:"scrub,omitempty"`
	Quarantined []quarantinedJSON `json:"quarantined,omitempty"`
}

type scrubJSON struct {
	At       *time.Time `json:"scrubbed_at"`
	Objects  int        `json:"objects"`
	Bytes    int64      `json:"bytes"`
	Findings int        `json:"findings"`
}

// quarantinedJSON is an object that is known to be corrupt.
type quarantinedJSON struct {
	Key       string     `json:"key"`
	VersionID string     `json:"version_id"`
	Reason    string     `json:"reason"`
	At        *time.Time `json:"at"`
}

type fileJSON struct {
	Path        string     `json:"path"`
	Kind        string     `json:"kind"`
	Size        int64      `json:"size"`
	ModTime     *time.Time `json:"mod_time"`
	State       string     `json:"state"`
	Reason      string     `json:"reason,omitempty"`
	Note        string     `json:"note,omitempty"`
	SHA256      string     `json:"sha256,omitempty"`
	Key         string     `json:"key,omitempty"`
	VersionID   string     `json:"version_id,omitempty"`
	RetainUntil *time.Time `json:"retain_until,omitempty"`
	IdenticalTo string     `json:"identical_to,omitempty"`
}

func toJSON(s journal.Session, files []*journal.File, loc *time.Location) sessionJSON {
	j := sessionJSON{
		ID: s.ID, State: string(s.State), Recorder: s.Recorder, Officer: s.Officer, Slot: s.Slot,
		Identity: s.Identity, Clock: s.Clock, Health: s.Health, Condition: s.Condition, Verification: s.Verification, Reason: s.Reason,
		Prefix: s.Prefix, ManifestKey: s.Manifest.Key, Tags: []string{}, Holds: []string{},
		DockedAt: known(s.DockedAt, loc), EndedAt: known(s.EndedAt, loc), RetainUntil: known(s.RetainUntil, loc),
		DisposedAt: known(s.DisposedAt, loc),
	}
	for _, f := range files {
		e := fileJSON{
			Path: strings.ToValidUTF8(f.Entry.Path, "\uFFFD"), Kind: string(f.Entry.Kind), Size: f.Entry.Size,
			ModTime: known(f.Entry.ModTime, loc), State: string(f.State), Reason: f.Reason, Note: f.Entry.Note,
			SHA256: f.SHA256, IdenticalTo: f.Origin,
		}
		if f.Object.VersionID != "" {
			e.Key, e.VersionID, e.RetainUntil = f.Object.Key, f.Object.VersionID, known(f.Object.RetainUntil, loc)
		}
		j.Files = append(j.Files, e)
	}
	return j
}

// known gives null for a time that is not known, never a zero date.
func known(t time.Time, loc *time.Location) *time.Time {
	if t.IsZero() {
		return nil
	}
	local := t.In(loc)
	return &local
}

func when(t time.Time, loc *time.Location) string {
	if t.IsZero() {
		return "-"
	}
	return t.In(loc).Format("2006-01-02 15:04:05")
}

// whenKnown is when for what known gave.
func whenKnown(t *time.Time, loc *time.Location) string {
	if t == nil {
		return "-"
	}
	return when(*t, loc)
}

func size(n int64) string { return humanize.IBytes(uint64(n)) }

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func fact(f device.Fact) string {
	if !f.Known() {
		return "未知 unknown"
	}
	return f.Value + "  (" + f.Source + ")"
}

// shown makes a name from a card fit for a terminal: no control characters, no
// escape sequences, no line breaks.
func shown(path string) string {
	quoted := fmt.Sprintf("%q", path)
	if plain := quoted[1 : len(quoted)-1]; plain != path {
		return quoted
	}
	return path
}

// tame does the same for a sentence, which may quote a name, and keeps its line
// breaks.
func tame(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, text)
}

var headlines = map[ingest.SlotState]string{
	ingest.Safe:          "可以取下 · safe to undock",
	ingest.Failed:        "请勿取下，找管理员 · do NOT undock: not everything is stored",
	ingest.RemovedEarly:  "请插回 · removed too early: dock it again",
	ingest.UnknownDevice: "未登记的记录仪，找管理员 · recorder is not registered",
	ingest.Conflict:      "序号冲突，找管理员 · another recorder with this serial number is docked",
}
