package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/nicksnyder/go-i18n/v2/i18n"
	"golang.org/x/text/language"

	"github.com/bodyworn/ingestd/device"
)

// languages are those that the console speaks; the first is that of who has not chosen.
var languages = []language.Tag{language.MustParse("zh-CN"), language.English}

const languageCookie = "ingestd-lang"

// readCatalogues reads every file of the folder i18n: NAME.LANGUAGE.json.
func readCatalogues() (*i18n.Bundle, error) {
	bundle := i18n.NewBundle(languages[0])
	bundle.RegisterUnmarshalFunc("json", json.Unmarshal)
	entries, err := files.ReadDir("i18n")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if _, err := bundle.LoadMessageFileFS(files, "i18n/"+e.Name()); err != nil {
			return nil, fmt.Errorf("console: catalogue %s: %w", e.Name(), err)
		}
	}
	return bundle, nil
}

// Words speaks the language of a reader, in the station's time.
type Words struct {
	Lang      string // as in the attribute lang
	location  *time.Location
	localizer *i18n.Localizer
}

// words goes by the choice on the page, which a cookie keeps. What a browser says that
// it prefers does not count: it is rarely the reader who has set it.
func (c *Console) words(w http.ResponseWriter, r *http.Request) Words {
	lang := languages[0].String()
	if kept, err := r.Cookie(languageCookie); err == nil && speaks(kept.Value) {
		lang = kept.Value
	}
	if asked := r.URL.Query().Get("lang"); speaks(asked) {
		lang = asked
		http.SetCookie(w, &http.Cookie{Name: languageCookie, Value: lang, Path: "/", MaxAge: 365 * 24 * 3600, Secure: c.secure(), HttpOnly: true, SameSite: http.SameSiteStrictMode})
	}
	return Words{lang, c.Location, i18n.NewLocalizer(c.bundle, lang)}
}

func speaks(lang string) bool {
	for _, l := range languages {
		if l.String() == lang {
			return true
		}
	}
	return false
}

// T gives a message of the catalogues. args are names and values for it: "Count", 3.
func (w Words) T(id string, args ...any) string {
	o := i18n.LocalizeConfig{MessageID: id}
	data := map[string]any{}
	for i := 0; i+1 < len(args); i += 2 {
		data[fmt.Sprint(args[i])] = args[i+1]
	}
	o.TemplateData = data
	if n, ok := data["Count"]; ok {
		o.PluralCount = n
	}
	text, err := w.localizer.Localize(&o)
	if err != nil {
		return "⟦" + id + "⟧" // the tests look for it
	}
	return text
}

// Time is an instant in the station's time zone.
func (w Words) Time(t time.Time) string {
	if t.IsZero() {
		return w.T("unknown")
	}
	return t.In(w.location).Format("2006-01-02 15:04:05")
}

// Day is the day of an instant there.
func (w Words) Day(t time.Time) string {
	if t.IsZero() {
		return w.T("unknown")
	}
	return t.In(w.location).Format(time.DateOnly)
}

// Size is a number of bytes for people, in powers of ten as disks are sold.
func (w Words) Size(bytes int64) string { return humanize.Bytes(uint64(max(0, bytes))) }

// Bytes is Size of a number that is known.
func (w Words) Bytes(n *int64) string { return w.Size(*n) }

// Clock tells how far off a recorder's clock was, in words: + is fast.
func (w Words) Clock(r device.ClockReading) string {
	switch {
	case r.Kind == device.ClockMeasured && r.Offset != nil:
		return w.Offset(*r.Offset)
	case r.Kind == device.ClockBounded && r.AtLeast != nil && *r.AtLeast > 0:
		return w.T("clock.at_least", "Offset", w.Offset(*r.AtLeast))
	case r.Kind == device.ClockBounded && r.AtMost != nil && *r.AtMost < 0:
		return w.T("clock.at_least", "Offset", w.Offset(*r.AtMost))
	}
	return w.T("clock.unknown")
}

// Offset is fast or slow, with no more digits than people read: no seconds from ten
// minutes on, days from a day on.
func (w Words) Offset(d time.Duration) string {
	id, abs := "clock.fast", d
	if d < 0 {
		id, abs = "clock.slow", -d
	}
	var by string
	switch {
	case abs < time.Minute:
		by = w.T("for.seconds", "N", fmt.Sprintf("%.1f", abs.Seconds()))
	case abs < 10*time.Minute:
		by = w.T("for.minutes_seconds", "M", int(abs.Minutes()), "S", int(abs.Seconds())%60)
	case abs < time.Hour:
		by = w.T("for.minutes", "M", int(abs.Minutes()))
	case abs < 24*time.Hour:
		by = w.T("for.hours_minutes", "H", int(abs.Hours()), "M", int(abs.Minutes())%60)
	default:
		by = w.T("for.days", "N", fmt.Sprintf("%.1f", abs.Hours()/24))
	}
	return w.T(id, "By", by)
}

// Shown makes text of a card fit to be seen: no control characters, no bytes that are
// not UTF-8, no marks that turn the direction of writing.
func (w Words) Shown(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r >= 0x200b && r <= 0x200f || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '\uFFFD'
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}

// Short is a digest as it is told on the phone.
func (w Words) Short(digest string) string {
	if len(digest) < 12 {
		return digest
	}
	return digest[:4] + "…" + digest[len(digest)-4:]
}
