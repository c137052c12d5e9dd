package console

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/bodyworn/ingestd/ingest/accounts"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage/ledger"
)

// Visit is one request of somebody who is logged in, to a page that he may see.
type Visit struct {
	Words
	Account accounts.Account
	Address string          // where it comes from, without a port
	Session journal.Session // of the path, if it has {session}

	c    *Console
	page Page
	w    http.ResponseWriter
	r    *http.Request
}

// Request is what was asked for.
func (v *Visit) Request() *http.Request { return v.r }

// Writer is for pages that answer with something else than a template.
func (v *Visit) Writer() http.ResponseWriter { return v.w }

// Context ends with the request.
func (v *Visit) Context() context.Context { return v.r.Context() }

// Record writes to the ledger what the account does. What comes of it comes after.
func (v *Visit) Record(e ledger.Entry) error {
	e.Actor = v.Account.Actor()
	if e.Session == "" && v.Session.ID != "" {
		e.Session, e.Recorder, e.Officer = v.Session.ID, v.Session.Recorder, v.Session.Officer
	}
	return v.c.write(v.Context(), e)
}

// Show answers with a template of the folder templates, which defines "main" and gets
// a Screen.
func (v *Visit) Show(name string, data any) error { return v.ShowAs(http.StatusOK, name, data) }

// ShowAs is Show with another status, for a form that is not accepted.
func (v *Visit) ShowAs(status int, name string, data any) error {
	s := v.c.screen(v.Words, v.T("page."+v.page.Name), data)
	s.Visit = v
	return v.c.show(v.w, status, name, s)
}

// Screen is what the layout and a page's template get.
type Screen struct {
	Words
	*Visit         // nil before the login
	Title   string // of the page
	Station string // its name; may be empty
	Demo    bool
	Data    any // of the page
}

func (c *Console) screen(words Words, title string, data any) Screen {
	return Screen{Words: words, Title: title, Station: c.Name, Demo: c.Demo, Data: data}
}

// With is the same reader with other data, for a template within a template.
func (s Screen) With(data any) Screen {
	s.Data = data
	return s
}

// ClockTrusted tells whether a time service keeps the station's clock; else each page
// says that times are uncertain.
func (v *Visit) ClockTrusted() bool { return v.c.Station.Clock().Synchronised }

// Admin tells whether the account may give orders.
func (v *Visit) Admin() bool { return v.Account.Role == accounts.Admin }

// Officer tells whether the account sees its own sessions only.
func (v *Visit) Officer() bool { return v.Account.Role == accounts.Officer }

// Technical tells whether the account looks after the machine.
func (v *Visit) Technical() bool {
	return v.Account.Role == accounts.Admin || v.Account.Role == accounts.ITStaff
}

// Footage tells whether the account may know what footage there is.
func (v *Visit) Footage() bool { return slices.Contains(ofFootage, v.Account.Role) }

// MenuItem is an entry of the menu.
type MenuItem struct {
	Name, Path string
	Here       bool
}

// Menu is what the account may see of it.
func (v *Visit) Menu() (items []MenuItem) {
	pages := slices.DeleteFunc(slices.Clone(v.c.pages), func(p Page) bool { return p.Menu == 0 || !slices.Contains(p.Roles, v.Account.Role) })
	slices.SortStableFunc(pages, func(a, b Page) int { return a.Menu - b.Menu })
	for _, p := range pages {
		_, path, _ := strings.Cut(p.Route, " ")
		items = append(items, MenuItem{p.Name, path, p.Menu == v.page.Menu || strings.HasPrefix(v.r.URL.Path, path+"/")})
	}
	return items
}

// page puts the frame around a page. The order is its promise:
//
//  1. Who is it? Without a login there is the way to it, and nothing else.
//  2. May the role, and may it see this session? A refusal is told to the ledger.
//  3. The password again, where the page wants it.
//  4. The ledger has a line; without it nothing is shown.
//  5. The page.
func (c *Console) page(p Page) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := c.visit(w, r, p); err != nil && !ctxDone(r.Context(), err) {
			c.fail(w, r, err)
		}
	}
}

func (c *Console) visit(w http.ResponseWriter, r *http.Request, p Page) error {
	account, err := c.whoIs(r.Context())
	if err != nil {
		return err
	}
	if account == nil {
		if r.Method == http.MethodGet && !isAPI(r) {
			http.Redirect(w, r, "/login?next="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
			return nil
		}
		return Problem{Status: http.StatusUnauthorized, Code: "login_required"}
	}
	v := &Visit{Words: c.words(w, r), Account: *account, Address: c.address(r), c: c, page: p, w: w, r: r}
	if !slices.Contains(p.Roles, account.Role) {
		return v.refuse("role " + string(account.Role))
	}
	if id := r.PathValue("session"); id != "" {
		s, err := c.Journal.Session(r.Context(), id)
		if err != nil {
			return err
		}
		if !account.MaySee(s.Officer) {
			return v.refuse("a session of another officer: " + s.ID)
		}
		v.Session = s
	}
	if p.PasswordAgain {
		if err := v.passwordAgain(); err != nil {
			return err
		}
	}
	if !p.Unseen {
		if err := v.Record(ledger.Entry{Event: "view.page", Detail: v.what()}); err != nil {
			return err
		}
	}
	return p.Serve(v)
}

// what tells the ledger what is looked at.
func (v *Visit) what() map[string]string {
	detail := map[string]string{"page": v.page.Name, "address": v.Address}
	if v.r.Method != http.MethodGet {
		detail["method"] = v.r.Method
	}
	asked := url.Values{}
	for _, name := range v.page.Query {
		if value := v.Query(name); value != "" {
			asked.Set(name, value)
		}
	}
	if len(asked) > 0 {
		detail["query"] = asked.Encode()
	}
	return detail
}

// queryAtMost bounds a value of the query, in bytes.
const queryAtMost = 200

// Query gives a value of the query in a form that the ledger can hold and a page show.
func (v *Visit) Query(name string) string {
	value := v.Shown(strings.TrimSpace(v.r.URL.Query().Get(name)))
	if len(value) > queryAtMost {
		value = strings.ToValidUTF8(value[:queryAtMost], "")
	}
	return value
}

// refuse tells the ledger and gives the answer.
func (v *Visit) refuse(why string) error {
	e := ledger.Entry{Event: "auth.refused", Actor: v.Account.Actor(), Reason: why, Detail: map[string]string{"page": v.page.Name, "address": v.Address}}
	if err := v.c.Station.RecordRefusal(v.Context(), e); err != nil {
		return v.c.unwritten(err)
	}
	return Problem{Status: http.StatusForbidden, Code: "forbidden"}
}

// passwordAgain asks for it once more. Who came from a provider has none here: he must
// have logged in a moment ago.
func (v *Visit) passwordAgain() error {
	if v.Account.Elsewhere {
		if v.c.Journal.Now().Sub(v.c.loginAt(v.Context())) > freshLogin {
			return Problem{Status: http.StatusForbidden, Code: "login_again"}
		}
		return nil
	}
	err := v.c.Accounts.Confirm(v.Context(), v.Account.Name, v.r.PostFormValue("password"), v.Address)
	return v.c.loginProblem(err, "wrong_password")
}

// write is the only way to the ledger: what can't be written is not shown.
func (c *Console) write(ctx context.Context, e ledger.Entry) error {
	if err := c.Station.Record(ctx, e); err != nil {
		return c.unwritten(err)
	}
	return nil
}

func (c *Console) unwritten(err error) error {
	return Problem{Status: http.StatusServiceUnavailable, Code: "ledger_unavailable", cause: err}
}

// show makes the whole page before a byte of it is sent.
func (c *Console) show(w http.ResponseWriter, status int, name string, s Screen) error {
	t := c.screens[name]
	if t == nil {
		return fmt.Errorf("console: there is no template %s", name)
	}
	var page bytes.Buffer
	if err := t.ExecuteTemplate(&page, "layout", s); err != nil {
		return fmt.Errorf("console: template %s: %w", name, err)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, err := page.WriteTo(w)
	return err
}

// fail answers with what went wrong, in words for people, or for programs as RFC 9457
// has it. What is our fault is told to whoever looks after the station.
func (c *Console) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(err)
	if s, ok := w.(*seen); ok {
		s.problem = p.Code
	}
	if p.Status >= http.StatusInternalServerError {
		c.tell(p)
	}
	words := c.words(w, r)
	if p.RetryAfter > 0 {
		w.Header().Set("Retry-After", p.Wait())
	}
	if isAPI(r) {
		p.writeJSON(w, words)
		return
	}
	if err := c.show(w, p.Status, "error.html", c.screen(words, words.T("error."+p.Code), p)); err != nil {
		http.Error(w, http.StatusText(p.Status), p.Status)
	}
}
