package ledger

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Schema is the version of an entry.
const Schema = "ingestd.ledger/1"

// MaxLine is the length that a line may have, in bytes without its newline. An
// entry about more objects than fit names the digest of a list instead.
const MaxLine = 1 << 20

// Entry is one thing that happened. The fields stand in the order of their
// keys: encoding/json writes them so, and the canonical form has its keys sorted.
// Persons are kept to their ids.
type Entry struct {
	// Actor is who did it: "station", "uid 0 (root)".
	Actor string `json:"actor"`
	// Clock tells the state of the station's clock in words; empty: unknown.
	Clock  string            `json:"clock,omitempty"`
	Detail map[string]string `json:"detail,omitempty"`
	// Event is a stable name such as session.sealed, of a-z, 0-9, '.', '_', '-'.
	Event    string   `json:"event"`
	Objects  []Object `json:"objects,omitempty"`
	Officer  string   `json:"officer,omitempty"`
	Reason   string   `json:"reason,omitempty"`
	Recorder string   `json:"recorder,omitempty"`
	// Schema is the constant of that name; empty in what is appended: filled in.
	Schema  string `json:"schema"`
	Session string `json:"session,omitempty"`
	Station string `json:"station"`
	// Time is the station's, with the offset that the caller gave it (RFC 3339).
	Time time.Time `json:"time"`
}

// Object is one version in the bucket that an entry is about.
type Object struct {
	Key string `json:"key"`
	// SHA256 is in lower-case hex; empty: unknown.
	SHA256  string `json:"sha256,omitempty"`
	Version string `json:"version,omitempty"`
}

// Encode gives the canonical line, without a newline at its end: UTF-8, keys
// sorted, nothing optional that is empty, no HTML escapes. The same entry always
// gives the same bytes. It refuses what could not be read back as it was given.
func (e Entry) Encode() ([]byte, error) {
	if e.Schema == "" {
		e.Schema = Schema
	}
	if err := e.check(); err != nil {
		return nil, fmt.Errorf("ledger entry %q: %w", e.Event, err)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return nil, fmt.Errorf("ledger entry %q: %w", e.Event, err)
	}
	line := bytes.TrimSuffix(out.Bytes(), []byte("\n"))
	if len(line) > MaxLine {
		return nil, fmt.Errorf("ledger entry %q with %d objects has %d bytes, %d are allowed: give the digest of a list instead",
			e.Event, len(e.Objects), len(line), MaxLine)
	}
	return line, nil
}

// ParseLine reads a line, without its newline. It refuses every form but the
// canonical one: unknown, doubled or disordered keys, spaces, other escapes.
func ParseLine(line []byte) (Entry, error) {
	if len(line) > MaxLine {
		return Entry{}, fmt.Errorf("ledger line has %d bytes, %d are allowed", len(line), MaxLine)
	}
	var e Entry
	if err := json.Unmarshal(line, &e); err != nil {
		return Entry{}, fmt.Errorf("ledger line: %w", err)
	}
	if e.Schema != Schema {
		return Entry{}, fmt.Errorf("ledger line: schema %q, this program knows %q", e.Schema, Schema)
	}
	again, err := e.Encode()
	if err != nil {
		return Entry{}, err
	}
	if !bytes.Equal(again, line) {
		return Entry{}, errors.New("ledger line is not in canonical form")
	}
	return e, nil
}

func (e Entry) check() error {
	if e.Schema != Schema {
		return fmt.Errorf("schema %q, this program writes %q", e.Schema, Schema)
	}
	if e.Actor == "" || e.Station == "" || e.Event == "" {
		return errors.New("actor, station and event must be given")
	}
	if i := strings.IndexFunc(e.Event, notOfEvent); i >= 0 {
		return fmt.Errorf("event holds %q; allowed are a-z, 0-9, '.', '_', '-'", e.Event[i:i+1])
	}
	if err := checkTime(e.Time); err != nil {
		return err
	}
	for _, o := range e.Objects {
		if o.Key == "" {
			return errors.New("an object has no key")
		}
		if raw, err := hex.DecodeString(o.SHA256); err != nil || (o.SHA256 != "" && len(raw) != 32) || strings.ToLower(o.SHA256) != o.SHA256 {
			return fmt.Errorf("object %q: SHA-256 %q is not 64 lower-case hex digits", o.Key, o.SHA256)
		}
	}
	// encoding/json would put U+FFFD in place of what is not UTF-8: the entry
	// would tell of another name than the caller meant.
	for _, s := range e.texts() {
		if !utf8.ValidString(s) {
			return fmt.Errorf("%q is not valid UTF-8: encode it (hex, base64) and say so in its name", s)
		}
	}
	return nil
}

func (e Entry) texts() []string {
	all := []string{e.Actor, e.Clock, e.Event, e.Officer, e.Reason, e.Recorder, e.Session, e.Station}
	for _, o := range e.Objects {
		all = append(all, o.Key, o.Version)
	}
	for k, v := range e.Detail {
		all = append(all, k, v)
	}
	return all
}

// checkTime refuses what RFC 3339 can't hold: it would be rounded unseen.
func checkTime(t time.Time) error {
	if t.IsZero() {
		return errors.New("the time is not given")
	}
	if _, offset := t.Zone(); offset%60 != 0 {
		return fmt.Errorf("time %v: RFC 3339 has no seconds in its offset", t)
	}
	return nil
}

func notOfEvent(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '.' && r != '_' && r != '-'
}
