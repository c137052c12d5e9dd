package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/storage/ledger"
	"github.com/bodyworn/ingestd/storage/storetest"
)

// stampConfig has checkpoints stamped by an authority, which may be nobody.
func stampConfig(url, caFile string) string {
	return testConfig + fmt.Sprintf("timestamp: {url: %q, ca_file: %q}\n", url, caFile)
}

func TestLedgerVerifyChecksStamps(t *testing.T) {
	t.Parallel()
	a := storetest.NewStampAuthority(t, storetest.StampOptions{})
	p := newPlace(t, stampConfig(a.URL, a.CAFile))
	dir := p.path("store/data/footage/TEST-01/ledger/timestamp")
	stamps := func() []string {
		t.Helper()
		all, err := filepath.Glob(filepath.Join(dir, "*.tsr"))
		if err != nil || len(all) == 0 {
			t.Fatalf("%v, %v", all, err)
		}
		return all
	}

	// By the command in the foreground, and by the daemon.
	p.write("card/a.mp4", "footage")
	p.ingest(0, "card")
	first := stamps()[0]
	d := p.startDaemon()
	d.sealed("card2", map[string]string{"b.mp4": "more"})
	// Five lines are of the first docking; then come a preview and the second docking.
	const size = 8
	d.published(size)
	last := filepath.Join(dir, fmt.Sprintf("%016d.tsr", size))
	for deadline := time.Now().Add(time.Minute); !slices.Contains(stamps(), last); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s is not there\n%s", last, d.log())
		}
	}
	if code := d.stop(); code != 0 {
		t.Errorf("the daemon ended with %d:\n%s", code, d.log())
	}
	body, held := map[string][]byte{}, len(stamps())
	for _, file := range stamps() {
		stamp, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		body[file] = stamp
		signed, err := os.ReadFile(filepath.Join(dir, "../checkpoint", strings.TrimSuffix(filepath.Base(file), ".tsr")))
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Verify(stamp, signed); err != nil {
			t.Error(err)
		}
	}
	if out := p.must("ledger", "verify"); !strings.Contains(out, fmt.Sprintf("stamps    %d hold; the last is over the first %d entries, of ", held, size)) {
		t.Errorf("it says\n%s", out)
	}

	verify := func(want int) (v ledgerVerification, found, told []string) {
		t.Helper()
		p.into(&v, want, "ledger", "verify")
		for _, f := range v.Findings {
			found = append(found, f.Kind)
		}
		for _, f := range v.Told {
			told = append(told, f.Kind)
		}
		return v, found, told
	}
	v, _, told := verify(0)
	if s := v.Stamps; s == nil || s.Held != held || !s.Authority || *s.LastSize != size || s.LastTime == nil || *s.LastAge < -60 || *s.LastAge > 3600 || len(told) != 0 {
		t.Fatalf("%+v, told %v", s, told)
	}
	put := func(file string, with []byte) {
		t.Helper()
		if err := rewrite(file, func([]byte) []byte { return with }); err != nil {
			t.Fatal(err)
		}
	}
	put(last, body[first])
	if v, found, _ := verify(exitFindings); !slices.Equal(found, []string{ledger.FindingStamp}) || v.Sound || v.Stamps.Held != held-1 || *v.Stamps.LastSize >= size {
		t.Errorf("a stamp of another checkpoint: %v, %+v", found, v.Stamps)
	}
	put(last, []byte("garbage"))
	if _, found, _ := verify(exitFindings); !slices.Equal(found, []string{ledger.FindingStamp}) {
		t.Errorf("garbage: %v", found)
	}
	put(last, body[last])

	other := storetest.NewStampAuthority(t, storetest.StampOptions{})
	p.write("ingestd.yaml", stampConfig(a.URL, other.CAFile))
	if v, found, _ := verify(exitFindings); len(found) != held || v.Stamps.Held != 0 {
		t.Errorf("of another authority: %v, %+v", found, v.Stamps)
	}
	p.write("ingestd.yaml", testConfig)
	if v, _, told := verify(0); !slices.Equal(told, []string{findingUnchecked}) || v.Stamps == nil || v.Stamps.Authority || v.Stamps.Held != held {
		t.Errorf("nobody is named: %v, %+v", told, v.Stamps)
	}
	p.write("ingestd.yaml", stampConfig("", a.CAFile))
	if v, _, told := verify(0); len(told) != 0 || v.Stamps == nil || !v.Stamps.Authority {
		t.Errorf("nobody is asked any more: %v, %+v", told, v.Stamps)
	}
}

// A recorder is as safe without a stamp; that there is none is told.
func TestAnAuthorityThatFailsStopsNothing(t *testing.T) {
	t.Parallel()
	a := storetest.NewStampAuthority(t, storetest.StampOptions{})
	a.Answer(func(w http.ResponseWriter, _ []byte, _ func([]byte) []byte) { w.Write([]byte("<html>")) })
	p := newPlace(t, stampConfig(a.URL, a.CAFile))
	p.write("card/a.mp4", "footage")
	out, errs, code := p.run("ingest", "card")
	if code != 0 || !strings.Contains(out, "可以取下") || !strings.Contains(errs, "timestamp.failed") || a.Asked() != 1 {
		t.Errorf("exit %d, asked %d times\n%s%s", code, a.Asked(), out, errs)
	}
	var v ledgerVerification
	p.into(&v, 0, "ledger", "verify")
	if v.Stamps == nil || v.Stamps.Held != 0 || v.Stamps.LastSize != nil || len(v.Told) != 1 || v.Told[0].Kind != findingUnstamped {
		t.Errorf("%+v, told %+v", v.Stamps, v.Told)
	}
}
