package console

import (
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/bodyworn/ingestd/ingest/accounts"
)

// Page is one route behind the login. The frame has seen to it, before Serve is called,
// that the account's role may, that the session in the path is there and may be seen by
// it, that the password was given again where it must be, and that the ledger has a
// line of event view.page with the page's Name, the session and the query.
type Page struct {
	// Route is a pattern of http.ServeMux, with GET or POST: "GET /admin/sessions". A
	// session in the path is {session}, and then in Visit.Session.
	Route string
	// Name is stable: in the ledger, and with "page." before it in the catalogues.
	Name  string
	Roles []accounts.Role // who may; nobody else
	// Menu is its place in the menu, from 1 on; 0: it is not in it.
	Menu int
	// Query names what of the query the ledger shall have.
	Query []string
	// PasswordAgain wants the form's field "password" to be the account's once more, for
	// what can't be undone. {{template "password" .}} is that field.
	PasswordAgain bool
	// Unseen is a page that shows nothing but the way to others, or writes a line of its
	// own: the frame writes none.
	Unseen bool
	Serve  func(*Visit) error
}

var (
	everybody = accounts.Roles()
	// ofFootage are those who may know what footage there is; an officer his own.
	ofFootage = []accounts.Role{accounts.Officer, accounts.Auditor, accounts.Admin}
)

// allPages is the place to add pages: one function with its table for each file.
func (c *Console) allPages() []Page {
	return slices.Concat(
		[]Page{{Route: "GET /{$}", Name: "start", Roles: everybody, Unseen: true, Serve: c.start}},
		c.sessionPages(),
		c.playbackPages(),
		c.retentionPages(),
		c.holdPages(),
		c.disposalPages(),
		c.recorderPages(),
		c.stationPages(),
		c.ledgerPages(),
		c.statsPages(),
		c.apiPages(),
	)
}

// start leads to the first page of the menu.
func (c *Console) start(v *Visit) error {
	for _, m := range v.Menu() {
		http.Redirect(v.w, v.r, m.Path, http.StatusSeeOther)
		return nil
	}
	return Problem{Status: http.StatusNotFound, Code: "not_found"}
}

// routes is all that is served. What is not among the pages shows nothing of the
// station.
func (c *Console) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /static/{file}", c.static)
	handle := func(route string, answer http.HandlerFunc) {
		_, path, _ := strings.Cut(route, " ")
		mux.HandleFunc(route, c.observed(path, answer))
	}
	handle("GET /login", c.loginForm)
	handle("POST /login", c.login)
	handle("POST /logout", c.logout)
	if c.oidc != nil {
		handle("GET /login/oidc", c.oidcBegin)
		handle("GET /login/oidc/back", c.oidcBack)
	}
	for _, p := range c.pages {
		handle(p.Route, c.page(p))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodPost {
			w.Header().Set("Allow", "GET, HEAD, POST")
			c.fail(w, r, Problem{Status: http.StatusMethodNotAllowed, Code: "method_not_allowed"})
			return
		}
		c.fail(w, r, Problem{Status: http.StatusNotFound, Code: "not_found"})
	})
	return mux
}

// static gives a file of the folder static by its name, and no other.
func (c *Console) static(w http.ResponseWriter, r *http.Request) {
	name := "static/" + r.PathValue("file")
	if info, err := fs.Stat(files, name); err != nil || info.IsDir() || path.Dir(name) != "static" {
		c.fail(w, r, Problem{Status: http.StatusNotFound, Code: "not_found"})
		return
	}
	http.ServeFileFS(w, r, files, name)
}
