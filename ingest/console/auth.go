package console

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/bodyworn/ingestd/ingest/accounts"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage/ledger"
)

// The names of what a login keeps.
const (
	ofAccount   = "account"
	ofLogin     = "login_at"  // nanoseconds of the Unix time
	ofElsewhere = "elsewhere" // the account itself, as a provider has told it
)

// freshLogin is how long a login at a provider stands for a password given again.
const freshLogin = 5 * time.Minute

// whoIs gives the account that is logged in, or nil. It is asked for anew each time: a
// login from before the account was disabled or got another password counts no more.
func (c *Console) whoIs(ctx context.Context) (*accounts.Account, error) {
	name := c.sessions.GetString(ctx, ofAccount)
	if name == "" {
		return nil, nil
	}
	if text := c.sessions.GetBytes(ctx, ofElsewhere); text != nil {
		var a accounts.Account
		if err := json.Unmarshal(text, &a); err != nil {
			return nil, err
		}
		return &a, nil
	}
	a, err := c.Accounts.Account(ctx, name)
	if errors.Is(err, journal.ErrNotFound) || err == nil && (a.Disabled || a.ChangedAt.After(c.loginAt(ctx))) {
		return nil, nil
	}
	return &a, err
}

func (c *Console) loginAt(ctx context.Context) time.Time {
	return time.Unix(0, c.sessions.GetInt64(ctx, ofLogin))
}

// loginScreen is what the login page shows.
type loginScreen struct {
	Next     string
	Name     string
	Problem  *Problem
	Provider string // name of an OpenID provider; empty: none
}

func (c *Console) loginForm(w http.ResponseWriter, r *http.Request) {
	c.showLogin(w, r, http.StatusOK, loginScreen{Next: localPath(r.URL.Query().Get("next"))})
}

func (c *Console) showLogin(w http.ResponseWriter, r *http.Request, status int, s loginScreen) {
	words := c.words(w, r)
	if c.Provider != nil {
		s.Provider = c.Provider.Name
	}
	if err := c.show(w, status, "login.html", c.screen(words, words.T("login.title"), s)); err != nil {
		c.fail(w, r, err)
	}
}

// login lets an account in. Its token is a new one: who has seen or set that of before
// has nothing.
func (c *Console) login(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		c.fail(w, r, err)
		return
	}
	name, next := r.PostForm.Get("name"), localPath(r.PostForm.Get("next"))
	account, err := c.Accounts.Login(r.Context(), name, r.PostForm.Get("password"), c.address(r))
	if err := c.loginProblem(err, "wrong_login"); err != nil {
		if p := problemOf(err); p.Status < http.StatusInternalServerError {
			if p.RetryAfter > 0 {
				w.Header().Set("Retry-After", p.Wait())
			}
			if s, ok := w.(*seen); ok {
				s.problem = p.Code
			}
			c.showLogin(w, r, p.Status, loginScreen{Next: next, Name: name, Problem: &p})
			return
		}
		c.fail(w, r, err)
		return
	}
	if err := c.letIn(r.Context(), account); err != nil {
		c.fail(w, r, err)
		return
	}
	http.Redirect(w, r, next, http.StatusSeeOther)
}

// letIn begins a login that the ledger has already.
func (c *Console) letIn(ctx context.Context, a accounts.Account) error {
	if err := c.sessions.Clear(ctx); err != nil {
		return err
	}
	if err := c.sessions.RenewToken(ctx); err != nil {
		return err
	}
	if a.Elsewhere {
		text, err := json.Marshal(a)
		if err != nil {
			return err
		}
		c.sessions.Put(ctx, ofElsewhere, text)
	}
	c.sessions.Put(ctx, ofAccount, a.Name)
	c.sessions.Put(ctx, ofLogin, c.Journal.Now().UnixNano())
	return nil
}

// logout ends a login, also where the ledger can't have it: that must not keep anybody in.
func (c *Console) logout(w http.ResponseWriter, r *http.Request) {
	if account, err := c.whoIs(r.Context()); err == nil && account != nil {
		err := c.write(r.Context(), ledger.Entry{Event: "auth.logout", Actor: account.Actor(), Detail: map[string]string{"address": c.address(r)}})
		if err != nil {
			c.tell(problemOf(err))
		}
	}
	if err := c.sessions.Destroy(r.Context()); err != nil {
		c.fail(w, r, err)
		return
	}
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

// localPath is where to go after the login: nowhere else than here.
func localPath(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") {
		return "/"
	}
	return next
}
