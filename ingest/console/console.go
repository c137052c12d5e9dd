// Package console is what administrators, inspectors and officers see of stored
// footage, in a browser. It stands at the end of the flow: it reads the journal and the
// ledger, and gives the orders of people to package custody.
//
// Its promises:
//   - Nobody sees or does anything without an account whose role may (see Page.Roles),
//     and what anybody sees or does the ledger has before. Where the ledger can't be
//     written nothing is shown.
//   - There is no way here to change, cut, rename or delete footage (第十三条); disposal
//     is a plan of package custody.
//   - It can end, be attacked or be out of order without ingest taking any notice.
//
// How a page is added is in pages.go.
package console

import (
	"context"
	"crypto/tls"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/nicksnyder/go-i18n/v2/i18n"

	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/accounts"
	"github.com/bodyworn/ingestd/ingest/continuity"
	"github.com/bodyworn/ingestd/ingest/custody"
	"github.com/bodyworn/ingestd/ingest/journal"
)

//go:embed templates static i18n
var files embed.FS

// How long a login lasts.
const (
	IdleTimeout = 15 * time.Minute // without a request
	Lifetime    = 8 * time.Hour    // in any case
)

// Options are what a console works with.
type Options struct {
	Station  *ingest.Station // whose ledger has what is done here
	Journal  *journal.Journal
	Evidence ingest.Evidence
	Accounts *accounts.Book
	Footage  Footage // nil: there is no store to read
	// Desk gives what orders about footage are carried out with; the console says who
	// gives them. Nil: there is none.
	Desk func() *custody.Desk
	// Retention is the retention file; nil: there is none that could be changed.
	Retention Retention
	// HasProfile tells whether there is a profile of recorders of a name.
	HasProfile func(name string) (bool, error)
	// Continuity gives what looks for signs of gaps in sessions, with the profiles as they
	// are by now.
	Continuity func() *continuity.Examiner
	Software   string // what runs, for people
	// Ports are where slots are, by their names: a USB port or a folder.
	Ports map[string]string
	// Attention gives the events that a person should look after, the latest first; nil:
	// nobody keeps them.
	Attention func() []ingest.Noted
	Location  *time.Location
	Name      string // of the station, for people; may be empty

	Listen string // host:port
	// Certificate is the console's; nil: no TLS, on a loopback address or behind a proxy
	// only (第十二条).
	Certificate *tls.Certificate
	// Renewed reads the certificate again; nil: it is never renewed while the console runs.
	Renewed func() (*tls.Certificate, error)
	// BehindProxy says that a proxy speaks TLS with browsers, and tells where they are
	// in X-Forwarded-For. Nobody but the proxy may reach Listen then.
	BehindProxy bool
	// AllowedHosts are the names that browsers know the console by, beside those of a
	// loopback address.
	AllowedHosts []string
	// Demo puts 演示 on every page.
	Demo bool
	// Provider lets accounts of an OpenID provider in; nil: there is none.
	Provider *Provider
	// Observe is told of every request to a route; it may be nil.
	Observe func(Served)
	// Events is called where a person must look after the console; it may be nil.
	Events func(ingest.Event)
}

// Console is safe for concurrent use.
type Console struct {
	Options
	sessions *scs.SessionManager
	bundle   *i18n.Bundle
	screens  map[string]*template.Template
	pages    []Page
	handler  http.Handler
	oidc     *oidcLogin // nil: no provider

	renewEvery time.Duration
	patience   time.Duration // with orders

	// pair is the certificate that is in use; it points to nil where there is none.
	pair atomic.Pointer[tls.Certificate]

	life   context.Context // ends with Run
	end    context.CancelFunc
	orders sync.WaitGroup // that are being carried out

	watching sync.Mutex
	watched  map[viewing]time.Time // guarded by watching; since when

	mu   sync.Mutex
	told map[string]time.Time // guarded by mu; when trouble was told of last, by its code
}

// New makes a console. It refuses what would send passwords or footage over a network
// that others can read.
func New(o Options) (*Console, error) {
	if err := checkListen(o); err != nil {
		return nil, err
	}
	c := &Console{Options: o, told: map[string]time.Time{}, watched: map[viewing]time.Time{}, renewEvery: renewEvery, patience: orderPatience}
	c.pair.Store(o.Certificate)
	c.life, c.end = context.WithCancel(context.Background())
	var err error
	if c.bundle, err = readCatalogues(); err != nil {
		return nil, err
	}
	if c.screens, err = readTemplates(); err != nil {
		return nil, err
	}
	c.sessions = &scs.SessionManager{
		Store: &logins{of: map[string]login{}}, HashTokenInStore: true, Codec: scs.GobCodec{}, IdleTimeout: IdleTimeout, Lifetime: Lifetime,
		Cookie:    scs.SessionCookie{Name: c.cookieName("session"), Path: "/", HttpOnly: true, Secure: c.secure(), SameSite: http.SameSiteStrictMode},
		ErrorFunc: func(w http.ResponseWriter, r *http.Request, err error) { c.fail(w, r, err) },
	}
	if o.Provider != nil {
		c.oidc = newOIDCLogin(*o.Provider)
	}
	c.pages = c.allPages()
	c.handler = c.guarded(c.routes())
	return c, nil
}

func checkListen(o Options) error {
	host, _, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return fmt.Errorf("console: listen on %q: %w", o.Listen, err)
	}
	if o.Certificate == nil && !o.BehindProxy && !isLoopback(host) {
		return fmt.Errorf("console: %s can be reached from the network, and has neither a certificate nor a proxy before it that has one: passwords and footage would be readable there (第十二条)", o.Listen)
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// secure tells whether browsers speak TLS with us.
func (c *Console) secure() bool { return c.Certificate != nil || c.BehindProxy }

// cookieName binds a cookie to this host and to TLS. On a loopback address without TLS
// it can't: browsers other than Chromium would not keep it.
func (c *Console) cookieName(name string) string {
	if c.secure() {
		return "__Host-ingestd-" + name
	}
	return "ingestd-" + name
}

// Handler is the console for a server of the caller's.
func (c *Console) Handler() http.Handler { return c.handler }

// tellAgainAfter is how long the same trouble is told of once: strangers can bring it
// about as often as they like.
const tellAgainAfter = time.Minute

// tell has a person look after trouble.
func (c *Console) tell(p Problem) {
	c.mu.Lock()
	again := time.Since(c.told[p.Code]) < tellAgainAfter
	if !again {
		c.told[p.Code] = time.Now()
	}
	c.mu.Unlock()
	if !again {
		c.emit(ingest.Event{Name: "console.trouble", Level: ingest.Alarm, Err: p.cause, Message: "a page of the console could not be shown: " + p.Code})
	}
}

func (c *Console) emit(e ingest.Event) {
	if c.Events != nil {
		e.Time = time.Now()
		c.Events(e)
	}
}

func readTemplates() (map[string]*template.Template, error) {
	base, err := template.ParseFS(files, "templates/layout.html")
	if err != nil {
		return nil, err
	}
	entries, err := files.ReadDir("templates")
	if err != nil {
		return nil, err
	}
	screens := map[string]*template.Template{}
	for _, e := range entries {
		if e.Name() == "layout.html" {
			continue
		}
		t, err := base.Clone()
		if err == nil {
			t, err = t.ParseFS(files, "templates/"+e.Name())
		}
		if err != nil {
			return nil, err
		}
		screens[e.Name()] = t
	}
	return screens, nil
}

func ctxDone(ctx context.Context, err error) bool {
	return errors.Is(err, context.Canceled) && ctx.Err() != nil
}
