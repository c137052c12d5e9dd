package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/lifecycle"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/storetest"
)

// doctor gives the errors and warnings of a look, in short. What the machine of the
// test does to its clock is expected and left out.
func (p *place) doctor(args ...string) (bad []string, all []storage.Finding) {
	p.t.Helper()
	out, errs, code := p.run(append([]string{"doctor", "-o", "json"}, args...)...)
	var r struct {
		Schema           string
		Errors, Warnings int
		Findings         []storage.Finding
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil || r.Schema != "ingestd.doctor/1" {
		p.t.Fatalf("doctor: exit %d, %v, schema %q\n%s%s", code, err, r.Schema, out, errs)
	}
	want := exitDone
	if r.Errors+r.Warnings > 0 {
		want = exitFindings
	}
	for _, f := range r.Findings {
		if f.Severity != storage.SeverityError && f.Severity != storage.SeverityWarning {
			continue
		}
		if f.Why == "" || f.Mend == "" || f.NotChecked && f.Detail == "" {
			p.t.Errorf("not fit for a person: %+v", f)
		}
		words := fmt.Sprintf("%s %s", f.Check, f.Severity)
		if f.NotChecked {
			words += " not checked"
		}
		bad = append(bad, words)
	}
	if code != want || len(bad) != r.Errors+r.Warnings {
		p.t.Errorf("doctor: exit %d with %d errors and %d warnings; it lists %q\n%s", code, r.Errors, r.Warnings, bad, errs)
	}
	if !device.ReadStationClock().Synchronised {
		i := slices.Index(bad, "station_clock warning")
		if i < 0 {
			p.t.Fatalf("nothing keeps this machine's clock, and doctor tells %q", bad)
		}
		bad = slices.Delete(bad, i, i+1)
	}
	return bad, r.Findings
}

func (p *place) doctorFinds(want ...string) []storage.Finding {
	p.t.Helper()
	bad, all := p.doctor()
	if !slices.Equal(bad, want) {
		p.t.Errorf("doctor finds %q, want %q\n%+v", bad, want, all)
	}
	return all
}

// has tells what a check found.
func has(findings []storage.Finding, check string, severity storage.Severity) bool {
	return slices.ContainsFunc(findings, func(f storage.Finding) bool { return f.Check == check && f.Severity == severity })
}

func TestDoctorChangesNothingAndFindsACleanStationClean(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	for range 2 {
		p.doctorFinds()
	}
	for _, made := range []string{"state", "store"} {
		if _, err := os.Lstat(p.path(made)); err == nil {
			t.Errorf("doctor has made %s", made)
		}
	}
	d := p.startDaemon()
	all := p.doctorFinds() // beside it
	for _, check := range []string{"settings", "state_dir", "state_space", "signing_key", "trusted_keys", "ledger", "journal", "timezone", "usb", "bucket", "self_test"} {
		if !has(all, check, severityOK) {
			t.Errorf("%s is not told to be in order", check)
		}
	}
	if bad, all := p.doctor("--try-key"); len(bad) != 0 || !has(all, storage.CheckStationKey, storage.SeverityNote) {
		t.Errorf("--try-key: %q", bad)
	}
	if code := d.stop(); code != 0 || strings.Contains(d.log(), "storage.audit") {
		t.Errorf("exit %d\n%s", code, d.log())
	}
	p.doctorFinds() // without it
}

func TestDoctorFindsWhatIsWrongAtTheStation(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	p.must("run", "--check-only")
	for name, c := range map[string]struct {
		spoil func() error
		mend  func() error
		want  []string
	}{
		"key that all can read": {
			func() error { return os.Chmod(p.path("state/station.key"), 0o644) },
			func() error { return os.Chmod(p.path("state/station.key"), 0o600) },
			[]string{"signing_key error", "trusted_keys warning not checked", "ledger warning not checked"},
		},
		"key that is gone": {
			func() error { return os.Rename(p.path("state/station.key"), p.path("key")) },
			func() error { return os.Rename(p.path("key"), p.path("state/station.key")) },
			[]string{"signing_key error", "trusted_keys warning not checked", "ledger warning not checked"},
		},
		"state that all can write": {
			func() error { return os.Chmod(p.path("state"), 0o777) },
			func() error { return os.Chmod(p.path("state"), 0o700) },
			[]string{"state_dir error"},
		},
		"state that all can see": {
			func() error { return os.Chmod(p.path("state"), 0o755) },
			func() error { return os.Chmod(p.path("state"), 0o700) },
			[]string{"state_dir warning"},
		},
		"ledger that was changed": {
			func() error { return edit(p.path("state/ledger/entries.jsonl"), `"key.made"`, `"key.mode"`) },
			func() error { return edit(p.path("state/ledger/entries.jsonl"), `"key.mode"`, `"key.made"`) },
			[]string{"ledger error"},
		},
		"keys of another station": {
			func() error { return edit(p.path("state/allowed_signers"), "TEST-01", "TEST-02") },
			func() error { return edit(p.path("state/allowed_signers"), "TEST-02", "TEST-01") },
			[]string{"trusted_keys error", "bucket_marker error"}, // this station has signed the marker
		},
		"journal that is none": {
			func() error {
				return errors.Join(os.Rename(p.path("state/journal.db"), p.path("journal")), os.WriteFile(p.path("state/journal.db"), []byte(strings.Repeat("x", 8192)), 0o600))
			},
			func() error { return os.Rename(p.path("journal"), p.path("state/journal.db")) },
			[]string{"journal error", "station_clock warning not checked", "bucket_marker warning not checked", "self_test warning not checked"},
		},
		"settings": {
			func() error { return edit(p.path("ingestd.yaml"), "state_dir", "state_dri") },
			func() error { return edit(p.path("ingestd.yaml"), "state_dri", "state_dir") },
			nil,
		},
	} {
		if err := c.spoil(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if name == "settings" { // nothing can be looked at, not the clock either
			out, _, code := p.run("doctor")
			if code != exitFindings || !strings.Contains(out, "state_dri") || strings.Count(out, "未检查") != len(localChecks)+2 {
				t.Errorf("%s: exit %d\n%s", name, code, out)
			}
		} else if bad, all := p.doctor(); !sameSet(bad, c.want) {
			t.Errorf("%s: doctor finds %q, want %q\n%+v", name, bad, c.want, all)
		}
		if err := c.mend(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	p.doctorFinds()
}

func sameSet(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}

func edit(path, from, to string) error {
	body, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !strings.Contains(string(body), from) {
		return fmt.Errorf("%s has no %s", path, from)
	}
	return os.WriteFile(path, []byte(strings.Replace(string(body), from, to, 1)), 0o600)
}

// TestTheBucketsOfAServer shares one server, which takes seconds to start.
func TestTheBucketsOfAServer(t *testing.T) {
	t.Parallel()
	server := storetest.MinIO(t, false)
	for name, check := range map[string]func(*testing.T, *storetest.Server){
		"Clean": cleanBucket, "Spoilt": spoiltBucket, "LookAlike": lookAlikeBucket,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, server)
		})
	}
}

// watchingPlace is a place at a server whose daemon has something to watch.
func watchingPlace(t *testing.T, c storage.Config) *place {
	t.Helper()
	p := s3Place(t, c)
	p.write("card/a.mp4", "footage") // smaller than there
	if err := edit(p.path("ingestd.yaml"), "state_dir: state", "state_dir: state\nsources:\n  - {path: drop, kind: folder}"); err != nil {
		t.Fatal(err)
	}
	return p
}

func cleanBucket(t *testing.T, server *storetest.Server) {
	c := server.Config()
	p := watchingPlace(t, c)
	p.doctorFinds()
	if exists, err := server.Client().BucketExists(t.Context(), c.Bucket); err != nil || exists {
		t.Errorf("doctor has made the bucket: %v, %v", exists, err)
	}
	p.must("run", "--check-only")
	before := keysOf(t, server, c.Bucket, "")
	p.doctorFinds()
	if after := keysOf(t, server, c.Bucket, ""); !slices.Equal(before, after) {
		t.Errorf("doctor has changed the bucket from %q to %q", before, after)
	}
	if bad, _ := p.doctor("--try-key"); !slices.Equal(bad, []string{"station_key warning"}) { // it is the root key
		t.Errorf("--try-key finds %q", bad)
	}
}

func spoiltBucket(t *testing.T, server *storetest.Server) {
	c := server.Config()
	markedByAnother(t, c) // with which the station shares it: that is no fault
	p := watchingPlace(t, c)
	if out, errs, code := p.run("run", "--check-only"); code != exitDone || !strings.Contains(out, "in order\n") ||
		strings.Count(errs, "storage.marked") != 1 || !strings.Contains(errs, "signature was not checked") {
		t.Errorf("a good bucket: exit %d\n%s%s", code, out, errs)
	}
	if all := p.doctorFinds(); !has(all, storage.CheckBucketMarker, storage.SeverityNote) {
		t.Errorf("it is not told that the marker was not verified: %+v", all)
	}
	weak, days, unit := minio.Compliance, uint(30), minio.Days
	if err := server.Client().SetBucketObjectLockConfig(t.Context(), c.Bucket, &weak, &days, &unit); err != nil {
		t.Fatal(err)
	}
	if out, errs, code := p.run("run", "--check-only"); code != exitDone || !strings.Contains(out, "1 warning(s)") || !strings.Contains(errs, `"level":"warn","event":"storage.audit"`) {
		t.Errorf("a warning: exit %d\n%s%s", code, out, errs)
	}
	p.doctorFinds("default_retention warning")
	if err := server.Client().SetBucketObjectLockConfig(t.Context(), c.Bucket, nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	rules := lifecycle.NewConfiguration()
	rules.Rules = []lifecycle.Rule{{ID: "tidy", Status: "Enabled", Expiration: lifecycle.Expiration{Days: 30}}}
	if err := server.Client().SetBucketLifecycle(t.Context(), c.Bucket, rules); err != nil {
		t.Fatal(err)
	}
	p.doctorFinds("lifecycle error")
	out, _, code := p.run("doctor")
	for _, says := range []string{"错误 ERROR  1\n", "lifecycle ", "why ", "mend ", `"tidy"`} {
		if code != exitFindings || !strings.Contains(out, says) {
			t.Errorf("exit %d, without %q:\n%s", code, says, out)
		}
	}
	if _, errs, code := p.run("run", "--check-only"); code != exitFindings || !strings.Contains(errs, "endanger footage") {
		t.Errorf("an error: exit %d\n%s", code, errs)
	}
	d := p.startDaemon()
	d.waitFor(`"level":"error","event":"storage.audit"`)
	p.write("drop/card1/a.mp4", "footage")
	d.waitFor(`"event":"ingest.finished","slot":"card1"`)
	if code := d.stop(); code != 0 || strings.Count(d.log(), "storage.audit") != 1 {
		t.Errorf("exit %d\n%s", code, d.log())
	}
}

func lookAlikeBucket(t *testing.T, server *storetest.Server) {
	c := server.Config()
	p := watchingPlace(t, c)
	p.ingest(0, "card", "--recorder", "R1")
	p.write("card/new.mp4", "more footage")
	refused := func(how string) {
		t.Helper()
		for _, args := range [][]string{{"ingest", "card", "--recorder", "R1"}, {"run"}, {"run", "--check-only"}} {
			out, errs, code := p.run(args...)
			if code != exitFailed || !strings.Contains(errs, "not the bucket that the station knows") || !strings.Contains(errs, "storage.bucket") || strings.Contains(out, "可以取下") {
				t.Fatalf("%s: %v: exit %d\n%s%s", how, args, code, out, errs) // a daemon that is not refused would not end
			}
		}
		p.doctorFinds("bucket_marker error")
	}
	// The marker is hidden, as anybody can who may delete.
	client := server.Client()
	if err := client.RemoveObject(t.Context(), c.Bucket, storage.MarkerKey, minio.RemoveObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	refused("a hidden marker")
	// Another bucket in its place, empty, and one that another station has marked.
	if err := server.DropBucket(c.Bucket); err != nil {
		t.Fatal(err)
	}
	if bad, _ := p.doctor(); !slices.Equal(bad, []string{"store error", "bucket warning not checked"}) {
		t.Errorf("a bucket that is gone: %q", bad)
	}
	if exists, err := client.BucketExists(t.Context(), c.Bucket); err != nil || exists {
		t.Errorf("doctor has made the bucket: %v, %v", exists, err)
	}
	if err := client.MakeBucket(t.Context(), c.Bucket, minio.MakeBucketOptions{ObjectLocking: true}); err != nil {
		t.Fatal(err)
	}
	refused("an empty bucket")
	markedByAnother(t, c)
	refused("a bucket of another station")
	if stored := keysOf(t, server, c.Bucket, "TEST-01/"); len(stored) != 0 {
		t.Errorf("it was stored there: %q", stored)
	}
}

// markedByAnother gives the bucket the marker of another station.
func markedByAnother(t *testing.T, c storage.Config) {
	t.Helper()
	v, err := storage.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	sign := func([]byte) ([]byte, error) { return []byte("by a key that nobody has here"), nil }
	if _, err := v.MakeMarker(t.Context(), "TEST-02", sign); err != nil {
		t.Fatal(err)
	}
}

// keysOf lists all versions below a prefix.
func keysOf(t *testing.T, server *storetest.Server, bucket, prefix string) (keys []string) {
	t.Helper()
	for o := range server.Client().ListObjectsIter(t.Context(), bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true, WithVersions: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		keys = append(keys, o.Key+" "+o.VersionID)
	}
	return keys
}
