package custody_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/signer"

	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/storetest"
)

// A station's own key can't hold; the one of configs/policies can, and can do no more.
func TestTheStationsKeyCanNotHold(t *testing.T) {
	t.Parallel()
	server := storetest.MinIO(t, false)
	p := newDepot(t, server)
	s := p.take(p.card("a.mp4"), "R1")
	station, holder := p.by(lesser(t, server, p.store, "station-minio.json")), p.by(lesser(t, server, p.store, "admin-hold-minio.json"))
	h, err := station.desk("uid 1").Hold(t.Context(), order(journal.Held{Session: s.ID}))
	if !errors.Is(err, storage.ErrDenied) || !strings.Contains(err.Error(), "configs/policies/admin-hold-") || !strings.Contains(err.Error(), "--credentials") ||
		!strings.Contains(err.Error(), h.ID) || h.State != journal.HoldSetting {
		t.Fatalf("%+v, %v", h, err)
	}
	if on, err := p.journal.HoldsOn(t.Context(), s.ID); err != nil || len(on) != 1 {
		t.Errorf("it does not count: %+v, %v", on, err)
	}
	if h, err = holder.desk("uid 1").Retry(t.Context(), h.ID); err != nil || h.State != journal.HoldHeld {
		t.Fatalf("%+v, %v", h, err)
	}
	p.mustBeHeld(true, 5, p.shown(s.Prefix))
	if _, err := station.desk("uid 1").Release(t.Context(), h.ID, "结案"); !errors.Is(err, storage.ErrDenied) {
		t.Errorf("%v", err)
	}
	p.mustBeHeld(true, 5, p.shown(s.Prefix))
	if h, err := holder.desk("uid 1").Retry(t.Context(), h.ID); err != nil || h.State != journal.HoldReleased {
		t.Errorf("%+v, %v", h, err)
	}
	p.mustBeHeld(false, 5, p.shown(s.Prefix))
	// The station's key does what is its own: it lengthens locks.
	if r, err := station.deskWith(standard36).Lengthen(t.Context(), everything); err != nil || len(r.Extended) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	p.mustBeSound()
}

// lesser is a front to MinIO that acts with a key of a policy, whatever key the client
// has: a temporary one of AssumeRole, whose policy stands inline.
func lesser(t *testing.T, server *storetest.Server, store storage.Config, policyFile string) storage.Config {
	t.Helper()
	text, err := os.ReadFile("../../configs/policies/" + policyFile)
	if err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer // such a policy may have 2048 bytes
	if err := json.Compact(&compact, text); err != nil {
		t.Fatal(err)
	}
	root := server.Config()
	sts, err := credentials.NewSTSAssumeRole("http://"+root.Endpoint, credentials.STSAssumeRoleOptions{
		AccessKey: root.AccessKey, SecretKey: root.SecretKey, Location: root.Region, DurationSeconds: 3600,
		Policy: strings.NewReplacer("BUCKET", store.Bucket, "STATION", "station-1").Replace(compact.String()),
	})
	if err != nil {
		t.Fatal(err)
	}
	key, err := sts.GetWithContext(&credentials.CredContext{Client: http.DefaultClient})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(&httputil.ReverseProxy{
		Transport: actingAs{key, root.Region},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", root.Endpoint, root.Endpoint
		},
	})
	t.Cleanup(front.Close)
	store.Endpoint = strings.TrimPrefix(front.URL, "http://")
	return store
}

// actingAs signs every request with another key than the client has.
type actingAs struct {
	key    credentials.Value
	region string
}

func (a actingAs) RoundTrip(r *http.Request) (*http.Response, error) {
	for _, name := range []string{"Authorization", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		r.Header.Del(name)
	}
	r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	return http.DefaultTransport.RoundTrip(signer.SignV4(*r, a.key.AccessKeyID, a.key.SecretAccessKey, a.key.SessionToken, a.region))
}
