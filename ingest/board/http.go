package board

import (
	"embed"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	// viewersMost bounds the streams; a station has one screen and some desks.
	viewersMost = 512
	// writeWithin is how long a viewer may take to take what it is sent.
	writeWithin = 5 * time.Second
	// languageFor is how long a chosen language lasts: the screen is everybody's.
	languageFor = time.Hour
)

//go:embed web
var web embed.FS

// static are the files of the page with their types; there are no others.
var static = map[string]string{
	"board.css": "text/css; charset=utf-8", "board.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml",
}

// Handler serves the page at /, its events and its files. It answers only to names
// that it is known by, and to nobody who was led here by another page.
func (b *Board) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", b.page)
	mux.HandleFunc("GET /events", b.events)
	mux.HandleFunc("GET /static/{file}", b.file)
	return b.onlyKnownHosts(withHeaders(http.NewCrossOriginProtection().Handler(mux)))
}

// onlyKnownHosts keeps pages of others, whose name was made to lead here (DNS
// rebinding), from reading the board.
func (b *Board) onlyKnownHosts(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
		ip := net.ParseIP(host)
		if host != "localhost" && (ip == nil || !ip.IsLoopback()) && !slices.ContainsFunc(b.options.AllowedHosts, func(name string) bool { return strings.EqualFold(name, host) }) {
			setHeaders(w.Header())
			http.Error(w, "This board is not known by this name. To let it be, add the name to board.allowed_hosts in ingestd.yaml and start ingestd again.\n"+
				"本画面不认这个主机名。如需使用，请把它加入 ingestd.yaml 的 board.allowed_hosts，再重新启动 ingestd。", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func withHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setHeaders(w.Header())
		next.ServeHTTP(w, r)
	})
}

func setHeaders(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
}

// language is the viewer's choice, else the station's. What a browser asks for is an
// accident of how it was installed.
func (b *Board) language(r *http.Request) string {
	if c, err := r.Cookie("lang"); err == nil && slices.Contains(languages, c.Value) {
		return c.Value
	}
	return b.options.Language
}

func (b *Board) page(w http.ResponseWriter, r *http.Request) {
	if lang := r.URL.Query().Get("lang"); slices.Contains(languages, lang) {
		// Into a cookie and out of the address, which the screen would load for ever.
		http.SetCookie(w, &http.Cookie{Name: "lang", Value: lang, Path: "/", MaxAge: int(languageFor.Seconds()), HttpOnly: true, SameSite: http.SameSiteStrictMode})
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	views, clock := b.station.Slots(), b.options.StationClock()
	b.mu.Lock()
	f := b.feeds[b.language(r)]
	d := f.draw(views, clock, b.room, time.Now())
	b.mu.Unlock()
	other := English
	if f.lang == English {
		other = Chinese
	}
	body := f.render("page", map[string]any{
		"Lang": f.lang, "Other": other, "Options": b.options, "Tiles": d.tiles, "Grid": f.grid(len(d.tiles)), "Status": d.status,
	})
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write([]byte(body)) // a viewer that has gone sees nothing
}

func (b *Board) file(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	kind, ok := static[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	body, err := web.ReadFile("web/" + name)
	if err != nil {
		http.Error(w, fmt.Sprintf("%s is missing in this build", name), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", kind)
	_, _ = w.Write(body) // a viewer that has gone sees nothing
}

var errTooSlow = errors.New("this viewer is too slow")

// events sends everything once and then what changes. Whoever does not keep up is let
// go: a page that comes back is right, one that lags behind is not.
func (b *Board) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	if r.Method == http.MethodHead {
		return
	}
	lang := r.URL.Query().Get("lang")
	if !slices.Contains(languages, lang) {
		lang = b.language(r)
	}
	b.mu.Lock()
	if b.viewers >= viewersMost {
		b.mu.Unlock()
		w.Header().Set("Retry-After", "5")
		http.Error(w, fmt.Sprintf("%d pages are open already; close some", viewersMost), http.StatusServiceUnavailable)
		return
	}
	b.viewers++
	f := b.feeds[lang]
	first, frames := f.subscribe(b.boot)
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.viewers--
		delete(f.viewers, frames)
	}()
	out := http.NewResponseController(w)
	send := func(frame []byte) error {
		if err := out.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
		if _, err := w.Write(frame); err != nil {
			return err
		}
		return out.Flush()
	}
	err := send(append([]byte("retry: 1000\n\n"), first...))
	for err == nil {
		select {
		case frame, ok := <-frames:
			if err = errTooSlow; ok {
				err = send(frame)
			}
		case <-r.Context().Done():
			return
		}
	}
}
