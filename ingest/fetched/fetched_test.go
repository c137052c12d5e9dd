package fetched_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emmansun/gmsm/sm3"

	"github.com/bodyworn/ingestd/ingest/fetched"
	"github.com/bodyworn/ingestd/ingest/manifest"
	"github.com/bodyworn/ingestd/storage/stationkey"
)

func told(all []fetched.Finding) []string {
	lines := []string{}
	for _, f := range all {
		lines = append(lines, string(f.Problem)+" "+f.Path)
	}
	slices.Sort(lines)
	return lines
}

func TestWhatWasFetchedWholeIsWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write("notes of the checker.txt", "x")
	w.write(station+"/keys/k.pub", "x")
	w.write(station+"/ledger/entries/x", "x")
	o := w.options()
	var done, total int64
	o.Progress = func(d, of int64) { done, total = d, of }
	r := w.check(w.dir, o)
	if !r.Whole() || len(r.Sessions) != 2 || r.Files != 13 || done != r.Bytes || total != r.Bytes {
		t.Fatalf("found %v, not checked %v, %d sessions, %d files, progress %d of %d, read %d", r.Findings, r.NotChecked, len(r.Sessions), r.Files, done, total, r.Bytes)
	}
	a, b := r.Sessions[0], r.Sessions[1]
	if a.Path != first || a.Station != station || a.Files != 4 || a.Elsewhere != 0 || a.SignedBy != w.key.Fingerprint() || !a.NamedByFolder || a.LedgerLine == nil || *a.LedgerLine != 0 {
		t.Errorf("%+v", a)
	}
	if b.Files != 1 || b.Elsewhere != 1 || b.LedgerLine == nil || *b.LedgerLine != 1 || len(b.NotStored) != 1 || b.NotStored[0] != (fetched.NotStored{Path: "bad.MP4", Result: "unreadable", Reason: "input/output error"}) {
		t.Errorf("%+v", b)
	}
	if r.Ledger == nil || r.Ledger.Size != 2 || r.Ledger.Held != 4 || r.Ledger.Station != station || len(r.Ledger.Told) != 0 {
		t.Errorf("ledger %+v", r.Ledger)
	}
	// A station may have any name; its sessions are not overlooked.
	w.must(os.CopyFS(w.path("keys/2026-11-23/20261123-175500-x8m2p4qa"), os.DirFS(w.path(first))))
	if r := w.check(w.dir, o); len(r.Sessions) != 3 || !slices.Equal(told(r.Findings), []string{"foreign keys/2026-11-23/20261123-175500-x8m2p4qa/manifest.json"}) {
		t.Errorf("a station that is called keys: %v", r.Findings)
	}
	// One session alone, with its own name and with any other.
	if r := w.check(w.path(first), fetched.Options{Ring: w.ring}); !r.Whole() || !r.Sessions[0].NamedByFolder || r.Sessions[0].LedgerLine != nil || r.Ledger != nil {
		t.Errorf("alone: %+v %+v", r, r.Sessions[0])
	}
	w.must(os.CopyFS(w.path("../session"), os.DirFS(w.path(first))))
	if r := w.check(w.path("../session"), o); !r.Whole() || r.Sessions[0].NamedByFolder {
		t.Errorf("under another name: %v %+v", r.Findings, r.Sessions[0])
	}
}

// What the folder alone can't show is said to be unknown, and is no success.
func TestUnknownIsSaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, c := range map[string]struct {
		dir     string
		options func() fetched.Options
		want    []string
		says    string
	}{
		"whose signature it is": {w.path(first), func() fetched.Options { return fetched.Options{} },
			[]string{"signer SHA256SUMS.sig", "signer manifest.json.sig"}, "not known whose"},
		"whose ledger it is": {w.path(first), func() fetched.Options { return fetched.Options{Ledger: w.ledgers[1]} },
			[]string{"ledger " + w.ledgers[1], "signer SHA256SUMS.sig", "signer manifest.json.sig"}, "not known whose"},
		"what lies in another session": {w.path(second), w.options, []string{"elsewhere " + first + "/footage/DCIM/a.MP4"}, "20261123-175500-x8m2p4qa"},
	} {
		r := w.check(c.dir, c.options())
		if got := told(r.NotChecked); len(r.Findings) != 0 || r.Whole() || !slices.Equal(got, c.want) || !strings.Contains(fmt.Sprint(r.NotChecked), c.says) {
			t.Errorf("%s: found %v, not checked %v, want %v", name, r.Findings, r.NotChecked, c.want)
		}
		if c.options().Ring == nil && (r.Sessions[0].SignedBy != "" || r.Ledger != nil) {
			t.Errorf("%s: %+v %+v", name, r.Sessions[0], r.Ledger)
		}
	}
}

func TestEveryTamperingIsFound(t *testing.T) {
	t.Parallel()
	whole := newWorld(t)
	const clip, doc, sums = first + "/footage/DCIM/a.MP4", first + "/manifest.json", first + "/SHA256SUMS"
	edit := func(name, old, new string) func(*world) {
		return func(w *world) {
			body := w.read(name)
			if !strings.Contains(body, old) {
				w.t.Fatalf("%s is not in %s", old, name)
			}
			w.write(name, strings.Replace(body, old, new, 1))
		}
	}
	remove := func(names ...string) func(*world) {
		return func(w *world) {
			for _, name := range names {
				w.must(os.Remove(w.path(name)))
			}
		}
	}
	manifestOf := func(w *world, at string) *manifest.Manifest {
		m, err := manifest.Decode([]byte(w.read(at + "/manifest.json")))
		w.must(err)
		return m
	}
	const unlike = "disagree " + sums
	for name, c := range map[string]struct {
		do   func(*world)
		want []string
	}{
		"a flipped byte": {edit(clip, "footage", "Footage"), []string{"mismatch " + clip, "mismatch " + clip}}, // of both sessions
		"a cut file":     {edit(second+"/footage/DCIM/c.MP4", " second", ""), []string{"mismatch " + second + "/footage/DCIM/c.MP4"}},
		"a removed file": {remove(first + "/footage/empty"), []string{"missing " + first + "/footage/empty"}},
		"an added file":  {func(w *world) { w.write(first+"/footage/z.MP4", "x") }, []string{"extra " + first + "/footage/z.MP4"}},
		"an added copy":  {func(w *world) { w.write(first+"/footage/z.MP4", "more footage") }, []string{"extra " + first + "/footage/z.MP4"}},
		"a file beside":  {func(w *world) { w.write(first+"/readme.txt", "x") }, []string{"extra " + first + "/readme.txt"}},
		"a file in no session": {func(w *world) { w.write(station+"/2026-11-23/x.MP4", "x") },
			[]string{"extra " + station + "/2026-11-23/x.MP4"}},
		"a renamed file": {func(w *world) {
			w.must(os.Rename(w.path(first+"/footage/DCIM/b.MP4"), w.path(first+"/footage/DCIM/d.MP4")))
		}, []string{"renamed " + first + "/footage/DCIM/b.MP4"}},
		"two files exchanged": {func(w *world) {
			w.write(first+"/footage/DCIM/b.MP4", "a picture")
			w.write(first+"/footage/图 片.JPG", "more footage")
		}, []string{"mismatch " + first + "/footage/DCIM/b.MP4", "mismatch " + first + "/footage/图 片.JPG"}},
		"a link to the right bytes": {func(w *world) {
			w.must(os.Rename(w.path(first+"/footage/DCIM/b.MP4"), w.path("../b.MP4")))
			w.must(os.Symlink(w.path("../b.MP4"), w.path(first+"/footage/DCIM/b.MP4")))
		}, []string{"missing " + first + "/footage/DCIM/b.MP4", "special " + first + "/footage/DCIM/b.MP4"}},
		"a linked folder": {func(w *world) {
			w.must(os.Rename(w.path(first+"/footage/DCIM"), w.path("../DCIM")))
			w.must(os.Symlink(w.path("../DCIM"), w.path(first+"/footage/DCIM")))
		}, []string{"missing " + clip, "missing " + clip, "missing " + first + "/footage/DCIM/b.MP4", "special " + first + "/footage/DCIM"}},
		"a changed manifest": {edit(doc, `"slot": ""`, `"slot": "7"`),
			[]string{"unsigned " + doc + ".sig", unlike, "ledger " + doc}},
		"a cut manifest": {func(w *world) { w.write(doc, w.read(doc)[:200]) },
			[]string{"damaged " + doc, "mismatch " + doc, "unsigned " + doc + ".sig"}},
		"an empty manifest": {func(w *world) { w.write(doc, "") },
			[]string{"damaged " + doc, "mismatch " + doc, "unsigned " + doc + ".sig"}},
		"no manifest":  {remove(doc, doc+".sig"), []string{"missing " + doc, "missing " + doc + ".sig"}},
		"no sums":      {remove(sums), []string{"missing " + sums}},
		"no signature": {remove(doc + ".sig"), []string{"missing " + doc + ".sig"}},
		"no documents, only footage": {remove(doc, doc+".sig", sums, sums+".sig"),
			[]string{"missing " + doc, "missing " + doc + ".sig", "missing " + sums, "missing " + sums + ".sig"}},
		"a line of the sums twice": {func(w *world) { w.write(sums, w.read(sums)+strings.SplitAfter(w.read(sums), "\n")[0]) },
			[]string{"duplicate " + sums, "unsigned " + sums + ".sig"}},
		"sums that are cut": {func(w *world) { w.write(sums, strings.TrimSuffix(w.read(sums), "\n")) },
			[]string{"damaged " + sums, "unsigned " + sums + ".sig"}},
		"empty sums": {func(w *world) { w.write(sums, "") }, []string{"damaged " + sums, "unsigned " + sums + ".sig"}},
		"sums in another order": {func(w *world) {
			lines := strings.SplitAfter(w.read(sums), "\n")
			w.write(sums, lines[1]+lines[0]+strings.Join(lines[2:], ""))
		}, []string{unlike, "unsigned " + sums + ".sig"}},
		"a changed file with sums that fit it": {func(w *world) {
			edit(clip, "footage", "Footage")(w)
			edit(sums, hexSum("footage of the first"), hexSum("Footage of the first"))(w)
		}, []string{unlike, "mismatch " + clip, "mismatch " + clip, "unsigned " + sums + ".sig"}},
		"the right key signed sums that the manifest contradicts": {func(w *world) {
			w.signed(sums, strings.Replace(w.read(sums), hexSum("more footage"), hexSum("less footage"), 1), w.key)
		}, []string{unlike}},
		"all signed anew by another key": {func(w *world) { w.documents(first, manifestOf(w, first), w.newKey(station)) },
			[]string{"unsigned " + doc + ".sig", "unsigned " + sums + ".sig"}},
		"another past under the right key": {func(w *world) {
			m := manifestOf(w, first)
			m.Session.DockedAt = m.Session.DockedAt.AddDate(0, -1, 0)
			w.documents(first, m, w.key)
		}, []string{"ledger " + doc}},
		"another session's signed manifest": {func(w *world) {
			w.write(doc, w.read(second+"/manifest.json"))
			w.write(doc+".sig", w.read(second+"/manifest.json.sig"))
		}, []string{"foreign " + doc, "mismatch " + doc}},
		"another session's signature": {func(w *world) { w.write(doc+".sig", w.read(second+"/manifest.json.sig")) },
			[]string{"unsigned " + doc + ".sig"}},
		"another session, all of it": {func(w *world) {
			w.must(os.RemoveAll(w.path(second)))
			w.must(os.CopyFS(w.path(second), os.DirFS(w.path(first))))
		}, []string{"foreign " + second + "/manifest.json"}},
		"under another date": {func(w *world) {
			w.must(os.Rename(w.path(station+"/2026-11-23"), w.path(station+"/2026-10-23")))
		}, nil},
		"under no session's name": {func(w *world) { w.must(os.Rename(w.path(first), w.path(filepath.Dir(first)+"/session"))) }, nil},
		"under another station":   {func(w *world) { w.must(os.Rename(w.path(station), w.path("NMQ-02"))) }, nil},
		"totals that do not fit": {func(w *world) {
			m := manifestOf(w, first)
			m.Totals.Stored++
			w.documents(first, m, w.key)
		}, []string{"disagree " + doc, "ledger " + doc}},
		"a manifest that points out of its folder": {func(w *world) {
			m := manifestOf(w, first)
			m.Files[3].Object.Key = first + "/footage/../../../../../../etc/hostname"
			w.documents(first, m, w.key)
		}, []string{"disagree " + doc, "extra " + first + "/footage/empty", "ledger " + doc}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := whole.copied(t)
			c.do(w)
			r := w.check(w.dir, w.options())
			if r.Whole() {
				t.Fatal("nothing was seen")
			}
			got := told(r.Findings)
			if c.want == nil { // sessions that do not lie where their manifests say
				if !strings.Contains(strings.Join(got, "\n"), "foreign ") {
					t.Errorf("found %v", r.Findings)
				}
				return
			}
			want := slices.Sorted(slices.Values(c.want))
			if !slices.Equal(got, want) {
				t.Errorf("found\n%s\nwant\n%s\n%v", strings.Join(got, "\n"), strings.Join(want, "\n"), r.Findings)
			}
		})
	}
}

func TestTheLedgerMustBearItOut(t *testing.T) {
	t.Parallel()
	whole := newWorld(t)
	const lines1, lines2 = "entries/0000000000000000-0000000000000001.jsonl", "entries/0000000000000001-0000000000000002.jsonl"
	change := func(name, old, new string) func(*world) {
		return func(w *world) {
			at := filepath.Join(w.ledgers[1], name)
			body, err := os.ReadFile(at)
			w.must(err)
			w.must(os.WriteFile(at, []byte(strings.Replace(string(body), old, new, 1)), 0o600))
		}
	}
	for name, c := range map[string]struct {
		do   func(*world)
		says string
	}{
		"a changed line":        {change(lines1, "sealed", "failed"), "changed"},
		"a changed checkpoint":  {change("checkpoint/0000000000000002", "\n2\n", "\n3\n"), "checkpoint"},
		"a removed segment":     {func(w *world) { w.must(os.Remove(filepath.Join(w.ledgers[1], lines1))) }, "hole"},
		"its end cut off":       {func(w *world) { w.must(os.Remove(filepath.Join(w.ledgers[1], lines2))) }, "hole"},
		"an older one put back": {func(w *world) { w.ledgers[1] = w.ledgers[0] }, "the end is missing"},
		"lines exchanged": {func(w *world) {
			a, b := filepath.Join(w.ledgers[1], lines1), filepath.Join(w.ledgers[1], lines2)
			one, err1 := os.ReadFile(a)
			two, err2 := os.ReadFile(b)
			w.must(errors.Join(err1, err2, os.WriteFile(a, two, 0o600), os.WriteFile(b, one, 0o600)))
		}, "changed"},
		"a link": {func(w *world) {
			at := filepath.Join(w.ledgers[1], lines2)
			w.must(errors.Join(os.Rename(at, w.path("../moved")), os.Symlink(w.path("../moved"), at)))
		}, "error"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := whole.copied(t)
			c.do(w)
			r, err := fetched.Check(t.Context(), w.dir, w.options())
			if c.says == "error" {
				if err == nil {
					t.Errorf("followed: %+v", r)
				}
				return
			}
			w.must(err)
			if !strings.Contains(fmt.Sprint(r.Findings), c.says) || r.Sessions[1].LedgerLine != nil && r.Sessions[0].LedgerLine != nil {
				t.Errorf("%v", r.Findings)
			}
		})
	}
	// Without the paper an older state of the ledger is one; that it lacks a session shows.
	o := fetched.Options{Ring: whole.ring, Ledger: whole.ledgers[0]}
	if r := whole.check(whole.dir, o); len(r.Findings) != 1 || r.Findings[0].Path != second+"/manifest.json" || r.Sessions[0].LedgerLine == nil {
		t.Errorf("%v", r.Findings)
	}
	o.Ledger = whole.path(first) // no ledger
	if _, err := fetched.Check(t.Context(), whole.dir, o); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder without a ledger: %v", err)
	}
}

// A key counts for its station, and for its time.
func TestKeysAreTrustedForTheirStationAndTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := w.path(first)
	elsewhere := &stationkey.Ring{}
	w.trust(elsewhere, "NMQ-02", w.key)
	if r := w.check(dir, fetched.Options{Ring: elsewhere}); !slices.Equal(told(r.Findings), []string{"unsigned SHA256SUMS.sig", "unsigned manifest.json.sig"}) || r.Sessions[0].SignedBy != "" {
		t.Errorf("another station's: %v", r.Findings)
	}
	if r := w.check(dir, fetched.Options{Ring: elsewhere, Ledger: w.ledgers[1]}); !slices.Contains(told(r.NotChecked), "ledger "+w.ledgers[1]) {
		t.Errorf("another station's: %v", r.NotChecked)
	}
	ended := &stationkey.Ring{}
	w.must(ended.Add(stationkey.Signer{Principal: station, Key: w.key.Public(), ValidBefore: docked.AddDate(0, 0, 1)}))
	if r := w.check(dir, fetched.Options{Ring: ended, SignedAt: docked}); !r.Whole() {
		t.Errorf("in its time: %v", r.Findings)
	}
	if r := w.check(dir, fetched.Options{Ring: ended, SignedAt: time.Now().AddDate(100, 0, 0)}); len(r.Findings) != 2 {
		t.Errorf("after its time: %v", r.Findings)
	}
}

func TestFoldersThatAreNoSession(t *testing.T) {
	t.Parallel()
	empty := t.TempDir()
	for _, dir := range []string{empty, filepath.Join(empty, "none")} {
		if _, err := fetched.Check(t.Context(), dir, fetched.Options{}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", dir, err)
		}
	}
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := fetched.Check(ctx, w.dir, w.options()); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// A session with SM3 digests has a third signed list, which must say what its manifest
// says; one without has none.
func TestTheListOfSM3(t *testing.T) {
	t.Parallel()
	const sums = first + "/SM3SUMS"
	withSM3 := func(w *world) {
		m, err := manifest.Decode([]byte(w.read(first + "/manifest.json")))
		w.must(err)
		for i := range m.Files {
			if m.Files[i].Object != nil {
				d := sm3.Sum([]byte(w.read(m.Files[i].Object.Key)))
				m.Files[i].SM3 = hex.EncodeToString(d[:])
			}
		}
		w.documents(first, m, w.key)
		d := sm3.Sum([]byte(w.read(first + "/manifest.json")))
		w.signed(sums, string(m.SM3Sums(hex.EncodeToString(d[:]))), w.key)
	}
	for name, c := range map[string]struct {
		do   func(*world)
		want []string
	}{
		"whole":             {withSM3, nil},
		"removed":           {func(w *world) { withSM3(w); w.must(os.Remove(w.path(sums))) }, []string{"missing " + sums}},
		"signature removed": {func(w *world) { withSM3(w); w.must(os.Remove(w.path(sums + ".sig"))) }, []string{"missing " + sums + ".sig"}},
		"edited":            {func(w *world) { withSM3(w); w.write(sums, w.read(sums)+"x") }, []string{"disagree " + sums, "unsigned " + sums + ".sig"}},
		"signed and of another time": {func(w *world) {
			withSM3(w)
			w.signed(sums, strings.Replace(w.read(sums), "a", "b", 1), w.key)
		}, []string{"disagree " + sums}},
		"where there is none": {func(w *world) { w.signed(sums, "x", w.key) }, []string{"disagree " + sums, "extra " + sums, "extra " + sums + ".sig"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c.do(w)
			o := w.options()
			o.Ledger = "" // it has the manifest without SM3
			o.Checkpoints = nil
			if got := told(w.check(w.dir, o).Findings); !slices.Equal(got, c.want) {
				t.Errorf("found %q, want %q", got, c.want)
			}
		})
	}
}
