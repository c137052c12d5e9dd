package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/ingest/catalog"
	"github.com/bodyworn/ingestd/storage/storetest"
)

type rebuiltJSON struct {
	Schema string
	catalog.Result
}

// said is what the commands say of all sessions, for programs.
func (p *place) said(more ...string) string {
	p.t.Helper()
	list := func(args ...string) string {
		return p.must(append(append([]string{"sessions"}, args...), append(more, "-o", "json")...)...)
	}
	text := list("list")
	for _, line := range strings.Split(text, "\n") {
		if id, ok := strings.CutPrefix(strings.TrimSpace(line), `"id": "`); ok {
			text += list("show", strings.TrimSuffix(id, `",`))
		}
	}
	return text
}

// loseDisk leaves of the state directory what is kept in a safe: the key.
func (p *place) loseDisk(key bool) {
	p.t.Helper()
	kept, err := os.ReadFile(p.path("state/station.key"))
	if err := errors.Join(err, os.RemoveAll(p.path("state"))); err != nil {
		p.t.Fatal(err)
	}
	if key {
		p.write("state/station.key", string(kept))
	}
}

// The station's disk is gone: what storage/README.md says to do, to the letter.
func TestTheStationsDiskIsGone(t *testing.T) {
	t.Parallel()
	for name, place := range map[string]func(*testing.T) *place{
		"embedded": func(t *testing.T) *place { return newPlace(t, testConfig) },
		"minio":    func(t *testing.T) *place { return s3Place(t, storetest.MinIO(t, false).Config()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := place(t)
			p.write("card/图.mp4", "footage")
			p.write("card/\xd6\xb4.mp4", "a name in GBK")
			p.write("card/"+strings.Repeat("长", 80)+".mp4", "a long name")
			p.ingest(0, "card", "--recorder", "R1", "--officer", "052507")
			p.ingest(0, "card", "--recorder", "R1") // identical
			p.write("bad/a.mp4", "footage")
			if err := os.Symlink("/etc", p.path("bad/link")); err != nil {
				t.Fatal(err)
			}
			p.ingest(0, "bad")
			before := p.said()
			list := p.must("ledger", "tail", "-n", "100")
			if out, errs, code := p.run("catalog", "rebuild"); code != exitRefused || !strings.Contains(errs, "left as it is") {
				t.Errorf("over a journal: exit %d\n%s%s", code, out, errs)
			}

			p.loseDisk(true)
			if out, err := exec.Command("sh", "-c", fmt.Sprintf(`cd %s && echo "TEST-01 $(ssh-keygen -y -f station.key)" > allowed_signers`, p.path("state"))).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			p.must("ledger", "fetch")
			var r rebuiltJSON
			p.into(&r, 0, "catalog", "rebuild")
			if r.Sessions != 3 || len(r.Problems) != 0 || r.Stations[0].Keys != catalog.KeysGiven || r.BucketID == "" {
				t.Errorf("%+v", r)
			}
			if after := p.said(); after != before {
				t.Errorf("it says\n%s\nand said\n%s", after, before)
			}
			if found := p.verify(0, "--all"); len(found) != 0 {
				t.Errorf("found %v", found)
			}
			if r := p.ingest(0, "card", "--recorder", "R1"); !r.Safe || r.Stored != 0 || r.Identical == 0 {
				t.Errorf("docked again: %s, %d stored, %d identical", r.State, r.Stored, r.Identical)
			}
			if out := p.must("ledger", "tail", "-n", "100"); !strings.HasPrefix(strings.TrimSpace(out), strings.TrimSpace(list)) {
				t.Errorf("the ledger began anew:\n%s\nit was\n%s", out, list)
			}
			p.must("ledger", "verify")
			if name == "embedded" {
				p.goesOn()
			}
			p.withoutKey()
		})
	}
}

// goesOn has the daemon work on what was rebuilt, and refuse to have it rebuilt meanwhile.
func (p *place) goesOn() {
	p.t.Helper()
	d := p.startDaemon()
	d.sealed("later", map[string]string{"c.mp4": "later"})
	if out, errs, code := p.run("catalog", "rebuild"); code != exitLocked {
		p.t.Errorf("beside the daemon: exit %d\n%s%s", code, out, errs)
	}
	if code := d.stop(); code != 0 {
		p.t.Errorf("the daemon ended with %d:\n%s", code, d.log())
	}
	if found := p.verify(0, "--all"); len(found) != 0 {
		p.t.Errorf("found %v", found)
	}
}

// withoutKey is the same where the key is gone too: all can be read, nobody goes on.
func (p *place) withoutKey() {
	p.t.Helper()
	before := p.said()
	signers, err := os.ReadFile(p.path("state/allowed_signers"))
	if err != nil {
		p.t.Fatal(err)
	}
	p.loseDisk(false)
	out := p.must("catalog", "rebuild")
	if !strings.Contains(out, "KEYS FROM THE BUCKET ITSELF, not checked against anything kept elsewhere") {
		p.t.Errorf("it says\n%s", out)
	}
	if after := p.said(); after != before {
		p.t.Errorf("without a key it says\n%s\nand said\n%s", after, before)
	}
	// Somebody has the list of keys still: it is believed, and the bucket's is not asked.
	if err := os.RemoveAll(p.path("state")); err != nil {
		p.t.Fatal(err)
	}
	p.write("handed-over", string(signers))
	if out := p.must("catalog", "rebuild", "--allowed-signers", p.path("handed-over")); !strings.Contains(out, "keys that were given") {
		p.t.Errorf("it says\n%s", out)
	}
	if after := p.said(); after != before {
		p.t.Error("by the list that was handed over it says something else")
	}
}

// All stations of a bucket are read in one catalog, beside a station that is at work.
func TestACatalogOfAllStations(t *testing.T) {
	t.Parallel()
	c := storetest.MinIO(t, false).Config()
	said := map[string]string{}
	var p *place
	for _, id := range []string{"TEST-01", "TEST-02"} {
		p = s3Place(t, c)
		text, err := os.ReadFile(p.path("ingestd.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		p.write("ingestd.yaml", strings.Replace(string(text), "TEST-01", id, 1))
		p.write("small/a.mp4", id)
		p.ingest(0, "small", "--recorder", "R1")
		said[id] = p.must("sessions", "show", p.ids()[0], "-o", "json")
	}
	for args, want := range map[string]int{
		"--all-stations":               exitUsage,
		"--into merged":                exitUsage,
		"--all-stations --into state":  exitUsage,
		"--allowed-signers nowhere":    exitNotFound,
		"--all-stations --into merged": 0,
	} {
		if out, errs, code := p.run(append([]string{"catalog", "rebuild"}, strings.Fields(args)...)...); code != want {
			t.Errorf("%s: exit %d, want %d\n%s%s", args, code, want, out, errs)
		}
	}
	if out, errs, code := p.run("catalog", "rebuild", "--all-stations", "--into", "merged"); code != exitRefused || !strings.Contains(errs, "catalog for reading") {
		t.Errorf("twice: exit %d\n%s%s", code, out, errs)
	}
	for id, want := range said {
		session := want[strings.Index(want, `"id": "`)+len(`"id": "`):]
		session, _, _ = strings.Cut(session, `"`)
		if got := p.must("sessions", "show", session, "--catalog", "merged", "-o", "json"); got != want {
			t.Errorf("%s: it says\n%s\nand said\n%s", id, got, want)
		}
	}
	if out, errs, code := p.run("sessions", "list", "--catalog", "nowhere"); code != exitNotFound {
		t.Errorf("no catalog: exit %d\n%s%s", code, out, errs)
	}
	// A station that is pointed at it does not work with it.
	text, err := os.ReadFile(p.path("ingestd.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	p.write("ingestd.yaml", strings.Replace(string(text), "state_dir: state", "state_dir: merged", 1))
	for _, args := range []string{"ingest small", "run --check-only"} {
		if out, errs, code := p.run(strings.Fields(args)...); code == 0 || !strings.Contains(errs, "catalog for reading") {
			t.Errorf("%s: exit %d\n%s%s", args, code, out, errs)
		}
	}
}

// ids are those of the sessions, the latest first.
func (p *place) ids() (ids []string) {
	p.t.Helper()
	var list struct{ Items []struct{ ID string } }
	p.into(&list, 0, "sessions", "list")
	for _, s := range list.Items {
		ids = append(ids, s.ID)
	}
	return ids
}

// killedWhileRebuilding leaves nothing of a journal, or all of it, at any moment.
func (p *place) killedWhileRebuilding(whole string) {
	p.t.Helper()
	seed := rand.Uint64()
	p.t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 6 {
		cmd := p.command("catalog", "rebuild")
		if err := cmd.Start(); err != nil {
			p.t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(random.Int64N(int64(time.Second))), func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // killed, or done
		timer.Stop()
		if ids := p.ids(); len(ids) == 0 {
			continue
		}
		if said := p.said(); said != whole {
			p.t.Errorf("killed, it says\n%s\nand said\n%s", said, whole)
		}
		p.loseDisk(true)
	}
}

// Footage without a manifest is listed, and the rest is there; a kill leaves a journal
// that can be rebuilt.
func TestACatalogTellsWhatIsMissing(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	if out, errs, code := p.run("catalog", "rebuild"); code != exitNotFound || !strings.Contains(errs, `nothing lies below "TEST-01/"`) {
		t.Errorf("an empty bucket: exit %d\n%s%s", code, out, errs)
	}
	p.write("card/a.mp4", "footage")
	whole := p.ingest(0, "card", "--recorder", "R1").Session.ID
	before := p.said()
	open := whole[:len(whole)-8] + "abcdefgh"
	dir := p.path(filepath.Join("store/data/footage/TEST-01", whole[:4]+"-"+whole[4:6]+"-"+whole[6:8]))
	// cp keeps the extended attributes in which the store has what it knows.
	if out, err := exec.Command("cp", "-a", filepath.Join(dir, whole), filepath.Join(dir, open)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, name := range []string{"manifest.json", "manifest.json.sig", "SHA256SUMS", "SHA256SUMS.sig"} {
		if err := os.Remove(filepath.Join(dir, open, name)); err != nil {
			t.Fatal(err)
		}
	}
	p.loseDisk(true)
	if err := os.MkdirAll(p.path("state/catalog.building-1/x"), 0o700); err != nil { // of one that was killed
		t.Fatal(err)
	}
	p.killedWhileRebuilding(before)
	var r rebuiltJSON
	p.into(&r, exitFindings, "catalog", "rebuild")
	if len(r.Problems) != 1 || r.Problems[0].Kind != catalog.NoManifest || r.Problems[0].Session != open || r.Problems[0].Objects != 1 || r.Sessions != 1 {
		t.Errorf("%+v", r)
	}
	if after := p.said(); after != before {
		t.Errorf("it says\n%s\nand said\n%s", after, before)
	}
	if left, _ := filepath.Glob(p.path("state/catalog.building-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
