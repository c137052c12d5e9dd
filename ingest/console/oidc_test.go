package console_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/bodyworn/ingestd/ingest/accounts"
	"github.com/bodyworn/ingestd/ingest/console"
)

// provider is an OpenID provider on a loopback address: discovery, keys and the token
// endpoint, which checks PKCE as RFC 7636 has it.
type provider struct {
	*httptest.Server
	key    *rsa.PrivateKey
	signs  *rsa.PrivateKey             // the tokens; key, but where somebody forges
	change func(claims map[string]any) // of the next token; nil: nothing

	mu      sync.Mutex
	pending map[string]url.Values // guarded by mu; the request for a code
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{key: key, signs: key, pending: map[string]url.Values{}}
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(v); err != nil {
			t.Error(err)
		}
	}
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{
			"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys",
			"id_token_signing_alg_values_supported": []string{"RS256"},
		})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "1", Algorithm: "RS256", Use: "sig"}}})
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		asked := p.pending[r.PostFormValue("code")]
		delete(p.pending, r.PostFormValue("code"))
		p.mu.Unlock()
		sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
		if asked == nil || asked.Get("code_challenge_method") != "S256" || base64.RawURLEncoding.EncodeToString(sum[:]) != asked.Get("code_challenge") || r.PostFormValue("redirect_uri") != asked.Get("redirect_uri") {
			http.Error(w, `{"error":"invalid_grant"}`, http.StatusBadRequest)
			return
		}
		claims := map[string]any{
			"iss": p.URL, "aud": "ingestd", "sub": "1", "exp": time.Now().Add(time.Minute).Unix(), "iat": time.Now().Unix(), "auth_time": time.Now().Unix(),
			"nonce": asked.Get("nonce"), "preferred_username": "zhang.san", "realm_access": map[string]any{"roles": []string{"offline", "evidence-inspect"}},
		}
		if p.change != nil {
			p.change(claims)
		}
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: p.signs, KeyID: "1"}}, nil)
		if err != nil {
			t.Error(err)
			return
		}
		id, err := jwt.Signed(signer).Claims(claims).Serialize()
		if err != nil {
			t.Error(err)
			return
		}
		answer(w, map[string]any{"access_token": "none", "token_type": "Bearer", "id_token": id})
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

// authorize is what the provider's own page does when somebody has given his password
// there: it gives the way back.
func (p *provider) authorize(t *testing.T, location string) (back string) {
	t.Helper()
	u, err := url.Parse(location)
	if err != nil || !strings.HasPrefix(location, p.URL+"/authorize?") {
		t.Fatalf("sent to %s", location)
	}
	q := u.Query()
	if q.Get("prompt") != "login" || q.Get("max_age") != "0" || q.Get("nonce") == "" || len(q.Get("state")) < 20 || q.Get("response_type") != "code" {
		t.Errorf("the provider is asked for %v", q)
	}
	code := rand.Text()
	p.mu.Lock()
	p.pending[code] = q
	p.mu.Unlock()
	redirect, err := url.Parse(q.Get("redirect_uri"))
	if err != nil {
		t.Fatal(err)
	}
	return redirect.Path + "?" + url.Values{"code": {code}, "state": {q.Get("state")}}.Encode()
}

func newWorldWith(t *testing.T, p *provider) *world {
	return newWorld(t, func(o *console.Options) {
		o.Provider = &console.Provider{
			Issuer: p.URL, Name: "局统一登录", ClientID: "ingestd", Client: p.Client(), NameClaim: "preferred_username", OfficerClaim: "badge", RoleClaim: "realm_access.roles",
			Roles: []console.RoleOf{{"evidence-admins", accounts.Admin}, {"evidence-inspect", accounts.Auditor}, {"officers", accounts.Officer}},
		}
	})
}

func TestAccountsOfAProvider(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	w := newWorldWith(t, p)
	b := w.browser()
	if a := b.get("/login"); !strings.Contains(a.body, "局统一登录") {
		t.Errorf("the login does not offer the provider:\n%s", a.body)
	}
	a := b.get("/login/oidc?next=/admin/sessions")
	if a.status != http.StatusSeeOther {
		t.Fatalf("%d\n%s", a.status, a.body)
	}
	back := p.authorize(t, a.header.Get("Location"))
	// Another browser has not begun it.
	if a := w.browser().get(back); a.status != http.StatusForbidden || a.header.Get("Set-Cookie") != "" {
		t.Errorf("a login that another browser has begun: %d", a.status)
	}
	// A stranger fills no ledger with it.
	for range 20 {
		if a := w.browser().get("/login/oidc/back?state=x&code=y"); a.status != http.StatusTooManyRequests {
			t.Errorf("right after one that was refused: %d", a.status)
		}
	}
	w.waitOut()
	// Nor has one that has begun another: nobody is led into somebody else's login.
	led := w.browser()
	led.get("/login/oidc")
	if a := led.get(back); a.status != http.StatusForbidden || a.header.Get("Set-Cookie") != "" {
		t.Errorf("a login that another browser has begun, in one that has begun one too: %d", a.status)
	}
	w.waitOut()
	failed := w.lines("auth.login_failed")
	if len(failed) != 2 {
		t.Errorf("%d failures in the ledger", len(failed))
	}
	for _, e := range failed {
		if !strings.Contains(e.Reason, "not begun in this browser") {
			t.Errorf("the ledger has %+v", e)
		}
	}
	a = b.get(back)
	if a.status != http.StatusOK || !strings.Contains(a.body, `content="0; url=/admin/sessions"`) || !strings.Contains(a.header.Get("Set-Cookie"), "SameSite=Strict") {
		t.Fatalf("%d %v\n%s", a.status, a.header, a.body)
	}
	if a := b.get("/admin/sessions"); a.status != http.StatusOK || !strings.Contains(a.body, "oidc/zhang.san（抽检人员）") {
		t.Errorf("%d\n%s", a.status, a.body)
	}
	if lines := w.lines("auth.login"); len(lines) != 1 || lines[0].Actor != "account oidc/zhang.san" || lines[0].Detail["by"] != p.URL || lines[0].Detail["role"] != "auditor" {
		t.Errorf("the ledger has %+v", lines)
	}
	// The same way back is good once.
	if a := b.get(back); a.status != http.StatusForbidden {
		t.Errorf("a second time: %d", a.status)
	}
}

func TestAnswersOfAProviderThatAreRefused(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	w := newWorldWith(t, p)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	roles := func(all ...string) func(map[string]any) {
		return func(c map[string]any) { c["realm_access"] = map[string]any{"roles": all} }
	}
	for name, change := range map[string]func(map[string]any){
		"for another client":       func(c map[string]any) { c["aud"] = "somebody" },
		"of another provider":      func(c map[string]any) { c["iss"] = "https://evil.example" },
		"expired":                  func(c map[string]any) { c["exp"] = time.Now().Add(-time.Hour).Unix() },
		"for another login":        func(c map[string]any) { c["nonce"] = "other" },
		"password not asked for":   func(c map[string]any) { c["auth_time"] = time.Now().Add(-time.Hour).Unix() },
		"nothing of the password":  func(c map[string]any) { delete(c, "auth_time") },
		"no role here":             roles("offline"),
		"no roles":                 func(c map[string]any) { delete(c, "realm_access") },
		"an officer without an id": roles("officers"),
		"no name":                  func(c map[string]any) { delete(c, "preferred_username") },
		"a name that misleads":     func(c map[string]any) { c["preferred_username"] = "wulan （管理员）" },
	} {
		checkRefused(t, w, p, name, change)
	}
	p.signs = other
	checkRefused(t, w, p, "signed with another key", nil)
	p.signs = p.key
	checkRefused(t, w, p, "without PKCE", nil, func(back string) string {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, q := range p.pending {
			q.Set("code_challenge", "other")
		}
		return back
	})
	if n := len(w.lines("auth.login")); n != 0 {
		t.Errorf("%d were let in", n)
	}
	if n := len(w.lines("auth.login_failed")); n != 13 {
		t.Errorf("the ledger has %d that were not", n)
	}
}

func checkRefused(t *testing.T, w *world, p *provider, name string, change func(map[string]any), between ...func(string) string) {
	t.Helper()
	p.change = change
	w.waitOut()
	b := w.browser()
	back := p.authorize(t, b.get("/login/oidc").header.Get("Location"))
	for _, do := range between {
		back = do(back)
	}
	a := b.get(back)
	if a.status != http.StatusForbidden || strings.Contains(fmt.Sprint(a.header["Set-Cookie"]), "session") {
		t.Errorf("%s: %d", name, a.status)
	}
	if a := b.get("/admin/sessions"); a.status != http.StatusSeeOther {
		t.Errorf("%s: then %d", name, a.status)
	}
}

// A provider that is away keeps nobody else out.
func TestAProviderThatIsAway(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	w := newWorldWith(t, p)
	p.Close()
	if a := w.browser().get("/login/oidc"); a.status != http.StatusBadGateway {
		t.Errorf("%d", a.status)
	}
	if a := w.login("li").get("/admin/sessions"); a.status != http.StatusOK {
		t.Errorf("%d", a.status)
	}
}
