//go:build faults

package faults

import (
	"database/sql"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"

	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/storetest"
)

// makeTemplates lets the self-test pass once for each kind of store.
func (s *settings) makeTemplates(t *testing.T, server *storetest.Server) {
	t.Helper()
	k := &kind{t: t, s: s, name: "template"}
	for _, embedded := range []bool{true, false} {
		p := &place{t: t, k: k, name: "template", random: rand.New(rand.NewPCG(1, 1))}
		if embedded {
			p.embedded()
			s.templates.embedded = p.dir
		} else {
			p.station(s.minio, server.Client())
			s.templates.minio = p.dir
		}
		if r := p.start(nil, "run", "--check-only").wait(); r.code != 0 {
			t.Fatalf("run --check-only: exit %d\n%s", r.code, r.errs)
		}
		// Each station has a key and a ledger of its own.
		for _, name := range []string{"station.key", "station.key.pub", "allowed_signers", "ledger"} {
			if err := os.RemoveAll(p.path("state/" + name)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// prepare gives the place a journal, and a store, with the self-test passed, so
// that its cases begin with work.
func (p *place) prepare() {
	p.t.Helper()
	from, store := p.k.s.templates.minio, p.server.Endpoint+"/"+p.server.Bucket
	folders := []string{"state"}
	if p.server.Endpoint == "" {
		from, store = p.k.s.templates.embedded, p.path("store")+"/footage"
		folders = append(folders, "store")
	}
	for _, folder := range folders {
		// With extended attributes: they hold the store's locks.
		if out, err := exec.Command("cp", "-a", "--", from+"/"+folder, p.dir).CombinedOutput(); err != nil {
			p.t.Fatalf("copy a prepared %s: %v\n%s", folder, err, out)
		}
	}
	db, err := sql.Open("sqlite", p.path("state/journal.db"))
	if err != nil {
		p.t.Fatal(err)
	}
	_, err = db.Exec("UPDATE self_tests SET store = ?", store)
	if err := errors.Join(err, db.Close()); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) embedded() {
	p.t.Helper()
	p.station(storage.Config{}, nil)
}
