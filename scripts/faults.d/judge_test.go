//go:build faults

package faults

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	_ "modernc.org/sqlite" // to ask the journal's file by SQLite itself
)

// object is one version in the bucket, as a plain S3 client sees it.
type object struct {
	key, version, sum string
	size              int64
	stored, until     time.Time
}

// session is a row of `ingestd sessions list -o json`.
type session struct {
	ID, State, Prefix string
	Manifest          string `json:"manifest_key"`
}

// judge looks at everything from outside. No process of the place may be at work.
//
//  1. The journal is whole, by SQLite, and the program can list it.
//  2. All in the bucket is content that was on the card, byte for byte, or a
//     document; nothing hides anything; everything is locked, COMPLIANCE, six
//     calendar months at least; no content is there twice, no key has two versions.
//  3. What a manifest calls stored is there as it says; SHA256SUMS agrees.
//  4. Journal and bucket agree on which sessions have ended, and how.
//  5. Whenever safe was said, all that was on the card is stored and listed.
//  6. The ledger's file has a line for every session that has ended, with the digest
//     of its manifest. When done, `ledger verify` finds the folder and the bucket sound.
//  7. `verify --all` agrees.
//
// When done the fault is gone and the work has come to its end: the whole card is
// stored, and no session is open.
func (p *place) judge(done bool) {
	p.t.Helper()
	p.judgeJournal()
	sessions := p.sessions()
	p.outside(func(client *minio.Client, bucket string) {
		objects := p.objects(client, bucket)
		p.judgeObjects(objects)
		listed := p.judgeManifests(client, bucket, objects, sessions)
		p.judgeLedger(objects, sessions)
		for _, c := range p.claims {
			p.judgeCard("safe was said by "+c.by, c.card, objects, listed)
		}
		if !done {
			p.judgeOpen(sessions, listed)
			return
		}
		// Until it is opened again, it may be as a crash has left it.
		if r := p.start(nil, "ledger", "verify", "-o", "json").wait(); r.code != 0 {
			p.violate("ledger verify: exit %d\n%s", r.code, shorten(r.out))
		}
		p.judgeCard("the work is done", p.now, objects, listed)
		if len(p.claims) == 0 {
			p.violate("the work is done and nobody was told that it is safe")
		}
		for _, s := range sessions {
			if s.State != "sealed" && s.State != "failed" {
				p.violate("the work is done and session %s is %s", s.ID, s.State)
			}
		}
	})
}

func (p *place) judgeJournal() {
	dir, err := os.MkdirTemp(p.dir, "journal")
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // a copy
	for _, end := range []string{"", "-wal"} {
		body, err := os.ReadFile(p.path("state/journal.db" + end))
		if errors.Is(err, os.ErrNotExist) && end != "" {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "journal.db"+end), body, 0o600)
		}
		if err != nil {
			p.violate("the journal can't be read: %v", err)
			return
		}
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, "journal.db"))
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = db.Close() }() // a copy
	var result string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&result); err != nil || result != "ok" {
		p.violate("SQLite says of the journal: %s, %v", result, err)
	}
	rows, err := db.Query("PRAGMA foreign_key_check")
	if err == nil {
		if rows.Next() {
			p.violate("the journal has rows that belong to nothing")
		}
		err = errors.Join(rows.Err(), rows.Close())
	}
	if err != nil {
		p.violate("SQLite says of the journal: %v", err)
	}
}

func (p *place) sessions() []session {
	p.t.Helper()
	r := p.start(nil, "sessions", "list", "-o", "json").wait()
	var list struct{ Items []session }
	if err := json.Unmarshal([]byte(r.out), &list); r.code != 0 || err != nil {
		p.violate("sessions list: exit %d, %v", r.code, err)
	}
	return list.Items
}

// objects lists every version and fetches each one whole.
func (p *place) objects(client *minio.Client, bucket string) []object {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var all []object
	for o := range client.ListObjectsIter(ctx, bucket, minio.ListObjectsOptions{Prefix: p.id + "/", Recursive: true, WithVersions: true}) {
		if o.Err != nil {
			if minio.ToErrorResponse(o.Err).Code != minio.NoSuchBucket { // killed before there was one
				p.violate("the bucket can't be listed: %v", o.Err)
			}
			return all
		}
		if o.IsDeleteMarker {
			p.violate("a delete marker hides %s", o.Key)
			continue
		}
		one := object{key: o.Key, version: o.VersionID, stored: o.LastModified}
		body, err := client.GetObject(ctx, bucket, o.Key, minio.GetObjectOptions{VersionID: o.VersionID})
		if err == nil {
			hash := sha256.New()
			one.size, err = io.Copy(hash, body)
			one.sum = hex.EncodeToString(hash.Sum(nil))
			_ = body.Close() // only read from
		}
		if err != nil || one.size != o.Size {
			p.violate("%s can't be fetched: %d of %d bytes, %v", o.Key, one.size, o.Size, err)
		}
		// By HEAD: the answers to GET ?retention differ from server to server.
		head, err := client.StatObject(ctx, bucket, o.Key, minio.StatObjectOptions{VersionID: o.VersionID})
		mode, until := head.Metadata.Get("X-Amz-Object-Lock-Mode"), head.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date")
		if err == nil && mode == string(minio.Compliance) {
			one.until, err = time.Parse(time.RFC3339, until)
		}
		if err != nil || one.until.IsZero() && !p.unlocked {
			p.violate("%s is not locked: mode %q until %q, %v", o.Key, mode, until, err)
		}
		all = append(all, one)
	}
	return all
}

// zone is the station's, by its default setting.
var zone = time.FixedZone("CST", 8*3600)

func isFootage(key string) bool { return strings.Contains(key, "/footage/") }

func (p *place) judgeObjects(all []object) {
	keys, sums := map[string]int{}, map[string]int{}
	for _, o := range all {
		if keys[o.key]++; keys[o.key] > 1 {
			p.violate("%s has %d versions", o.key, keys[o.key])
		}
		if floor := o.stored.In(zone).AddDate(0, 6, 0); o.until.Before(floor) && (!p.unlocked || !o.until.IsZero()) {
			p.violate("%s is locked until %s, six months from when it was stored are %s", o.key, o.until, floor)
		}
		if !isFootage(o.key) {
			continue
		}
		if !p.ever[o.sum] {
			p.violate("%s (%d bytes) is nothing that was on the card", o.key, o.size)
		}
		if sums[o.sum]++; sums[o.sum] > 1 && p.once {
			p.violate("%s is stored %d times", o.key, sums[o.sum])
		}
	}
}

// judgeManifests checks the documents and gives what they list as stored: for
// each path the SHA-256 of its contents, and as reported not stored.
func (p *place) judgeManifests(client *minio.Client, bucket string, all []object, sessions []session) listing {
	l := listing{good: map[string]map[string]bool{}, bad: map[string]bool{}}
	byVersion, byKey := map[string]object{}, map[string]object{}
	for _, o := range all {
		byVersion[o.key+"\x00"+o.version], byKey[o.key] = o, o
	}
	ended := map[string]string{}
	for _, s := range sessions {
		ended[s.Prefix] = s.State
		if s.State == "sealed" || s.State == "failed" {
			if _, there := byKey[s.Manifest]; !there {
				p.violate("session %s is %s and its manifest %q is not in the bucket", s.ID, s.State, s.Manifest)
			}
		}
	}
	for _, o := range all {
		prefix, ok := strings.CutSuffix(o.key, "manifest.json")
		if !ok || isFootage(o.key) {
			continue
		}
		var m struct {
			Session struct{ ID, Result string }
			Files   []struct {
				Path, Kind, Result, SHA256 string
				Size                       int64
				Object                     struct {
					Key     string
					Version string `json:"version_id"`
				}
			}
		}
		if err := json.Unmarshal(p.fetch(client, bucket, o), &m); err != nil {
			p.violate("%s can't be read: %v", o.key, err)
			continue
		}
		bad := 0
		for _, f := range m.Files {
			if f.Result != "verified" && f.Result != "identical" {
				if f.Result != "noted" {
					bad++
					l.bad[f.Path] = true
				}
				continue
			}
			there, ok := byVersion[f.Object.Key+"\x00"+f.Object.Version]
			if !ok || there.sum != f.SHA256 || there.size != f.Size {
				p.violate("%s says that %s is stored, and the bucket has %v %s", o.key, f.Path, ok, there.sum)
			}
			if l.good[f.Path] == nil {
				l.good[f.Path] = map[string]bool{}
			}
			l.good[f.Path][f.SHA256] = true
		}
		if want := map[bool]string{true: "failed", false: "sealed"}[bad > 0]; m.Session.Result != want {
			p.violate("%s says %s with %d files not stored", o.key, m.Session.Result, bad)
		}
		if state := ended[prefix]; state != m.Session.Result && state != "sealing" {
			p.violate("%s says %s and the journal says %q", o.key, m.Session.Result, state)
		}
		p.judgeSums(client, bucket, prefix, byKey)
	}
	return l
}

// listing is what the manifests of a bucket say, by path.
type listing struct {
	good map[string]map[string]bool // SHA-256 of what is stored of it
	bad  map[string]bool            // reported as not stored
}

func (p *place) judgeSums(client *minio.Client, bucket, prefix string, byKey map[string]object) {
	sums, ok := byKey[prefix+"SHA256SUMS"]
	if !ok {
		p.violate("%s has a manifest and no SHA256SUMS", prefix)
		return
	}
	lines := bufio.NewScanner(bytes.NewReader(p.fetch(client, bucket, sums)))
	for lines.Scan() {
		sum, name, ok := strings.Cut(lines.Text(), "  ")
		if there := byKey[prefix+name]; !ok || there.sum != sum {
			p.violate("%s does not hold for %s", sums.key, name)
		}
	}
}

func (p *place) fetch(client *minio.Client, bucket string, o object) []byte {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	body, err := client.GetObject(ctx, bucket, o.key, minio.GetObjectOptions{VersionID: o.version})
	var content []byte
	if err == nil {
		content, err = io.ReadAll(body)
		_ = body.Close() // only read from
	}
	if err != nil {
		p.violate("%s can't be fetched: %v", o.key, err)
	}
	return content
}

// judgeCard: every file of the card is stored whole and listed.
func (p *place) judgeCard(when string, card map[string]string, all []object, l listing) {
	there := map[string]bool{}
	for _, o := range all {
		if isFootage(o.key) && !o.until.IsZero() {
			there[o.sum] = true
		}
	}
	for path, sum := range card {
		if !there[sum] {
			p.violate("%s, and %s is not in the store", when, path)
		} else if !l.good[path][sum] {
			p.violate("%s, and no manifest lists %s as stored", when, path)
		}
	}
}

// judgeOpen: nothing of the card is passed over in silence. While a session is
// open or sealing, that itself says so.
func (p *place) judgeOpen(sessions []session, l listing) {
	for _, s := range sessions {
		if s.State == "open" || s.State == "sealing" {
			return
		}
	}
	if p.last.code != 3 {
		return // not ended by itself, and so told as not safe
	}
	for path, sum := range p.now {
		if !l.good[path][sum] && !l.bad[path] {
			p.violate("it ended with findings, and %s is neither stored nor reported", path)
		}
	}
}

// verified runs the program's own verification, which must find nothing.
func (p *place) verified() {
	p.t.Helper()
	r := p.start(nil, "verify", "--all", "-o", "json").wait()
	if r.code == 0 {
		return
	}
	var result struct {
		Findings []struct{ Problem, Key, Detail string }
	}
	if err := json.Unmarshal([]byte(r.out), &result); err != nil {
		p.violate("verify --all: exit %d, %v", r.code, err)
	}
	for _, f := range result.Findings {
		p.violate("verify --all: exit %d: %s %s: %s", r.code, f.Problem, f.Key, f.Detail)
	}
}

// outside calls look with a plain client of the store, and has the program verify
// meanwhile.
func (p *place) outside(look func(client *minio.Client, bucket string)) {
	p.t.Helper()
	if p.client != nil {
		look(p.client, p.server.Bucket)
		p.verified()
		return
	}
	client, stop, err := p.serveEmbedded()
	if err != nil {
		p.violate("the store can't be opened again: %v", err)
		return
	}
	defer stop()
	look(client, "footage")
	p.verified()
}
