// Package fetched checks sessions that any S3 client has fetched into a folder, where
// no station, journal, store or network is at hand: at the desk of whoever is to
// believe the footage. It stands at the end of the flow, behind the store.
//
// It trusts the keys that are given to it and never one that lies in the folder. What
// the folder alone can't show is listed as not checked, never passed over. It writes
// nothing, follows no symbolic link, and reads each file once.
package fetched

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/manifest"
	"github.com/bodyworn/ingestd/storage/stationkey"
)

// What is found here besides [ingest.Missing], [ingest.Mismatch], [ingest.Extra] and
// [ingest.Unsigned]. The strings are stable.
const (
	Renamed    ingest.Problem = "renamed"    // its bytes are here under another name
	Duplicate  ingest.Problem = "duplicate"  // it is listed twice
	Damaged    ingest.Problem = "damaged"    // a document is cut, empty or in another form
	Disagree   ingest.Problem = "disagree"   // the documents contradict one another
	Foreign    ingest.Problem = "foreign"    // the documents are another session's
	Special    ingest.Problem = "special"    // a link or special file, which no fetching makes
	Unreadable ingest.Problem = "unreadable" // the disc or folder does not give it
	Ledger     ingest.Problem = "ledger"     // the ledger does not bear it out
)

// What is listed as not checked, since the folder alone can't show it.
const (
	SignerUnknown ingest.Problem = "signer"    // nobody said whose key is to be trusted
	Elsewhere     ingest.Problem = "elsewhere" // the bytes lie in a session that is not here
	LedgerUnread  ingest.Problem = "ledger"    // the ledger was given, but no key to believe it by
)

// Finding is one thing that is not as it must be, or that could not be checked.
type Finding struct {
	// Session is its id; empty: of no session, or of one that does not say which.
	Session string         `json:"session"`
	Problem ingest.Problem `json:"problem"`
	// Path is relative to the folder that was checked; of what lies elsewhere, the key.
	Path   string `json:"path"`
	Detail string `json:"detail"`
}

// NotStored is a file that was on the recorder and is in no object: the manifest says so.
type NotStored struct {
	Path   string `json:"path"` // on the recorder
	Result string `json:"result"`
	Reason string `json:"reason"`
}

// Session is one session as its manifest tells of it; without a manifest that can be
// read only Path is known.
type Session struct {
	Path     string     `json:"path"` // relative to the folder that was checked
	ID       string     `json:"id"`
	Station  string     `json:"station"`
	Recorder string     `json:"recorder"` // empty: unknown
	Result   string     `json:"result"`
	DockedAt *time.Time `json:"docked_at"`
	// RetainUntil is what the manifest says. The lock itself is the store's to show.
	RetainUntil *time.Time `json:"retain_until"`
	// ManifestSHA256 is what the ledger has of this session, in hex.
	ManifestSHA256 string `json:"manifest_sha256"`
	// SignedBy is the fingerprint of the trusted key that signed both documents, or empty.
	SignedBy string `json:"signed_by"`
	// NamedByFolder says that the folder's name claims the id, too. Where it does not,
	// only the manifest says which session this is.
	NamedByFolder bool `json:"named_by_folder"`
	// Files that were listed and are here unchanged, and those in other sessions.
	Files     int         `json:"files"`
	Elsewhere int         `json:"elsewhere"`
	NotStored []NotStored `json:"not_stored"`
	// LedgerLine is the index of the line that tells of this manifest; null: not looked
	// for, or not there.
	LedgerLine *int64 `json:"ledger_line"`
}

// Report is what was seen.
type Report struct {
	Sessions []*Session `json:"sessions"`
	Files    int        `json:"files"` // that were read, documents included
	Bytes    int64      `json:"bytes"`
	Findings []Finding  `json:"findings"`
	// NotChecked is unknown: neither right nor wrong.
	NotChecked []Finding `json:"not_checked"`
	// Quarantined are spoilt objects that the manifests tell of; they are no finding.
	Quarantined []Finding `json:"quarantined"`
	// Ledger is what the given ledger was found to be; nil: none was given, or no key.
	Ledger *LedgerReport `json:"ledger"`
}

// Whole says that everything was checked and nothing found.
func (r *Report) Whole() bool { return len(r.Findings) == 0 && len(r.NotChecked) == 0 }

// Options are what the checker knows from elsewhere than the folder.
type Options struct {
	// Ring has the keys that are trusted; nil: nobody said which.
	Ring *stationkey.Ring
	// SignedAt is when the signatures were made, from what the holder of the key can't
	// set, such as the store; zero: now, as ssh-keygen takes it.
	SignedAt time.Time
	// Ledger is the folder with what the bucket has below STATION/ledger; empty: none.
	Ledger string
	// Checkpoints are signed checkpoints that were kept elsewhere, on paper or a disc.
	Checkpoints [][]byte
	// Progress is called while files are read, with bytes; it may be nil.
	Progress func(done, total int64)
}

// ErrNoSession says that a folder holds none; it is an [fs.ErrNotExist], too.
var ErrNoSession = fmt.Errorf("there is no session in it (a folder with %s, %s or %s): %w",
	manifest.FileName, manifest.SumsFileName, manifest.FootageDir, fs.ErrNotExist)

// Check checks a folder that is one session, or has sessions below it as the bucket
// does: STATION/DATE/SESSION. Files that lie right in a folder of sessions are the
// checker's own and are left alone, and so are STATION/keys and STATION/ledger.
//
// The error is for a folder that can't be checked; what is wrong with what is in it is
// in the report.
func Check(ctx context.Context, dir string, o Options) (_ *Report, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	if o.SignedAt.IsZero() {
		o.SignedAt = time.Now()
	}
	c := &checker{Options: o, dir: dir, root: root, report: &Report{Sessions: []*Session{}, Findings: []Finding{}, NotChecked: []Finding{}, Quarantined: []Finding{}}}
	if err := c.find(".", nil); err != nil {
		return nil, fmt.Errorf("look through %s: %w", dir, err)
	}
	if len(c.sessions) == 0 {
		return nil, fmt.Errorf("%s: %w", dir, ErrNoSession)
	}
	if err := c.read(ctx); err != nil {
		return nil, err
	}
	for _, s := range c.sessions {
		c.report.Sessions = append(c.report.Sessions, &s.Session)
		c.session(s)
	}
	for _, s := range c.sessions {
		c.elsewhere(s)
	}
	if o.Ledger != "" {
		err = c.ledger(ctx)
	}
	return c.report, err
}

func (c *checker) finding(s *session, p ingest.Problem, path, format string, args ...any) {
	c.report.Findings = append(c.report.Findings, s.note(p, path, format, args...))
}

func (c *checker) unchecked(s *session, p ingest.Problem, path, format string, args ...any) {
	c.report.NotChecked = append(c.report.NotChecked, s.note(p, path, format, args...))
}

// note is about a file of a session; s is nil where it is of none.
func (s *session) note(p ingest.Problem, path, format string, args ...any) Finding {
	id := ""
	if s != nil {
		id = s.ID
	}
	return Finding{id, p, path, fmt.Sprintf(format, args...)}
}
