package fetched

import (
	"bytes"
	"encoding/hex"
	"errors"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/emmansun/gmsm/sm3"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/ingest/manifest"
	"github.com/bodyworn/ingestd/storage/stationkey"
)

// wanted is what a document says of one file of the session's own folder.
type wanted struct {
	sha256 string
	size   int64 // -1: SHA256SUMS does not say
}

// session compares the documents of a session with one another and with its files.
func (c *checker) session(s *session) {
	c.manifest(s)
	sums, listed := c.sums(s)
	for i, name := range documents {
		switch there, sm3 := s.files[name] != nil, s.of != nil && s.of.HasSM3(); {
		case !there && (i < always || sm3):
			c.finding(s, ingest.Missing, s.path(name), "a session is never stored without it")
		case there && i >= always && s.of != nil && !sm3:
			c.finding(s, ingest.Extra, s.path(name), "the manifest has no SM3 digests")
		}
	}
	c.sm3(s)
	c.signatures(s)
	var want map[string]wanted
	switch {
	case s.of != nil && !s.foreign:
		want = c.manifested(s)
		if listed {
			c.agree(s, sums)
		}
	case listed: // no manifest of this session; the sums still tell what must be here
		want = map[string]wanted{}
		for name, sum := range sums {
			if name == manifest.FileName {
				if f := s.files[name]; f != nil && f.sha256 != "" && f.sha256 != sum {
					c.finding(s, ingest.Mismatch, s.path(name), "its SHA-256 is %s, %s says %s", f.sha256, manifest.SumsFileName, sum)
				}
				continue
			}
			want[name] = wanted{sum, -1}
		}
	default: // neither document says what must be here, and that is told
		return
	}
	c.files(s, want)
}

// manifest reads the manifest and holds it against the name that the folder has.
func (c *checker) manifest(s *session) {
	body, ok := s.docs[manifest.FileName]
	if !ok {
		return
	}
	at := s.path(manifest.FileName)
	s.ManifestSHA256 = s.files[manifest.FileName].sha256
	if len(body) == 0 {
		c.finding(s, Damaged, at, "it is empty")
		return
	}
	m, err := manifest.Decode(body)
	if err != nil {
		c.finding(s, Damaged, at, "%v", err)
		return
	}
	s.of = m
	s.ID, s.Station, s.Recorder, s.Result = m.Session.ID, m.Station.ID, m.Recorder.Identity.Serial.Value, m.Session.Result
	s.DockedAt, s.RetainUntil = &m.Session.DockedAt, &m.Session.RetainUntil
	if parts := strings.Split(m.Vault.Prefix, "/"); len(parts) != 4 || parts[0] != m.Station.ID || parts[2] != m.Session.ID || parts[3] != "" {
		c.finding(s, Disagree, at, "its objects are to lie below %s, but it is session %s of station %s", m.Vault.Prefix, m.Session.ID, m.Station.ID)
		return
	}
	c.named(s)
}

var (
	sessionName = regexp.MustCompile(`^[0-9]{8}-[0-9]{6}-[a-z0-9]+$`)
	dateName    = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}$`)
)

// named holds the prefix in the manifest against the folder's own name and those above
// it, as far as they are names of a bucket: a session that was replaced by another one,
// signed as well, is seen by nothing else.
func (c *checker) named(s *session) {
	dir, err := filepath.Abs(c.dir)
	if err != nil {
		dir = c.dir // then only names below it can be looked at
	}
	have := strings.Split(path.Join(filepath.ToSlash(dir), s.Path), "/")
	want := strings.Split(s.of.Vault.Prefix, "/") // STATION, DATE, SESSION and ""
	slices.Reverse(have)
	id, date, station := at(have, 0), at(have, 1), at(have, 2)
	s.NamedByFolder = sessionName.MatchString(id)
	inside := strings.Count(s.Path, "/") // how many of the names above are below c.dir
	switch {
	case s.NamedByFolder && id != want[2]:
	case s.NamedByFolder && dateName.MatchString(date) && (date != want[1] || inside >= 2 && station != want[0]):
	case !s.NamedByFolder && dateName.MatchString(date): // where a bucket has sessions, and no such name
	default:
		return
	}
	s.foreign = true
	c.finding(s, Foreign, s.path(manifest.FileName), "it is of the session %s, which does not belong into a folder of this name", s.of.Vault.Prefix)
}

func at(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return ""
}

// sm3 holds SM3SUMS against the manifest. The footage is not hashed by SM3: its SHA-256
// tells that its bytes are those of which the station took both.
func (c *checker) sm3(s *session) {
	text, ok := s.docs[manifest.SM3FileName]
	if !ok || s.of == nil || s.foreign {
		return
	}
	sum := sm3.Sum(s.docs[manifest.FileName])
	if !bytes.Equal(text, s.of.SM3Sums(hex.EncodeToString(sum[:]))) {
		c.finding(s, Disagree, s.path(manifest.SM3FileName), "it does not list what the manifest lists")
	}
}

// signatures checks who signed the documents.
func (c *checker) signatures(s *session) {
	ring := c.Ring
	if ring == nil {
		ring = &stationkey.Ring{} // trusts nobody, and still tells a signature that does not fit
	}
	by := map[string]int{}
	for _, name := range []string{manifest.FileName, manifest.SumsFileName, manifest.SM3FileName} {
		body, ok1 := s.docs[name]
		armored, ok2 := s.docs[name+manifest.SigSuffix]
		if !ok1 || !ok2 {
			continue // that is told
		}
		at := s.path(name + manifest.SigSuffix)
		signer, err := ring.Verify(manifest.Namespace, body, armored, c.SignedAt)
		switch {
		case errors.Is(err, stationkey.ErrUntrusted) && c.Ring == nil:
			c.unchecked(s, SignerUnknown, at, "signature not checked: not known whose; it fits, but anybody's would (%v)", err)
		case err != nil:
			c.finding(s, ingest.Unsigned, at, "%v", err)
		case s.of != nil && signer.Principal != s.of.Station.ID:
			c.finding(s, ingest.Unsigned, at, "it is by the key of station %s, the session is of station %s", signer.Principal, s.of.Station.ID)
		case s.of != nil && name == manifest.FileName && signer.Fingerprint() != s.of.Station.Key:
			c.finding(s, Disagree, at, "it is by the key %s, and the manifest says it is by %s", signer.Fingerprint(), s.of.Station.Key)
		default:
			by[signer.Fingerprint()]++
			if by[signer.Fingerprint()] == 2 {
				s.SignedBy = signer.Fingerprint()
			}
		}
	}
}

// manifested gives what the manifest has in the session's own folder, and looks
// whether it contradicts itself.
func (c *checker) manifested(s *session) map[string]wanted {
	want, at := map[string]wanted{}, s.path(manifest.FileName)
	var t manifest.Totals // counted as the station counts
	for _, f := range s.of.Files {
		if f.Kind == device.KindFile {
			t.Files++
			t.Bytes += f.Size
		}
		if f.Object == nil {
			if f.Result != string(journal.Noted) {
				t.NotStored++
				s.NotStored = append(s.NotStored, NotStored{f.Path, f.Result, f.Reason})
			}
			continue
		}
		if f.Result == string(journal.Identical) {
			t.Identical++
		} else {
			t.Stored++
		}
		name, own := strings.CutPrefix(f.Object.Key, s.of.Vault.Prefix)
		if !own {
			s.Elsewhere++
			continue
		}
		w := wanted{f.SHA256, f.Size}
		if first, twice := want[name]; twice && first != w {
			c.finding(s, Disagree, at, "it has two different files in %s", name)
			continue
		}
		if !strings.HasPrefix(name, manifest.FootageDir) || path.Clean(name) != name {
			c.finding(s, Disagree, at, "it has the file %s in %q, which is not below %s", f.Path, name, manifest.FootageDir)
			continue
		}
		want[name] = w
	}
	if t != s.of.Totals {
		c.finding(s, Disagree, at, "its files are %+v, its totals say %+v", t, s.of.Totals)
	}
	return want
}

// agree holds SHA256SUMS against the manifest.
func (c *checker) agree(s *session, sums map[string]string) {
	at := s.path(manifest.SumsFileName)
	expected := s.of.Sums(s.ManifestSHA256)
	if bytes.Equal(s.docs[manifest.SumsFileName], expected) {
		return
	}
	before := len(c.report.Findings)
	told := slices.ContainsFunc(c.report.Findings, func(f Finding) bool { return f.Path == at })
	want := map[string]string{}
	for _, line := range strings.Split(strings.TrimSuffix(string(expected), "\n"), "\n") {
		name, sum, err := parseSum(line)
		if err == nil {
			want[name] = sum
		}
	}
	for _, name := range sorted(want) {
		switch sum, listed := sums[name]; {
		case !listed:
			c.finding(s, Disagree, at, "it does not list %s, which the manifest has", name)
		case sum == want[name]:
		case name == manifest.FileName:
			c.finding(s, Disagree, at, "it has the SHA-256 %s for %s, which is %s", sum, name, want[name])
		default:
			c.finding(s, Disagree, at, "it has the SHA-256 %s for %s, the manifest has %s", sum, name, want[name])
		}
	}
	for _, name := range sorted(sums) {
		if _, known := want[name]; !known {
			c.finding(s, Disagree, at, "it lists %s, which the manifest does not have", name)
		}
	}
	if len(c.report.Findings) == before && !told {
		c.finding(s, Disagree, at, "it lists what the manifest lists, but in another order or form than the station writes")
	}
}

// files compares what is in the folder with what must be. What is missing and what is
// there too much are one finding where they have the same bytes.
func (c *checker) files(s *session, want map[string]wanted) {
	owner := map[string]string{} // a name that must have these bytes, by digest
	for _, name := range sorted(want) {
		owner[want[name].sha256] = name
	}
	extra := map[string][]string{} // names by digest
	var extras []string
	for _, name := range sorted(s.files) {
		if _, listed := want[name]; !listed && !slices.Contains(documents, name) {
			extras = append(extras, name)
			extra[s.files[name].sha256] = append(extra[s.files[name].sha256], name)
		}
	}
	renamed := map[string]bool{}
	for _, name := range sorted(want) {
		w, f := want[name], s.files[name]
		switch {
		case f == nil:
			if now := extra[w.sha256]; len(now) > 0 {
				extra[w.sha256], renamed[now[0]] = now[1:], true
				c.finding(s, Renamed, s.path(name), "its bytes are in %s", now[0])
				continue
			}
			c.finding(s, ingest.Missing, s.path(name), "it is listed with SHA-256 %s and is not here", w.sha256)
		case f.sha256 == "": // that it can't be read is told
		case f.sha256 != w.sha256:
			of := ""
			if other := owner[f.sha256]; other != "" {
				of = ", the bytes of " + other
			}
			c.finding(s, ingest.Mismatch, s.path(name), "it has %d bytes with SHA-256 %s%s; listed is %s", f.size, f.sha256, of, w.sha256)
		case w.size >= 0 && f.size != w.size:
			c.finding(s, Disagree, s.path(name), "it has %d bytes, the manifest says %d with the same SHA-256", f.size, w.size)
		default:
			s.Files++
		}
	}
	for _, name := range extras {
		if renamed[name] {
			continue
		}
		if s.quarantined(name) {
			c.report.Quarantined = append(c.report.Quarantined, s.note(ingest.Quarantined, s.path(name), "the manifest tells that the store spoilt it; its file was stored again, or is told not to be"))
			continue
		}
		if other := owner[s.files[name].sha256]; other != "" {
			c.finding(s, ingest.Extra, s.path(name), "nobody lists it; it is a copy of %s", other)
			continue
		}
		c.finding(s, ingest.Extra, s.path(name), "nobody lists it")
	}
}

// quarantined tells whether the manifest knows of an object that was spoilt when it was
// stored and is locked all the same, see the session's own notes of it in package ingest.
func (s *session) quarantined(name string) bool {
	return s.of != nil && slices.ContainsFunc(s.of.Files, func(f manifest.File) bool {
		return f.Kind == device.KindFile && strings.Contains(f.Note, "the object "+s.of.Vault.Prefix+name+", version ")
	})
}

// elsewhere looks for the files that an earlier session has stored: they belong to
// this one as much as its own.
func (c *checker) elsewhere(s *session) {
	if s.of == nil || s.foreign {
		return
	}
	for _, f := range s.of.Files {
		if f.Object == nil || strings.HasPrefix(f.Object.Key, s.of.Vault.Prefix) {
			continue
		}
		there := c.holder(f.Object.Key)
		if there == nil {
			c.unchecked(s, Elsewhere, f.Object.Key, "the file %s, SHA-256 %s, lies in session %s, which is not here", f.Path, f.SHA256, f.IdenticalTo)
			continue
		}
		name := strings.TrimPrefix(f.Object.Key, there.of.Vault.Prefix)
		switch g := there.files[name]; {
		case g == nil:
			c.finding(s, ingest.Missing, there.path(name), "the file %s of this session is to lie here", f.Path)
		case g.sha256 != "" && (g.sha256 != f.SHA256 || g.size != f.Size):
			c.finding(s, ingest.Mismatch, there.path(name), "it has %d bytes with SHA-256 %s; the file %s of this session has %d with %s", g.size, g.sha256, f.Path, f.Size, f.SHA256)
		}
	}
}

// holder is the session that a key lies in, if it is here and says so itself.
func (c *checker) holder(key string) *session {
	for _, s := range c.sessions {
		if s.of != nil && !s.foreign && s.of.Vault.Prefix != "" && strings.HasPrefix(key, s.of.Vault.Prefix) {
			return s
		}
	}
	return nil
}
