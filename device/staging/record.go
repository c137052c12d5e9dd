package staging

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"time"
	"unicode/utf8"

	"filippo.io/age"

	"github.com/bodyworn/ingestd/device"
)

const (
	recordName   = "copy.json.age"
	recordFormat = "ingestd staged copy 1"
	// recordLimit is some millions of paths; what is larger is not ours.
	recordLimit = 1 << 30
)

// record is the account of one copy: what copy.json.age holds. Every path that
// the recorder showed is in it, in the order of its inventory.
type record struct {
	Format   string              `json:"format"`
	ID       string              `json:"id"`
	Clock    device.ClockReading `json:"clock"`
	DockedAt moment              `json:"docked_at"`
	Health   device.Health       `json:"health"`
	Identity device.Identity     `json:"identity"`
	SealedAt moment              `json:"sealed_at"`
	Slot     string              `json:"slot"`
	Entries  []entry             `json:"entries"`
}

// entry is one path. A file has Blob, unless Err says why it could not be read.
type entry struct {
	Path    text        `json:"path"`
	Kind    device.Kind `json:"kind"`
	Size    int64       `json:"size"`
	ModTime moment      `json:"mod_time"`
	Note    text        `json:"note,omitempty"`
	Err     text        `json:"error,omitempty"`
	Blob    *blob       `json:"blob,omitempty"`
}

// blob says which encrypted file holds the bytes of a path.
type blob struct {
	Name string `json:"name"`
	// SHA256 is that of the plain bytes, as read from the recorder.
	SHA256 string `json:"sha256"`
	// EncryptedBytes is the length of the encrypted file.
	EncryptedBytes int64 `json:"encrypted_bytes"`
	// HeadSHA256 is that of the first headBytes of the encrypted file. They hold
	// the wrapped key and the nonce that all of its chunks depend on, so that a
	// file that was put in the place of another shows at every offset.
	HeadSHA256 string `json:"encrypted_head_sha256"`
}

// text is a string of any bytes. JSON has only Unicode, and what is not becomes
// {"base64": "…"}: a name must come back as the recorder has it.
type text string

// MarshalJSON implements json.Marshaler.
func (t text) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(t)) {
		return json.Marshal(string(t))
	}
	return json.Marshal(map[string]string{"base64": base64.StdEncoding.EncodeToString([]byte(t))})
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *text) UnmarshalJSON(data []byte) error {
	var plain string
	if err := json.Unmarshal(data, &plain); err == nil {
		*t = text(plain)
		return nil
	}
	var coded struct {
		Base64 *string `json:"base64"`
	}
	if err := json.Unmarshal(data, &coded); err != nil {
		return err
	}
	if coded.Base64 == nil {
		return errors.New("a text is neither a string nor has it base64")
	}
	raw, err := base64.StdEncoding.DecodeString(*coded.Base64)
	if err != nil {
		return err
	}
	*t = text(raw)
	return nil
}

// moment is a time that comes back as the same instant with the same offset from
// UTC, also where RFC 3339 can't say it: cards hold years beyond 9999, and zones of
// long ago are off by seconds. The zero time, unknown, is null.
type moment struct{ time.Time }

type rawMoment struct {
	Seconds *int64 `json:"unix_s"`
	Nanos   int64  `json:"ns"`
	Offset  int    `json:"utc_offset_s"`
}

// MarshalJSON implements json.Marshaler.
func (m moment) MarshalJSON() ([]byte, error) {
	if m.IsZero() {
		return []byte("null"), nil
	}
	said := m.Format(time.RFC3339Nano)
	if again, err := time.Parse(time.RFC3339Nano, said); err == nil && again.Equal(m.Time) {
		return json.Marshal(said)
	}
	_, offset := m.Zone()
	seconds := m.Unix()
	return json.Marshal(rawMoment{Seconds: &seconds, Nanos: int64(m.Nanosecond()), Offset: offset})
}

// UnmarshalJSON implements json.Unmarshaler.
func (m *moment) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		m.Time = time.Time{}
		return nil
	}
	var said string
	if err := json.Unmarshal(data, &said); err == nil {
		m.Time, err = time.Parse(time.RFC3339Nano, said)
		return err
	}
	var raw rawMoment
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	if raw.Seconds == nil {
		return errors.New("a time is neither RFC 3339 nor has it unix_s")
	}
	m.Time = time.Unix(*raw.Seconds, raw.Nanos).In(time.FixedZone("", raw.Offset))
	return nil
}

func newEntry(e device.Entry) entry {
	kept := entry{Path: text(e.Path), Kind: e.Kind, Size: e.Size, ModTime: moment{e.ModTime}, Note: text(e.Note)}
	if e.Err != nil {
		kept.Err = reason(e.Err)
	}
	return kept
}

// reason is never empty: an entry without one counts as readable.
func reason(err error) text {
	if said := err.Error(); said != "" {
		return text(said)
	}
	return "it could not be read, and why was not said"
}

// sameAs compares what must come back to the byte.
func (e *entry) sameAs(o *entry) bool {
	return e.Path == o.Path && e.Kind == o.Kind && e.Size == o.Size && e.ModTime.Equal(o.ModTime.Time) &&
		e.Note == o.Note && e.Err == o.Err && (e.Blob == nil) == (o.Blob == nil) && (e.Blob == nil || *e.Blob == *o.Blob)
}

// entry is the path as the recorder showed it, with the number of the entry as
// handle. That is what tells two entries of one path apart.
func (e *entry) entry(number int) device.Entry {
	shown := device.Entry{
		Path: string(e.Path), Kind: e.Kind, Size: e.Size, ModTime: e.ModTime.Time,
		Note: string(e.Note), Handle: handle(number),
	}
	if e.Err != "" {
		shown.Err = errors.New(string(e.Err))
	}
	return shown
}

// readRecord reads the account of a sealed copy. Its errors are ErrWrongKey,
// ErrDamaged, fs.ErrNotExist for a copy that was removed, or those of the disk.
func (d *Dir) readRecord(id string) (*record, error) {
	data, err := d.decryptRecord(id)
	if err != nil {
		return nil, fmt.Errorf("read record of staged copy %s: %w", id, err)
	}
	rec, err := parseRecord(data)
	if err == nil && rec.ID != id {
		err = fmt.Errorf("it is that of copy %q", rec.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("read record of staged copy %s: %w: %w", id, ErrDamaged, err)
	}
	return rec, nil
}

func (d *Dir) decryptRecord(folder string) ([]byte, error) {
	if _, err := d.root.Lstat(folder); err != nil {
		return nil, err // it was removed
	}
	f, err := d.root.Open(folder + "/" + recordName)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read from
	plain, err := age.Decrypt(f, d.key.all()...)
	if isWrongKey(err) {
		return nil, fmt.Errorf("%w: %w", ErrWrongKey, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	data, err := io.ReadAll(io.LimitReader(plain, recordLimit+1))
	if err == nil && len(data) > recordLimit {
		err = errors.New("it is too large for a record")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return data, nil
}

var blobName = regexp.MustCompile(`^\d{6,12}\.age$`)

// parseRecord accepts nothing that could make a copy seem complete that is not, or
// name a file outside of it.
func parseRecord(data []byte) (*record, error) {
	rec := &record{}
	decoder := json.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(rec); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more follows behind the record")
	}
	if rec.Format != recordFormat {
		return nil, fmt.Errorf("its format is %q, this program reads %q", rec.Format, recordFormat)
	}
	for i := range rec.Entries {
		if err := rec.Entries[i].check(); err != nil {
			return nil, fmt.Errorf("entry %d: %w", i, err)
		}
	}
	return rec, nil
}

func (e *entry) check() error {
	switch e.Kind {
	case device.KindFile, device.KindDir, device.KindLink, device.KindSpecial:
	default:
		return fmt.Errorf("%q is no kind of path", e.Kind)
	}
	switch {
	case e.Blob == nil && e.Kind == device.KindFile && e.Err == "":
		return errors.New("it is a file without bytes and without a reason")
	case e.Blob == nil:
		return nil
	case e.Kind != device.KindFile || e.Err != "":
		return errors.New("it has bytes and is no readable file")
	case e.Size < 0:
		return fmt.Errorf("it has %d bytes", e.Size)
	case !blobName.MatchString(e.Blob.Name):
		return fmt.Errorf("%q is no name of an encrypted file", e.Blob.Name)
	case !isSHA256(e.Blob.SHA256) || !isSHA256(e.Blob.HeadSHA256):
		return errors.New("a digest is no SHA-256")
	}
	return nil
}

func isSHA256(s string) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && len(raw) == 32
}
