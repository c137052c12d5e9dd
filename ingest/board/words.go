package board

import (
	"embed"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nicksnyder/go-i18n/v2/i18n"
	"golang.org/x/text/language"
)

// The languages of the board.
const (
	Chinese = "zh-CN"
	English = "en"
)

var languages = []string{Chinese, English}

//go:embed words/*.json
var catalogues embed.FS

var bundle = func() *i18n.Bundle {
	b := i18n.NewBundle(language.MustParse(Chinese))
	b.RegisterUnmarshalFunc("json", json.Unmarshal)
	for _, lang := range languages {
		if _, err := b.LoadMessageFileFS(catalogues, "words/active."+lang+".json"); err != nil {
			panic(fmt.Sprintf("board: %v", err))
		}
	}
	return b
}()

// words speaks one language.
type words struct{ localizer *i18n.Localizer }

func wordsOf(lang string) words { return words{i18n.NewLocalizer(bundle, lang)} }

// say gives the text of a message; the pairs are the names and values in it. What is
// missing shows as such: the board must not fall silent for it.
func (w words) say(id string, pairs ...any) string {
	data := map[string]any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		data[fmt.Sprint(pairs[i])] = pairs[i+1]
	}
	text, err := w.localizer.Localize(&i18n.LocalizeConfig{MessageID: id, TemplateData: data})
	if err != nil {
		return "⟦" + id + "⟧"
	}
	return text
}

// span tells a length of time as coarsely as it matters. It has no sign: fast and
// slow are words.
func (w words) span(d time.Duration) string {
	s := int(d.Abs().Seconds())
	switch {
	case s >= 86400:
		return w.say("span.days", "D", s/86400)
	case s >= 3600:
		return w.say("span.hours", "H", s/3600, "M", s%3600/60)
	case s >= 600:
		return w.say("span.minutes", "M", s/60)
	case s >= 60:
		return w.say("span.minutes_seconds", "M", s/60, "S", s%60)
	}
	return w.say("span.seconds", "S", s)
}

// size is a number of bytes in decimal units, as on a card's label.
func size(bytes int64) string {
	switch {
	case bytes >= 1e12:
		return fmt.Sprintf("%.1f TB", float64(bytes)/1e12)
	case bytes >= 1e9:
		return fmt.Sprintf("%.1f GB", float64(bytes)/1e9)
	}
	return fmt.Sprintf("%d MB", (bytes+999_999)/1_000_000)
}
