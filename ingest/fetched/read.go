package fetched

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/manifest"
)

// maxDocument bounds what is kept in memory of one document: the manifest of a card
// with 100,000 files has some 70 MB.
const maxDocument = 256 << 20

// documents are the files of a session beside its footage, by name. The last two are
// there only if its manifest has SM3 digests.
var documents = []string{
	manifest.FileName, manifest.FileName + manifest.SigSuffix,
	manifest.SumsFileName, manifest.SumsFileName + manifest.SigSuffix,
	manifest.SM3FileName, manifest.SM3FileName + manifest.SigSuffix,
}

// always is how many of the documents every session has.
const always = 4

type checker struct {
	Options
	dir      string
	root     *os.Root
	report   *Report
	sessions []*session
	total    int64 // bytes of all files that are to be read
}

// session is a folder of one session and what was read in it.
type session struct {
	Session
	files map[string]*file  // by name below the session's folder
	docs  map[string][]byte // those of documents that could be read
	// of is the manifest, nil where it can't be read.
	of *manifest.Manifest
	// foreign says that it is not of the session that the folder is named for.
	foreign bool
}

type file struct {
	size   int64
	sha256 string // in hex; empty: it could not be read, which was told
}

// find notes every session below a folder and every file in one. What no fetching can
// have made is told.
func (c *checker) find(dir string, s *session) error {
	entries, err := fs.ReadDir(c.root.FS(), dir)
	if err != nil {
		return err
	}
	if s == nil && slices.ContainsFunc(entries, isOfSession) {
		s = &session{Session: Session{Path: dir, NotStored: []NotStored{}}, files: map[string]*file{}, docs: map[string][]byte{}}
		c.sessions = append(c.sessions, s)
	}
	for _, e := range entries {
		at := path.Join(dir, e.Name())
		switch {
		case e.IsDir():
			if err := c.find(at, s); err != nil {
				return err
			}
		case !e.Type().IsRegular():
			c.finding(s, Special, at, "it is %s; it was not opened", kindOf(e.Type()))
		case s != nil:
			info, err := e.Info()
			if err != nil {
				return err
			}
			s.files[s.name(at)] = &file{size: info.Size()}
			c.total += info.Size()
		case dir != "." && !isBeside(dir):
			c.finding(nil, ingest.Extra, at, "it lies in no session")
		}
	}
	return nil
}

func isOfSession(e fs.DirEntry) bool {
	if e.IsDir() {
		return e.Name()+"/" == manifest.FootageDir
	}
	return slices.Contains(documents, e.Name())
}

// isBeside says that a station's ledger or keys lie here. A station may have such a name,
// too, so sessions are looked for there as anywhere.
func isBeside(dir string) bool {
	return slices.ContainsFunc(strings.Split(dir, "/"), func(name string) bool { return name == "ledger" || name == "keys" })
}

func kindOf(mode fs.FileMode) string {
	if mode&fs.ModeSymlink != 0 {
		return "a symbolic link"
	}
	return "no file (" + mode.String() + ")"
}

// name is a path relative to the session's folder, path the way back.
func (s *session) name(at string) string {
	if s.Path == "." {
		return at
	}
	return at[len(s.Path)+1:]
}

func (s *session) path(name string) string { return path.Join(s.Path, name) }

// read reads every file of every session, once.
func (c *checker) read(ctx context.Context) error {
	buf := make([]byte, 1<<20)
	for _, s := range c.sessions {
		for _, name := range sorted(s.files) {
			f := s.files[name]
			var kept *bytes.Buffer
			if slices.Contains(documents, name) {
				kept = &bytes.Buffer{}
				if f.size > maxDocument {
					c.finding(s, Damaged, s.path(name), "it has %d bytes, which no such document has", f.size)
					kept = nil
				}
			}
			err := c.digest(ctx, s.path(name), f, kept, buf)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				c.finding(s, Unreadable, s.path(name), "%v", err)
			} else if kept != nil {
				s.docs[name] = kept.Bytes()
			}
		}
	}
	return nil
}

// digest reads one file to its end.
func (c *checker) digest(ctx context.Context, at string, to *file, kept *bytes.Buffer, buf []byte) (err error) {
	f, err := c.root.Open(at)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return errors.Join(err, errors.New("it changed while this ran"))
	}
	sum, n := sha256.New(), int64(0)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		k, err := f.Read(buf)
		sum.Write(buf[:k])
		n += int64(k)
		if kept != nil {
			if n > maxDocument {
				return errors.New("it grew while this ran")
			}
			kept.Write(buf[:k])
		}
		c.report.Bytes += int64(k)
		if c.Progress != nil {
			c.Progress(c.report.Bytes, c.total)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read at %d of %d bytes: %w", n, to.size, err)
		}
	}
	to.size, to.sha256 = n, hex.EncodeToString(sum.Sum(nil))
	c.report.Files++
	return nil
}

// sorted gives the names in their order: findings come in the same one each time.
func sorted[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
