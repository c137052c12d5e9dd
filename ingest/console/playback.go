package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/ledger"
)

// Footage is where stored files are read, by exact version. storage.Vault is one.
type Footage interface {
	FetchFrom(ctx context.Context, key, version string, offset int64) (io.ReadCloser, error)
}

// playbackPages show one file of a session, and give its bytes (第十二条).
func (c *Console) playbackPages() []Page {
	return []Page{
		{Route: "GET /admin/sessions/{session}/files/{file}", Name: "file", Roles: ofFootage, Serve: c.filePage},
		// The line of the ledger is its own: not one for each piece that a player asks for.
		{Route: "GET /admin/sessions/{session}/files/{file}/content", Name: "content", Roles: ofFootage, Unseen: true, Serve: c.fileContent},
	}
}

// playable are the types that browsers are asked to show. Anything else is given as a
// file to keep: nothing of a card is ever taken for a page.
var playable = map[string]string{
	".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm",
	".mp3": "audio/mpeg", ".m4a": "audio/mp4", ".aac": "audio/aac", ".wav": "audio/wav", ".flac": "audio/flac", ".ogg": "audio/ogg",
	".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp",
}

// fileScreen is one file.
type fileScreen struct {
	*journal.File
	Name string
	// Kind is video, audio or image; empty: browsers can't show it.
	Kind         string
	Content      string // address of the bytes; empty: they can't be had
	Gone         string // why not, as a message
	SM3          string
	Before, Next *journal.File // the files around it that are stored; nil: none
}

func (c *Console) filePage(v *Visit) error {
	f, err := v.file()
	if err != nil {
		return err
	}
	files, err := c.Journal.Files(v.Context(), v.Session.ID)
	if err != nil {
		return err
	}
	s := fileScreen{File: f, Name: path.Base(f.Entry.Path), Gone: v.notToBeHad(f)}
	if s.Gone == "" {
		s.Kind, _, _ = strings.Cut(playable[strings.ToLower(path.Ext(f.Entry.Path))], "/")
		s.Content = v.r.URL.Path + "/content"
	}
	sums, err := c.Journal.SM3s(v.Context(), v.Session.ID)
	if err != nil {
		return err
	}
	s.SM3 = sums[f.SHA256]
	passed := false
	for _, other := range files {
		switch {
		case other.ID == f.ID:
			passed = true
		case !other.State.Good() || other.Entry.Kind != device.KindFile:
		case !passed:
			s.Before = other
		case s.Next == nil:
			s.Next = other
		}
	}
	return v.Show("file.html", s)
}

// file is that of the path. A player asks for it again and again, so that its session's
// other files are not read.
func (v *Visit) file() (*journal.File, error) {
	id, err := strconv.ParseInt(v.r.PathValue("file"), 10, 64)
	if err != nil {
		return nil, Problem{Status: http.StatusNotFound, Code: "not_found"}
	}
	f, err := v.c.Journal.File(v.Context(), v.Session.ID, id)
	if err == nil && f.Entry.Kind != device.KindFile {
		return nil, Problem{Status: http.StatusNotFound, Code: "not_found"}
	}
	return f, err
}

// notToBeHad tells why a file can't be played, by the name of a message; "": it can.
func (v *Visit) notToBeHad(f *journal.File) string {
	switch {
	case !v.Session.DisposedAt.IsZero():
		return "file.disposed"
	case !f.State.Good() || f.Object.Key == "":
		return "file.not_stored"
	case v.c.Footage == nil:
		return "file.no_store"
	}
	return ""
}

// watchedFor is how long further requests for the same file are part of one viewing,
// which the ledger has one line of: a player asks for a file in many pieces.
const watchedFor = 10 * time.Minute

// viewing is what one login does with one file.
type viewing struct {
	login string
	file  int64
	save  bool
}

// recordViewing writes a viewing to the ledger before a byte of it is served.
func (v *Visit) recordViewing(f *journal.File, save bool) error {
	what := viewing{v.c.sessions.Token(v.Context()), f.ID, save}
	c := v.c
	c.watching.Lock()
	defer c.watching.Unlock()
	now := time.Now()
	for w, since := range c.watched {
		if now.Sub(since) > watchedFor {
			delete(c.watched, w)
		}
	}
	if _, going := c.watched[what]; going {
		return nil
	}
	detail := map[string]string{"path": strings.ToValidUTF8(f.Entry.Path, "\uFFFD"), "address": v.Address, "how": "played"}
	if save {
		detail["how"] = "saved"
	}
	if err := v.Record(ledger.Entry{
		Event: "view.file", Detail: detail, Objects: []ledger.Object{{Key: f.Object.Key, Version: f.Object.VersionID, SHA256: f.SHA256}},
	}); err != nil {
		return err
	}
	c.watched[what] = now
	return nil
}

// fileContent gives the bytes, or the piece of them that is asked for (RFC 9110 §14).
func (c *Console) fileContent(v *Visit) error {
	f, err := v.file()
	if err != nil {
		return err
	}
	if why := v.notToBeHad(f); why != "" {
		return Problem{Status: http.StatusGone, Code: "file_gone", Detail: v.T(why)}
	}
	kind := playable[strings.ToLower(path.Ext(f.Entry.Path))]
	save := v.r.URL.Query().Get("save") != "" || kind == ""
	if err := v.recordViewing(f, save); err != nil {
		return err
	}
	h := v.w.Header()
	if save {
		kind = "application/octet-stream"
		h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": v.Shown(path.Base(f.Entry.Path))}))
	}
	h.Set("Content-Type", kind)
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox; frame-ancestors 'self'")
	h.Set("ETag", `"`+f.SHA256+`"`)
	body := &stored{ctx: v.Context(), footage: c.Footage, file: f, answer: http.NewResponseController(v.w)}
	defer body.close()
	// The time of the file is by the recorder's clock, which is no time to cache by.
	http.ServeContent(v.w, v.r, "", time.Time{}, body)
	if body.err != nil && !ctxDone(v.Context(), body.err) {
		c.tell(problemOf(body.err))
	}
	return nil
}

// stored reads an object in the store, from wherever it is asked to.
type stored struct {
	ctx     context.Context
	footage Footage
	file    *journal.File
	answer  *http.ResponseController
	at      int64
	body    io.ReadCloser // open at at; nil: not open
	err     error         // what went wrong in the middle of an answer
}

func (s *stored) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += s.at
	case io.SeekEnd:
		offset += s.file.Entry.Size
	}
	if offset < 0 {
		return 0, errors.New("before the beginning of the file")
	}
	if offset != s.at {
		s.close()
	}
	s.at = offset
	return offset, nil
}

func (s *stored) Read(p []byte) (n int, err error) {
	if s.at >= s.file.Entry.Size {
		return 0, io.EOF
	}
	// Whoever takes this piece in time gets the next one.
	if err := s.answer.SetWriteDeadline(time.Now().Add(answerWithin)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	if s.body == nil {
		if s.body, s.err = s.footage.FetchFrom(s.ctx, s.file.Object.Key, s.file.Object.VersionID, s.at); s.err != nil {
			return 0, s.err
		}
	}
	n, err = s.body.Read(p)
	s.at += int64(n)
	ended := errors.Is(err, io.EOF)
	if ended && s.at < s.file.Entry.Size {
		err = fmt.Errorf("the store gives %d of the %d bytes of %s: %w", s.at, s.file.Entry.Size, s.file.Object.Key, io.ErrUnexpectedEOF)
	}
	if err != nil && (!ended || s.at < s.file.Entry.Size) {
		s.err = err
	}
	return n, err
}

func (s *stored) close() {
	if s.body != nil {
		_ = s.body.Close() // only read from
		s.body = nil
	}
}

var _ Footage = (*storage.Vault)(nil)
