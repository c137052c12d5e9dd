package console

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/bodyworn/ingestd/ingest/accounts"
)

// Provider is an OpenID provider whose accounts are let in, by the authorization code
// flow with PKCE (OpenID Connect Core 1.0, RFC 7636).
type Provider struct {
	Issuer       string
	Name         string // for people
	ClientID     string
	ClientSecret string       // empty: none
	Client       *http.Client // must bound the time of a request
	// NameClaim and OfficerClaim name the claims with an account's name, and with the id
	// of the officer whose sessions role officer may see. A dot leads into a claim.
	NameClaim, OfficerClaim string
	RoleClaim               string
	Roles                   []RoleOf // the first that fits counts
}

// RoleOf gives a role to who has a value in the claim RoleClaim.
type RoleOf struct {
	Value string
	Role  accounts.Role
}

const (
	// backWithin is how long somebody may take at the provider.
	backWithin = 10 * time.Minute
	// mostBegun bounds the memory of logins that were begun; the oldest is dropped.
	mostBegun = 1000
)

// oidcLogin keeps the logins that were begun and have not come back.
type oidcLogin struct {
	Provider

	mu       sync.Mutex
	known    *oidc.Provider   // guarded by mu; nil: not asked for yet
	begun    map[string]begun // guarded by mu; by the state
	sequence []string         // guarded by mu; the states, the oldest first
}

type begun struct {
	verifier, nonce, next string
	at                    time.Time
}

func newOIDCLogin(p Provider) *oidcLogin { return &oidcLogin{Provider: p, begun: map[string]begun{}} }

// discover asks the provider for its addresses once. It is not done at the start: a
// provider that is away must not keep the accounts of the station out.
func (l *oidcLogin) discover(ctx context.Context) (*oidc.Provider, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known != nil {
		return l.known, nil
	}
	// What is made of this context fetches keys later, when the request has ended.
	p, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), l.Client), l.Issuer)
	if err == nil {
		l.known = p
	}
	return p, err
}

func (l *oidcLogin) remember(state string, b begun) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.begun[state] = b
	if l.sequence = append(l.sequence, state); len(l.sequence) > mostBegun {
		delete(l.begun, l.sequence[0])
		l.sequence = slices.Clone(l.sequence[1:])
	}
}

// takeBack gives what a state stands for, once.
func (l *oidcLogin) takeBack(state string, now time.Time) (begun, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.begun[state]
	delete(l.begun, state)
	return b, ok && now.Sub(b.at) < backWithin
}

func (c *Console) oauth(r *http.Request, p *oidc.Provider) *oauth2.Config {
	scheme := "http"
	if c.secure() {
		scheme = "https"
	}
	return &oauth2.Config{
		ClientID: c.oidc.ClientID, ClientSecret: c.oidc.ClientSecret, Endpoint: p.Endpoint(),
		RedirectURL: scheme + "://" + r.Host + "/login/oidc/back", Scopes: []string{oidc.ScopeOpenID, "profile"},
	}
}

// oidcBegin sends a browser to the provider. It is followed by a link, not a form: the
// policy of our pages lets forms lead to us alone.
func (c *Console) oidcBegin(w http.ResponseWriter, r *http.Request) {
	p, err := c.oidc.discover(r.Context())
	if err != nil {
		c.fail(w, r, Problem{Status: http.StatusBadGateway, Code: "provider", cause: err})
		return
	}
	state := rand.Text()
	b := begun{verifier: oauth2.GenerateVerifier(), nonce: rand.Text(), next: localPath(r.URL.Query().Get("next")), at: time.Now()}
	c.oidc.remember(state, b)
	// Lax: it must come back with who comes from the provider's site.
	http.SetCookie(w, &http.Cookie{Name: c.cookieName("oidc"), Value: state, Path: "/", MaxAge: int(backWithin.Seconds()), Secure: c.secure(), HttpOnly: true, SameSite: http.SameSiteLaxMode})
	// The password is asked for at each login: it stands for "the password again" here.
	http.Redirect(w, r, c.oauth(r, p).AuthCodeURL(state, oauth2.S256ChallengeOption(b.verifier), oidc.Nonce(b.nonce),
		oauth2.SetAuthURLParam("prompt", "login"), oauth2.SetAuthURLParam("max_age", "0")), http.StatusSeeOther)
}

// oidcBack lets in whom the provider vouches for, and who has a role here.
func (c *Console) oidcBack(w http.ResponseWriter, r *http.Request) {
	if err := c.loginProblem(c.Accounts.MayTry(c.address(r)), "provider"); err != nil {
		c.fail(w, r, err)
		return
	}
	a, next, err := c.vouchedFor(r)
	if err != nil {
		if told := c.Accounts.RecordFailure(r.Context(), c.address(r), err.Error()); told != nil {
			c.fail(w, r, c.unwritten(told))
			return
		}
		c.fail(w, r, Problem{Status: http.StatusForbidden, Code: "provider", cause: err})
		return
	}
	if err := c.Accounts.RecordLogin(r.Context(), a, c.address(r), c.oidc.Issuer); err != nil {
		c.fail(w, r, c.unwritten(err))
		return
	}
	if err := c.letIn(r.Context(), a); err != nil {
		c.fail(w, r, err)
		return
	}
	// Not a redirect: that would still be a way from the provider's site, on which
	// browsers keep the session's cookie back.
	words := c.words(w, r)
	if err := c.show(w, http.StatusOK, "login_done.html", c.screen(words, words.T("login.done"), next)); err != nil {
		c.fail(w, r, err)
	}
}

// vouchedFor checks the answer of the provider. Its errors go to the ledger: they quote
// nothing that was not signed by it.
func (c *Console) vouchedFor(r *http.Request) (a accounts.Account, next string, err error) {
	q := r.URL.Query()
	cookie, err := r.Cookie(c.cookieName("oidc"))
	if err != nil || cookie.Value == "" || cookie.Value != q.Get("state") {
		return a, "", errors.New("a login at the provider came back that was not begun in this browser")
	}
	b, ok := c.oidc.takeBack(cookie.Value, time.Now())
	if !ok {
		return a, "", errors.New("a login at the provider came back too late, or twice")
	}
	p, err := c.oidc.discover(r.Context())
	if err != nil {
		return a, "", errors.New("the provider does not answer")
	}
	ctx := oidc.ClientContext(r.Context(), c.oidc.Client)
	token, err := c.oauth(r, p).Exchange(ctx, q.Get("code"), oauth2.VerifierOption(b.verifier))
	if err != nil {
		return a, "", errors.New("the provider did not redeem its code")
	}
	raw, _ := token.Extra("id_token").(string)
	id, err := p.Verifier(&oidc.Config{ClientID: c.oidc.ClientID}).Verify(ctx, raw)
	if err != nil {
		return a, "", errors.New("the provider's ID token does not hold")
	}
	var claims map[string]any
	if err := id.Claims(&claims); err != nil || id.Nonce != b.nonce {
		return a, "", errors.New("the provider's ID token is for another login")
	}
	if at, _ := claims["auth_time"].(float64); time.Since(time.Unix(int64(at), 0)) > freshLogin {
		return a, "", errors.New("the provider did not ask for the password at this login (auth_time)")
	}
	a, err = c.oidc.account(claims)
	return a, b.next, err
}

// nameOfProvider keeps a name from being taken for something else in the ledger.
var nameOfProvider = regexp.MustCompile(`^[A-Za-z0-9@._+-]{1,64}$`)

// account reads who it is. The name begins with oidc/, which no account of the station
// can.
func (p Provider) account(claims map[string]any) (a accounts.Account, err error) {
	name := textsOf(claims, p.NameClaim)
	if len(name) != 1 || !nameOfProvider.MatchString(name[0]) {
		return a, fmt.Errorf("the claim %s is no name of an account", p.NameClaim)
	}
	a = accounts.Account{Name: "oidc/" + name[0], Elsewhere: true}
	values := textsOf(claims, p.RoleClaim)
	for _, r := range p.Roles {
		if slices.Contains(values, r.Value) {
			a.Role = r.Role
			break
		}
	}
	switch a.Role {
	case "":
		return a, fmt.Errorf("%s has no role here", a.Actor())
	case accounts.Officer:
		id := textsOf(claims, p.OfficerClaim)
		if len(id) != 1 || !nameOfProvider.MatchString(id[0]) {
			return a, fmt.Errorf("%s is an officer's, and the claim %s has no id", a.Actor(), p.OfficerClaim)
		}
		a.Officer = id[0]
	}
	return a, nil
}

// textsOf gives the text, or the texts, of a claim; a dot leads into one that has
// others, such as realm_access.roles.
func textsOf(claims map[string]any, name string) (all []string) {
	value, ok := claims[name]
	if outer, inner, dotted := strings.Cut(name, "."); !ok && dotted {
		if within, ok := claims[outer].(map[string]any); ok {
			return textsOf(within, inner)
		}
	}
	switch v := value.(type) {
	case string:
		return []string{v}
	case []any:
		for _, one := range v {
			if text, ok := one.(string); ok {
				all = append(all, text)
			}
		}
	}
	return all
}
