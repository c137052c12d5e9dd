package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/bodyworn/ingestd/storage/storetest"
)

// A station begins with the embedded store and goes over to a cluster by its
// settings alone. The cluster loses a node in the middle of the work, then another
// one instead of it, then one more than it can lose.
func TestAStationOutgrowsItsMachine(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a cluster of four needs half a minute and 1 GB of memory")
	}
	cluster := storetest.Cluster(t)
	embedded := strings.Replace(testConfig, "settle: 300ms", "settle: 300ms, stall_after: 2s", 1)
	p := newPlace(t, embedded)
	card := p.card("card", 128<<20)
	d := p.startDaemon()
	before := d.finished("card")
	d.end()

	bucket := cluster.Config().Bucket
	moved := func(config string) string {
		return strings.Replace(config, "  embedded: {root: store}\n", fmt.Sprintf(
			"  kind: s3\n  bucket: %s\n  s3: {endpoint: %q, tls: false, credentials_file: keys}\n", bucket, cluster.Config().Endpoint), 1)
	}
	keys := fmt.Sprintf("access_key: %s\nsecret_key: %s\n", cluster.Config().AccessKey, cluster.Config().SecretKey)
	p.write("keys", keys)
	p.write("ingestd.yaml", moved(embedded))

	// The recorder is still there. The journal knows its files, the new bucket does
	// not: they are stored again.
	d = p.startDaemon()
	d.waitFor(`"event":"ingest.file_done","slot":"card"`)
	waitForParts(t, cluster, bucket, "DCIM/large.mp4", 2)
	cluster.KillNode(3)
	if log := d.log(); strings.Contains(log, `"file":"DCIM/large.mp4"`) || strings.Contains(log, "ingest.finished") {
		t.Fatalf("the node was killed too late, when the large file was stored:\n%s", log)
	}
	after := d.finished("card")
	d.waitFor("safe: %d files, %d stored, 0 identical", len(card), len(card))
	checkStored(t, cluster, bucket, after, card)
	if found := p.verify(0, after); len(found) != 0 {
		t.Errorf("with a node down, verify found %v", found)
	}
	checkMovedAway(t, p, before)

	// Another station in the same bucket, all of it with a node down.
	other := newPlace(t, moved(strings.Replace(embedded, "TEST-01", "TEST-02", 1)))
	other.write("keys", keys)
	theirs := other.card("card", 6<<20)
	checkStored(t, cluster, bucket, other.ingest(0, "drop/card").Session.ID, theirs)
	if found := other.verify(0, "--all"); len(found) != 0 {
		t.Errorf("with a node down, verify --all found %v", found)
	}

	// The node comes back, and is needed: without it there would be too few now.
	cluster.StartNode(t, 3)
	waitForHealth(t, cluster, "?maintenance=true", http.StatusOK) // all four: node 0 could be spared
	cluster.KillNode(2)
	second := p.card("second", 6<<20)
	checkStored(t, cluster, bucket, d.finished("second"), second)

	// Two of four are too few to write.
	cluster.KillNode(3)
	waitForHealth(t, cluster, "", http.StatusServiceUnavailable)
	said := len(d.log())
	third := p.card("third", 6<<20)
	d.waitForAfter(said, `"event":"storage.unavailable"`)
	d.waitForAfter(said, `"event":"ingest.stalled","slot":"third"`)
	if waiting := d.log()[said:]; strings.Contains(waiting, "ingest.finished") {
		t.Errorf("without a quorum it ended a session:\n%s", waiting)
	}
	if out := p.must("sessions", "list"); strings.Count(out, " sealed ") != 3 || strings.Count(out, " open ") > 1 {
		t.Errorf("without a quorum the sessions are:\n%s", out)
	}
	cluster.StartNode(t, 2)
	cluster.StartNode(t, 3)
	checkStored(t, cluster, bucket, d.finished("third"), third)
	d.end()
	if found := other.verify(0, "--all"); len(found) != 0 {
		t.Errorf("at the end, verify --all found %v", found)
	}

	// What was stored before the move is where it was.
	p.write("ingestd.yaml", embedded)
	if found := p.verify(0, before); len(found) != 0 {
		t.Errorf("in the embedded store, verify found %v", found)
	}
}

// card docks a card with small files and a large one, and gives the SHA-256 of its
// files by path.
func (p *place) card(name string, large int) map[string]string {
	p.t.Helper()
	sizes := map[string]int{"DCIM/large.mp4": large, "Param.ini": 0}
	for i := range 12 {
		sizes[fmt.Sprintf("DCIM/%04d.mp4", i)] = 200_000 + i
	}
	sums := map[string]string{}
	whole := p.path(name + ".tmp")
	random := rand.NewChaCha8(sha256.Sum256([]byte(name)))
	for path, size := range sizes {
		body := make([]byte, size)
		_, err := random.Read(body)
		if size == 0 {
			body = fmt.Appendf(nil, "[ZFY]\r\nDevNo=%s\r\nPolNo=052507\r\n", strings.ToUpper(name))
		}
		sum := sha256.Sum256(body)
		sums[path] = hex.EncodeToString(sum[:])
		file := filepath.Join(whole, path)
		if err := errors.Join(err, os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, body, 0o600)); err != nil {
			p.t.Fatal(err)
		}
	}
	if err := os.Rename(whole, p.path("drop/"+name)); err != nil { // at once, as a mount appears
		p.t.Fatal(err)
	}
	return sums
}

// finished waits until a slot is safe and gives the session.
func (d *daemon) finished(slot string) (session string) {
	d.p.t.Helper()
	d.waitFor(`"event":"ingest.finished","slot":"%s"`, slot)
	m := regexp.MustCompile(`"event":"ingest.finished","slot":"` + slot + `","session":"([^"]+)"`).FindStringSubmatch(d.log())
	if m == nil {
		d.p.t.Fatalf("the end of %s names no session:\n%s", slot, d.log())
	}
	return m[1]
}

// waitForAfter is waitFor for what the daemon says behind the first bytes of its log.
func (d *daemon) waitForAfter(bytes int, want string) {
	d.p.t.Helper()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(d.log()[bytes:], want); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			d.p.t.Fatalf("the daemon did not say %s:\n%s", want, d.log()[bytes:])
		}
	}
}

// end stops the daemon; the next one of the place has a new log.
func (d *daemon) end() {
	d.p.t.Helper()
	if code := d.stop(); code != 0 {
		d.p.t.Errorf("the daemon ended with %d:\n%s", code, d.log())
	}
	if err := os.Remove(d.file); err != nil {
		d.p.t.Fatal(err)
	}
}

// waitForParts waits until the store holds at least so many parts of a file whose
// upload has not ended.
func waitForParts(t *testing.T, c *storetest.MinIOCluster, bucket, path string, parts int) {
	t.Helper()
	core := minio.Core{Client: c.Client()}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		for o := range c.Client().ListObjects(t.Context(), bucket, minio.ListObjectsOptions{Prefix: "TEST-01/", Recursive: true}) {
			prefix, _, ok := strings.Cut(o.Key, "/footage/")
			if o.Err != nil || !ok {
				continue
			}
			key := prefix + "/footage/" + path // MinIO lists the uploads of one key
			uploads, err := core.ListMultipartUploads(t.Context(), bucket, key, "", "", "", 10)
			if err != nil || len(uploads.Uploads) == 0 {
				break
			}
			kept, err := core.ListObjectParts(t.Context(), bucket, key, uploads.Uploads[0].UploadID, 0, 1000)
			if err == nil && len(kept.ObjectParts) >= parts {
				return
			}
			break
		}
	}
	t.Fatalf("no %d parts of %s are in the store", parts, path)
}

// checkStored fetches everything of a session with a plain S3 client. Every file of
// the card must be there once, whole, and no other; the sums must name them.
func checkStored(t *testing.T, c *storetest.MinIOCluster, bucket, session string, card map[string]string) {
	t.Helper()
	got, text := map[string]string{}, map[string]string{}
	for o := range c.Client().ListObjects(t.Context(), bucket, minio.ListObjectsOptions{Recursive: true, WithVersions: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		_, name, ok := strings.Cut(o.Key, "/"+session+"/")
		if !ok {
			continue
		}
		body, err := c.Client().GetObject(t.Context(), bucket, o.Key, minio.GetObjectOptions{VersionID: o.VersionID})
		if err != nil {
			t.Fatal(err)
		}
		var kept bytes.Buffer
		hash := sha256.New()
		if _, err := io.Copy(io.MultiWriter(hash, &kept), body); err != nil {
			t.Fatalf("%s: %v", o.Key, err)
		}
		sum := hex.EncodeToString(hash.Sum(nil))
		if path, ok := strings.CutPrefix(name, "footage/"); !ok {
			text[name] = kept.String()
		} else if got[path] != "" {
			t.Errorf("%s has two versions", o.Key)
		} else {
			got[path] = sum
		}
		if name == "manifest.json" {
			text["its sum"] = sum
		}
	}
	if !maps.Equal(got, card) {
		t.Errorf("session %s: stored are\n%v\non the card are\n%v", session, got, card)
	}
	want := map[string]string{"manifest.json": text["its sum"]}
	for path, sum := range card {
		want["footage/"+path] = sum
	}
	listed := map[string]string{}
	for line := range strings.Lines(text["SHA256SUMS"]) {
		if sum, name, ok := strings.Cut(strings.TrimSpace(line), "  "); ok && !strings.HasPrefix(line, "#") {
			listed[name] = sum
		}
	}
	if !maps.Equal(listed, want) {
		t.Errorf("session %s: SHA256SUMS lists\n%v\nstored are\n%v", session, listed, want)
	}
}

// checkMovedAway: what a station has stored elsewhere before is counted, not missed; all
// that is in the new store is as it must be.
func checkMovedAway(t *testing.T, p *place, before string) {
	t.Helper()
	out, errs, code := p.run("verify", "--all", "-o", "json")
	var v struct {
		Sessions  int `json:"sessions"`
		Elsewhere int `json:"sessions_elsewhere"`
		Findings  []struct{ Problem, Session string }
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != 0 || v.Elsewhere != 1 || v.Sessions == 0 || len(v.Findings) > 0 {
		t.Fatalf("verify --all after the move: exit %d, %v\n%s%s", code, err, out, errs)
	}
	out, errs, code = p.run("verify", before)
	if code != 0 || !strings.Contains(out, "1 sessions lie in another bucket") {
		t.Errorf("verify of a session from before the move: exit %d\n%s%s", code, out, errs)
	}
}

// waitForHealth waits until node 0 answers so to the question whether the cluster can
// write; with ?maintenance=true, whether it could without node 0.
func waitForHealth(t *testing.T, c *storetest.MinIOCluster, query string, want int) {
	t.Helper()
	status := 0
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		answer, err := http.Get("http://" + c.Config().Endpoint + "/minio/health/cluster" + query)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if status = answer.StatusCode; status == want {
			return
		}
	}
	t.Fatalf("the cluster answers %d to health%s, want %d", status, query, want)
}
