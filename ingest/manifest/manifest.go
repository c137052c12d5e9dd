// Package manifest writes and reads the two documents that close a session and
// stand beside its footage under the same lock: manifest.json, which accounts
// for every path that was on the recorder, and SHA256SUMS, with which
// `sha256sum -c` checks the fetched files without any software of ours. Where SM3
// (国密) is asked for there is a third, SM3SUMS, for `cksum -a sm3 -c`.
//
// The manifest is put last and so is the commit mark of a session in the bucket:
// whoever has only the bucket can tell from it what was ingested, when, from
// which recorder, and what was not.
package manifest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/storage"
)

// Schema is the version of the format; schema.json describes it. A reader that
// knows version 1 can read all that is called ingestd.manifest/1.
const Schema = "ingestd.manifest/1"

// The names of the documents within a session's folder in the bucket; footage has a
// folder of its own, so no name on a card can meet these. All are signed by the
// station's key, detached, as ssh-keygen -Y does it, in the Namespace.
const (
	FileName     = "manifest.json"
	SumsFileName = "SHA256SUMS"
	SM3FileName  = "SM3SUMS" // only where HasSM3 says so
	SigSuffix    = ".sig"
	FootageDir   = "footage/"
	Namespace    = "ingestd-manifest"
)

// Manifest accounts for one session. The fields here, and of the types that it
// is made of, stand in the order of their keys: encoding/json writes them so, and
// the canonical form has its keys sorted.
type Manifest struct {
	Files    []File   `json:"files"`
	Recorder Recorder `json:"recorder"`
	Schema   string   `json:"schema"`
	Session  Session  `json:"session"`
	Software string   `json:"software"`
	Station  Station  `json:"station"`
	Totals   Totals   `json:"totals"`
	Vault    Vault    `json:"vault"`
}

// Station is where the footage was taken in.
type Station struct {
	// Clock is what the kernel said of the station's clock at the docking.
	Clock *device.StationClock `json:"clock,omitempty"`
	// ClockFellBack is how far the system clock stood behind the latest time
	// that the station had seen, in seconds; 0: it did not.
	ClockFellBack float64 `json:"clock_fell_back_s"`
	ID            string  `json:"id"`
	// Key is the fingerprint of the key that signs this, as ssh-keygen -lf shows it.
	Key  string `json:"key"`
	Name string `json:"name"`
	// StoreClockAhead is the store's clock minus the station's, in seconds.
	StoreClockAhead float64 `json:"store_clock_ahead_s"`
	Timezone        string  `json:"timezone"`
}

// Session is the docking.
type Session struct {
	DockedAt    time.Time `json:"docked_at"`
	ID          string    `json:"id"`
	Result      string    `json:"result"` // sealed, failed
	RetainUntil time.Time `json:"retain_until"`
	// Retention is the rule that RetainUntil is by; absent where the station has no
	// retention file and retention.months of its settings alone counts.
	Retention    *Retention `json:"retention,omitempty"`
	SealedAt     time.Time  `json:"sealed_at"`
	Slot         string     `json:"slot"`
	Verification string     `json:"verification"` // readback, checksum
}

// Retention is the rule that decided how long a session is kept (第十一条).
type Retention struct {
	Months int `json:"months"` // calendar months that were counted
	// Name of the rule in the station's retention file; "default" and "floor" are its
	// default and the statutory minimum, "retention.months" that of the settings.
	Name string `json:"name"`
	// Permanent footage (永久保存) is never disposed of, not even after RetainUntil.
	Permanent bool   `json:"permanent,omitempty"`
	Why       string `json:"why"`
}

// Recorder is what was docked, as far as it is known.
type Recorder struct {
	// Clock is the first reading, before anything was done to the recorder.
	Clock device.ClockReading `json:"clock"`
	// ClockBound is what the footage tells of a clock that can't be asked.
	ClockBound *device.ClockReading `json:"clock_bound,omitempty"`
	ClockDrift *Drift               `json:"clock_drift,omitempty"`
	// ClockNotSet says why a clock was left as it is.
	ClockNotSet  string               `json:"clock_not_set,omitempty"`
	ClockSet     *device.ClockSetting `json:"clock_set,omitempty"`
	ClockVerdict device.ClockVerdict  `json:"clock_verdict"`
	Health       device.Health        `json:"health"`
	Identity     device.Identity      `json:"identity"`
}

// Drift is how fast the recorder's clock goes wrong since an earlier session.
type Drift struct {
	PPM         float64 `json:"ppm"` // microseconds a second, + gains
	Uncertainty float64 `json:"ppm_uncertainty"`
	Since       string  `json:"since_session"`
}

// Vault is where the objects are.
type Vault struct {
	Bucket string `json:"bucket"`
	Prefix string `json:"prefix"`
}

// Totals count the files; directories, links and specials are not among them.
type Totals struct {
	Bytes     int64 `json:"bytes"`
	Files     int   `json:"files"`
	Identical int   `json:"identical"`
	NotStored int   `json:"not_stored"`
	Stored    int   `json:"stored"`
}

// Shortfall says how much is not stored, empty: nothing. It is why a session has failed.
func (t Totals) Shortfall() string {
	if t.NotStored == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d files are not stored", t.NotStored, t.Files)
}

// File is one path of the recorder.
type File struct {
	// IdenticalTo is the session that stored an identical file.
	IdenticalTo string      `json:"identical_to,omitempty"`
	Kind        device.Kind `json:"kind"`
	// ModTime as found, by the recorder's clock; absent: unknown.
	ModTime *time.Time `json:"mod_time,omitempty"`
	Note    string     `json:"note,omitempty"`
	// Object is where the bytes are, in this session or an earlier one.
	Object *Object `json:"object,omitempty"`
	// Path as on the card, with every byte that is not UTF-8 shown as U+FFFD.
	Path string `json:"path"`
	// PathBase64 holds the exact bytes where Path can't.
	PathBase64 string `json:"path_base64,omitempty"`
	Reason     string `json:"reason,omitempty"`
	// Result: verified, identical, noted; unreadable, changed, corrupt.
	Result string `json:"result"`
	// SHA256 of the bytes that the recorder gave, also of a file that the store has
	// spoilt; absent: they were not read to their end, or there are none.
	SHA256 string `json:"sha256,omitempty"`
	Size   int64  `json:"size"`
	// SM3 of the same bytes (GB/T 32905); absent: not asked for, or unknown, which Note
	// says.
	SM3 string `json:"sm3,omitempty"`
}

// Object is one version in the bucket.
type Object struct {
	Checksum     storage.Checksum `json:"checksum"` // computed by the store
	Key          string           `json:"key"`
	RetainUntil  time.Time        `json:"retain_until"`
	StoredAt     time.Time        `json:"stored_at"`
	Verification string           `json:"verification"` // readback, checksum
	VerifiedAt   time.Time        `json:"verified_at"`
	VersionID    string           `json:"version_id"`
}

// SetPath keeps the exact bytes of a path.
func (f *File) SetPath(raw string) {
	f.Path = strings.ToValidUTF8(raw, "\uFFFD")
	if !utf8.ValidString(raw) {
		f.PathBase64 = base64.StdEncoding.EncodeToString([]byte(raw))
	}
}

// Encode gives the canonical form: UTF-8, keys sorted, indented, one newline at
// the end. The same manifest always gives the same bytes.
func (m *Manifest) Encode() ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(m); err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	return out.Bytes(), nil
}

// Decode reads a manifest and refuses one that it does not fully understand.
func Decode(data []byte) (*Manifest, error) {
	var m Manifest
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	if dec.More() {
		return nil, errors.New("read manifest: there is more behind its end")
	}
	if m.Schema != Schema {
		return nil, fmt.Errorf("read manifest: schema %q, this program knows %q", m.Schema, Schema)
	}
	return &m, nil
}

// ResultOf reads only how the session of a manifest has ended: one of many files is
// not unpacked for that.
func ResultOf(data []byte) (result string, t Totals, err error) {
	var m struct {
		Schema  string
		Session struct{ Result string }
		Totals  Totals
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return "", t, fmt.Errorf("read manifest: %w", err)
	}
	if m.Schema != Schema || m.Session.Result == "" {
		return "", t, fmt.Errorf("read manifest: schema %q with result %q, this program knows %q", m.Schema, m.Session.Result, Schema)
	}
	return m.Session.Result, m.Totals, nil
}

// Sums gives SHA256SUMS in the form of GNU coreutils, for the objects below the
// session's own folder, with names relative to it, so that `sha256sum -c` in a
// fetched folder checks all of it, the manifest included.
func (m *Manifest) Sums(manifestSHA256 string) []byte {
	return m.sums(manifestSHA256, func(f File) string { return f.SHA256 })
}

// HasSM3 says whether the SM3 of any file is known, and so whether there is SM3SUMS.
func (m *Manifest) HasSM3() bool {
	return slices.ContainsFunc(m.Files, func(f File) bool { return f.SM3 != "" })
}

// SM3Sums gives SM3SUMS in the form of Sums, for `cksum -a sm3 -c`. Files whose SM3 is
// not known are not in it.
func (m *Manifest) SM3Sums(manifestSM3 string) []byte {
	return m.sums(manifestSM3, func(f File) string { return f.SM3 })
}

func (m *Manifest) sums(ofManifest string, of func(File) string) []byte {
	var out bytes.Buffer
	for _, f := range m.Files {
		if f.Object == nil || of(f) == "" {
			continue
		}
		if name, own := strings.CutPrefix(f.Object.Key, m.Vault.Prefix); own {
			writeSum(&out, of(f), name)
		}
	}
	writeSum(&out, ofManifest, FileName)
	return out.Bytes()
}

// writeSum escapes as coreutils does. Keys never need it, see storage.Namer, but
// a line that could be misread would be worse than one that looks odd.
func writeSum(out *bytes.Buffer, sum, name string) {
	if strings.ContainsAny(name, "\\\n\r") {
		out.WriteByte('\\')
		name = strings.NewReplacer("\\", "\\\\", "\n", "\\n", "\r", "\\r").Replace(name)
	}
	fmt.Fprintf(out, "%s  %s\n", sum, name)
}
