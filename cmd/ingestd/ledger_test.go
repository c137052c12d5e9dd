package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/storage/ledger"
	"github.com/bodyworn/ingestd/storage/stationkey"
	"github.com/bodyworn/ingestd/storage/storetest"
)

// published waits until the daemon has brought the first size entries into the bucket.
func (d *daemon) published(size int) {
	d.p.t.Helper()
	file := d.p.path(fmt.Sprintf("store/data/footage/TEST-01/ledger/checkpoint/%016d", size))
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(file); err == nil {
			return
		}
		if time.Now().After(deadline) {
			d.p.t.Fatalf("%s is not there\n%s", file, d.log())
		}
	}
}

// into runs a command with -o json and reads its result.
func (p *place) into(result any, want int, args ...string) {
	p.t.Helper()
	out, errs, code := p.run(append(args, "-o", "json")...)
	if code != want {
		p.t.Errorf("%v: exit %d, want %d\n%s%s", args, code, want, out, errs)
	}
	if err := json.Unmarshal([]byte(out), result); err != nil {
		p.t.Fatalf("%v: %v in\n%s%s", args, err, out, errs)
	}
}

// inside runs ingestd in this process, which is quicker: for what needs no store.
func (p *place) inside(args ...string) (out string, code int) {
	p.t.Helper()
	var buf bytes.Buffer
	root := (&app{out: &buf, err: &buf}).root()
	root.SetArgs(args)
	err := root.ExecuteContext(p.t.Context())
	if err != nil {
		fmt.Fprintln(&buf, err)
	}
	return buf.String(), codeOf(err, false)
}

// settings gives arguments that name the place's settings.
func (p *place) settings(args ...string) []string {
	return append([]string{"--config", p.path("ingestd.yaml")}, args...)
}

type tailJSON struct {
	Size  int64
	Items []struct {
		Index int64
		Entry ledger.Entry
	}
}

func TestLedgerBesideTheDaemon(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	for _, args := range []string{"ledger tail", "ledger checkpoint", "ledger prove 0", "ledger verify --local"} {
		if out, errs, code := p.run(strings.Fields(args)...); code != exitNotFound || !strings.Contains(errs, "nothing was signed here yet") {
			t.Errorf("%s before anything was signed: exit %d\n%s%s", args, code, out, errs)
		}
	}
	d := p.startDaemon() // it would refuse a folder that a reader had made
	d.published(4)       // what it has begun with
	d.sealed("card1", map[string]string{"a.mp4": "footage"})
	d.published(6)
	if err := os.CopyFS(p.path("yesterday"), os.DirFS(p.path("state/ledger"))); err != nil {
		t.Fatal(err)
	}
	var older struct {
		Origin, Root, Key, Checkpoint string
		Size                          int64
		VerifierKey                   string `json:"verifier_key"`
	}
	p.into(&older, 0, "ledger", "checkpoint", "--out", "older")
	if note := p.must("ledger", "checkpoint"); note != older.Checkpoint || !strings.HasPrefix(note, fmt.Sprintf("ingestd/TEST-01\n6\n%s\n\n— ingestd/TEST-01 ", older.Root)) {
		t.Errorf("checkpoint\n%s, in JSON %+v", note, older)
	}
	if body, err := os.ReadFile(p.path("older")); err != nil || string(body) != older.Checkpoint {
		t.Errorf("%v: the file holds\n%s", err, body)
	}
	if older.Size != 6 || older.Origin != "ingestd/TEST-01" || older.Key != p.keyShow(0).Fingerprint || !strings.HasPrefix(older.VerifierKey, "ingestd/TEST-01+") {
		t.Errorf("%+v", older)
	}
	if _, errs, code := p.run("ledger", "checkpoint", "--out", "older"); code != exitFailed || !strings.Contains(errs, "exists") {
		t.Errorf("an older checkpoint is written over: exit %d, %s", code, errs)
	}
	d.sealed("card2", map[string]string{"b.mp4": "more"})
	d.published(8)

	var all tailJSON
	p.into(&all, 0, "ledger", "tail")
	var events []string
	for i, item := range all.Items {
		if item.Index != int64(i) || item.Entry.Station != "TEST-01" {
			t.Errorf("%+v", item)
		}
		events = append(events, item.Entry.Event)
	}
	if !slices.Equal(events, []string{"key.made", "config.taken", "bucket.marked", "retention.previewed", "session.begun", "session.sealed", "session.begun", "session.sealed"}) || all.Size != 8 {
		t.Fatalf("%v, size %d", events, all.Size)
	}
	last := all.Items[7].Entry
	zone := time.FixedZone("Asia/Shanghai", 8*60*60)
	for args, want := range map[string][]string{
		"-n 1":               {"7"},
		"-n 2":               {"6", "7"},
		"--from 6":           {"6", "7"},
		"--from 1 -n 1":      {"1"},
		"--from 3 --lines 9": {"3", "4", "5", "6", "7"},
		"--from 8":           nil,
		"--from 8 -n 5":      nil,
	} {
		out, code := p.inside(append(p.settings("ledger", "tail"), strings.Fields(args)...)...)
		if code != 0 {
			t.Fatalf("tail %s: exit %d\n%s", args, code, out)
		}
		var got []string
		for _, line := range strings.Split(strings.TrimSpace(out), "\n")[1:] {
			got = append(got, strings.Fields(line)[0])
		}
		if !slices.Equal(got, want) {
			t.Errorf("tail %s: %v, want %v in\n%s", args, got, want, out)
		}
		if args == "-n 1" && (!strings.Contains(out, last.Session) || !strings.Contains(out, last.Time.In(zone).Format("2006-01-02 15:04:05")) || !strings.Contains(out, "session.sealed")) {
			t.Errorf("it shows\n%s", out)
		}
	}
	for args, want := range map[string]int{
		"tail -n 0": exitUsage, "tail --from -1": exitUsage, "tail --from 9": exitNotFound, "prove": exitUsage, "prove x": exitUsage, "prove 8": exitNotFound,
		"prove 1 --key k": exitUsage, "prove 1 --check f": exitUsage, "prove --check nowhere": exitNotFound, "verify --checkpoint nowhere": exitNotFound, "": exitUsage,
	} {
		if out, code := p.inside(append(p.settings("ledger"), strings.Fields(args)...)...); code != want {
			t.Errorf("ledger %s: exit %d, want %d\n%s", args, code, want, out)
		}
	}

	var v ledgerVerification
	p.into(&v, 0, "ledger", "verify", "--checkpoint", "older")
	if v.Bucket == nil || v.Folder == nil || v.Bucket.Size != 8 || v.Folder.Size != 8 || v.Bucket.Root != v.Folder.Root || v.Bucket.Held < 3 || v.Folder.Held != 2 || len(v.Told) != 0 || v.Key != older.Key {
		t.Errorf("%+v %+v %+v", v, v.Bucket, v.Folder)
	}
	if words := p.must("ledger", "verify", "--local"); strings.Contains(words, "bucket  ") || !strings.Contains(words, v.Folder.Root) || !strings.Contains(words, older.Key) {
		t.Errorf("it says\n%s", words)
	}
	p.checkProofs(all)
	p.checkFindings()
	if code := d.stop(); code != 0 {
		t.Errorf("the daemon ended with %d:\n%s", code, d.log())
	}
}

// checkProofs has proofs checked by a machine that has only the key from the bucket.
func (p *place) checkProofs(all tailJSON) {
	p.t.Helper()
	away := p.path("away")
	p.fetch("TEST-01/keys/", away)
	keys, err := filepath.Glob(filepath.Join(away, "TEST-01/keys/*.pub"))
	if err != nil || len(keys) != 1 {
		p.t.Fatalf("keys %v (%v)", keys, err)
	}
	check := func(doc string, more ...string) (string, int) {
		p.write("away/proof.json", doc)
		return p.inside(append([]string{"ledger", "prove", "--check", filepath.Join(away, "proof.json")}, more...)...)
	}
	paper := p.keyShow(0).Fingerprint
	for _, item := range all.Items {
		doc := p.must("ledger", "prove", fmt.Sprint(item.Index))
		if out, code := check(doc, "--key", keys[0]); code != 0 || !strings.Contains(out, item.Entry.Event) || !strings.Contains(out, paper) {
			p.t.Errorf("entry %d: exit %d\n%s", item.Index, code, out)
		}
	}
	doc := p.must("ledger", "prove", "5")
	p.write("proof", doc)
	var result struct {
		Holds bool
		Index int64
		Entry ledger.Entry
	}
	if p.into(&result, 0, "ledger", "prove", "--check", "proof"); !result.Holds || result.Index != 5 || result.Entry.Session != all.Items[5].Entry.Session {
		p.t.Errorf("at the station: %+v", result)
	}
	var parts ledgerProof
	if err := json.Unmarshal([]byte(doc), &parts); err != nil {
		p.t.Fatal(err)
	}
	changed := func(change func(*ledgerProof)) string {
		c := parts
		c.Proof = slices.Clone(parts.Proof)
		change(&c)
		text, err := json.Marshal(c)
		if err != nil {
			p.t.Fatal(err)
		}
		return string(text)
	}
	if out, code := check(changed(func(*ledgerProof) {}), "--key", keys[0]); code != 0 {
		p.t.Errorf("in another form: exit %d\n%s", code, out)
	}
	// A forger has a ledger and a key of his own, in which all is in order.
	forger, err := stationkey.Create(p.path("forger"), "TEST-01")
	if err != nil {
		p.t.Fatal(err)
	}
	forged, err := ledger.Open(p.t.Context(), p.path("forged"), ingest.LedgerSigner(forger, "TEST-01"), func(ledger.Repair) {})
	if err != nil {
		p.t.Fatal(err)
	}
	for _, item := range all.Items[:6] {
		if _, err := forged.Append(p.t.Context(), item.Entry); err != nil {
			p.t.Fatal(err)
		}
	}
	own, err := forged.Checkpoint()
	if err != nil {
		p.t.Fatal(err)
	}
	ownProof, err := forged.Prove(p.t.Context(), 5, 6)
	if err != nil {
		p.t.Fatal(err)
	}
	for name, spoilt := range map[string]string{
		"another line":       changed(func(c *ledgerProof) { c.Line = strings.Replace(c.Line, "readback", "checksum", 1) }),
		"another index":      changed(func(c *ledgerProof) { c.Index = 0 }),
		"a negative index":   changed(func(c *ledgerProof) { c.Index = -1 }),
		"another size":       changed(func(c *ledgerProof) { c.Size++ }),
		"another hash":       changed(func(c *ledgerProof) { c.Proof[0][0] ^= 1 }),
		"a hash less":        changed(func(c *ledgerProof) { c.Proof = c.Proof[1:] }),
		"another root":       changed(func(c *ledgerProof) { c.Checkpoint = strings.Replace(c.Checkpoint, "\n8\n", "\n9\n", 1) }),
		"another station":    changed(func(c *ledgerProof) { c.Origin = "ingestd/TEST-02" }),
		"another key's name": changed(func(c *ledgerProof) { c.Key = "SHA256:x" }),
		"another schema":     changed(func(c *ledgerProof) { c.Schema = "ingestd.ledger-proof/2" }),
		"a forger's": changed(func(c *ledgerProof) {
			c.Checkpoint, c.Proof, c.Size = string(own), ownProof, 6
		}),
		"an unknown field": strings.Replace(doc, `"origin"`, `"original": 1, "origin"`, 1),
		"a cut document":   doc[:len(doc)/2],
		"two documents":    doc + doc,
		"nothing":          "",
	} {
		if out, code := check(spoilt, "--key", keys[0]); code != exitFindings || !strings.Contains(out, "does not hold") {
			p.t.Errorf("%s: exit %d\n%s", name, code, out)
		}
	}
	if out, code := check(doc, "--key", p.path("forger.pub")); code != exitFindings {
		p.t.Errorf("with another key: exit %d\n%s", code, out)
	}
	// Whoever holds a key can sign for another station's entries, but not as its own.
	stray := all.Items[5].Entry
	stray.Station = "TEST-02"
	index, err := forged.Append(p.t.Context(), stray)
	if err != nil {
		p.t.Fatal(err)
	}
	line, err1 := stray.Encode()
	note, err2 := forged.Checkpoint()
	proof, err3 := forged.Prove(p.t.Context(), index, index+1)
	if err := errors.Join(err1, err2, err3); err != nil {
		p.t.Fatal(err)
	}
	strayed := changed(func(c *ledgerProof) {
		c.Key, c.Index, c.Size, c.Line, c.Proof, c.Checkpoint = forger.Fingerprint(), index, index+1, string(line), proof, string(note)
	})
	if out, code := check(strayed, "--key", p.path("forger.pub")); code != exitFindings || !strings.Contains(out, "TEST-02") {
		p.t.Errorf("another station's entry: exit %d\n%s", code, out)
	}
	if out, code := check(doc, "--key", p.path("proof")); code != exitUsage {
		p.t.Errorf("with what is no key: exit %d\n%s", code, out)
	}
}

// checkFindings does things to either copy of the ledger. What only an older checkpoint
// can show is shown by one.
func (p *place) checkFindings() {
	p.t.Helper()
	p.must("ledger", "checkpoint", "--out", "kept")
	folder, bucket := p.path("state/ledger"), p.path("store/data/footage/TEST-01/ledger")
	segments, err := filepath.Glob(filepath.Join(bucket, "entries/*"))
	if err != nil || len(segments) == 0 {
		p.t.Fatal(segments, err)
	}
	segment := segments[len(segments)-1]
	flip := func(b []byte) []byte { return []byte(strings.Replace(string(b), `"files":"1"`, `"files":"2"`, 1)) }
	nothing := func() error { return nil }
	yesterday := func() error {
		return errors.Join(os.RemoveAll(folder), os.CopyFS(folder, os.DirFS(p.path("yesterday"))))
	}
	for _, c := range []struct {
		name  string
		args  string
		spoil func() error
		want  string // the kind that is found; empty: none
		told  string
	}{
		{"a foreign checkpoint", "--local --checkpoint kept --checkpoint forged/checkpoint", nothing, ledger.FindingCheckpoint, ""},
		{"a changed entry", "--local", func() error { return rewrite(folder+"/entries.jsonl", flip) }, ledger.FindingChanged, ""},
		{"a changed entry, with the bucket", "", func() error { return rewrite(folder+"/entries.jsonl", flip) }, ledger.FindingChanged, ""},
		{"yesterday's folder, by itself", "--local", yesterday, "", ""},
		{"yesterday's folder, by a checkpoint that was kept", "--local --checkpoint kept", yesterday, ledger.FindingCut, ""},
		{"yesterday's folder, by the bucket", "", yesterday, ledger.FindingCut, ""},
		{"no folder", "", func() error { return os.RemoveAll(folder) }, findingGone, ""},
		{"a changed segment", "", func() error { return rewrite(segment, flip) }, ledger.FindingChanged, ""},
		{"a segment that is gone", "", func() error { return os.Remove(segment) }, ledger.FindingHole, ""},
		{"an empty bucket", "", func() error { return os.RemoveAll(bucket) }, findingEmptied, findingUnpublished},
	} {
		// cp keeps the extended attributes in which the store has what it knows.
		kept := map[string]string{folder: p.path("kept-folder"), bucket: p.path("kept-bucket")}
		for from, to := range kept {
			if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
				p.t.Fatalf("%v: %s", err, out)
			}
		}
		if err := c.spoil(); err != nil {
			p.t.Fatal(c.name, err)
		}
		want := 0
		if c.want != "" {
			want = exitFindings
		}
		var v ledgerVerification
		p.into(&v, want, append([]string{"ledger", "verify"}, strings.Fields(c.args)...)...)
		kinds := func(all []ledgerFinding) (k []string) {
			for _, f := range all {
				k = append(k, f.Kind)
			}
			return k
		}
		if v.Sound != (c.want == "") || c.want != "" && !slices.Contains(kinds(v.Findings), c.want) || c.told != "" && !slices.Contains(kinds(v.Told), c.told) {
			p.t.Errorf("%s: want %q, told %q, got %+v, told %+v", c.name, c.want, c.told, v.Findings, v.Told)
		}
		for i, f := range v.Findings {
			if slices.ContainsFunc(v.Findings[i+1:], func(g ledgerFinding) bool { return g.Kind == f.Kind && g.Words == f.Words }) {
				p.t.Errorf("%s: said twice: %s", c.name, f.Words)
			}
		}
		for from, to := range kept {
			if err := errors.Join(os.RemoveAll(from), os.Rename(to, from)); err != nil {
				p.t.Fatal(c.name, err)
			}
		}
	}
	if out := p.must("ledger", "verify", "--checkpoint", "kept"); !strings.Contains(out, "unchanged") {
		p.t.Errorf("put back:\n%s", out)
	}
}

// On a server that lets a delete marker stand, what it hides is a finding.
func TestLedgerVerifyFindsWhatIsHidden(t *testing.T) {
	t.Parallel()
	server := storetest.MinIO(t, false)
	c := server.Config()
	p := s3Place(t, c)
	p.write("small/a.mp4", "footage")
	p.ingest(0, "small")
	p.must("ledger", "verify")
	key := ""
	for o := range server.Client().ListObjectsIter(t.Context(), c.Bucket, minio.ListObjectsOptions{Prefix: "TEST-01/ledger/entries/", Recursive: true}) {
		key = o.Key
	}
	if err := server.Client().RemoveObject(t.Context(), c.Bucket, key, minio.RemoveObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	var v ledgerVerification
	p.into(&v, exitFindings, "ledger", "verify")
	if len(v.Findings) != 1 || v.Findings[0].Kind != findingHidden || v.Bucket != nil || v.Folder == nil || v.Folder.Size == 0 {
		t.Errorf("%+v", v)
	}
}

// Who reads makes no ledger: a new one would contradict what was signed before.
func TestReadersMakeNoLedger(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	p.sign()
	if err := os.RemoveAll(p.path("state/ledger")); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"ledger tail", "ledger checkpoint", "ledger prove 0", "ledger verify --local"} {
		if _, errs, code := p.run(strings.Fields(args)...); code != exitNotFound || !strings.Contains(errs, "must be put back") {
			t.Errorf("%s: exit %d\n%s", args, code, errs)
		}
	}
	if _, err := os.Lstat(p.path("state/ledger")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is a ledger now (%v)", err)
	}
}
