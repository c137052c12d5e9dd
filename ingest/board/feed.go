package board

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"slices"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest"
)

// behindMost is how many frames a viewer may be behind before it is let go. It comes
// back and gets everything anew.
const behindMost = 8

// feed is the board in one language, and those who look at it. All of it is guarded
// by the board's mu.
type feed struct {
	lang    string
	words   words
	options Options
	pages   *template.Template
	shown   drawing
	seq     int
	viewers map[chan []byte]struct{} // closed for who was let go
}

// drawing is the board at one moment.
type drawing struct {
	tiles  []tile
	more   int // slots that are not drawn
	status status
}

// status is the board around the tiles, as it is sent with every tick.
type status struct {
	Clock  string         `json:"clock"`  // the station's, to the second
	Trust  string         `json:"trust"`  // what is known of it
	Synced bool           `json:"synced"` // whether it is kept by a time service
	Free   string         `json:"free"`
	Days   string         `json:"days"`
	More   string         `json:"more"`
	Counts map[string]int `json:"counts"` // by class
}

func newFeed(lang string, o Options) *feed {
	f := &feed{lang: lang, words: wordsOf(lang), options: o, viewers: map[chan []byte]struct{}{}}
	f.pages = template.Must(template.New("").Funcs(template.FuncMap{
		"t": func(id string, pairs ...any) string { return f.words.say(id, pairs...) },
	}).ParseFS(web, "web/board.html"))
	return f
}

func (f *feed) draw(views []ingest.SlotView, clock device.StationClock, room ingest.Room, now time.Time) drawing {
	d := drawing{status: status{Counts: map[string]int{}}}
	for _, class := range classes {
		d.status.Counts[class] = 0
	}
	for i, v := range views {
		t := f.words.tileOf(i, v)
		d.status.Counts[t.Class]++
		if i < tilesMost {
			d.tiles = append(d.tiles, t)
		}
	}
	s := &d.status
	if d.more = len(views) - len(d.tiles); d.more > 0 {
		s.More = f.words.say("more", "N", d.more)
	}
	now = now.In(f.options.Location)
	s.Clock, s.Synced = now.Format(time.TimeOnly), clock.Synchronised
	zone := f.words.say("station.beijing")
	if name := f.options.Location.String(); name != "Asia/Shanghai" {
		zone = name
	}
	s.Trust = zone + " · " + f.words.say(map[bool]string{true: "station.synced", false: "station.unsynced"}[s.Synced])
	if s.Free = f.words.say("room.unknown"); room.FreeBytes != nil {
		s.Free = size(*room.FreeBytes)
		switch days, known := room.Days(); {
		case !known:
			s.Days = f.words.say("room.days_unknown")
		case days > 365:
			s.Days = f.words.say("room.many_days")
		default:
			s.Days = f.words.say("room.days", "N", days)
		}
	}
	return d
}

// publish sends what has changed as one frame, the same bytes to every viewer.
func (f *feed) publish(d drawing, boot string) {
	var frame bytes.Buffer
	f.seq++
	changes := [][3]any{}
	if !sameSlots(f.shown.tiles, d.tiles) {
		event(&frame, "all", f.all(d))
	} else {
		for i, t := range d.tiles {
			was := f.shown.tiles[i]
			live := t.progress
			if was.progress, t.progress = live, live; was != t {
				event(&frame, "slot", map[string]any{"i": i, "html": f.render("slot", t)})
			} else if f.shown.tiles[i].progress != live {
				changes = append(changes, [3]any{i, live.Percent, live.Left})
			}
		}
	}
	f.shown = d
	event(&frame, "tick", f.tick(boot, changes))
	for viewer := range f.viewers {
		select {
		case viewer <- frame.Bytes():
		default:
			delete(f.viewers, viewer)
			close(viewer)
		}
	}
}

// sameSlots tells whether tiles can be told apart by their places.
func sameSlots(a, b []tile) bool {
	return slices.EqualFunc(a, b, func(a, b tile) bool { return a.Number == b.Number })
}

// subscribe gives a viewer everything there is, and then a frame for every change.
func (f *feed) subscribe(boot string) (first []byte, frames chan []byte) {
	var frame bytes.Buffer
	event(&frame, "all", f.all(f.shown))
	event(&frame, "tick", f.tick(boot, [][3]any{}))
	frames = make(chan []byte, behindMost)
	f.viewers[frames] = struct{}{}
	return frame.Bytes(), frames
}

// tick carries a number that grows by one: a page that misses one asks anew.
func (f *feed) tick(boot string, changes [][3]any) any {
	return struct {
		Boot     string   `json:"boot"`
		Seq      int      `json:"seq"`
		Progress [][3]any `json:"progress"` // tile, percent, time left
		status
	}{boot, f.seq, changes, f.shown.status}
}

func (f *feed) all(d drawing) any {
	return map[string]any{"html": f.render("slots", d.tiles), "grid": f.grid(len(d.tiles))}
}

// grid names the layout for this many tiles, as classes of the stylesheet.
func (f *feed) grid(tiles int) string {
	lying, upright := columnsFor(tiles, lyingScreen), columnsFor(tiles, uprightScreen)
	if f.options.Columns > 0 {
		lying = f.options.Columns
	}
	return fmt.Sprintf("grid c%d p%d", lying, upright)
}

func (f *feed) render(name string, data any) string {
	var out bytes.Buffer
	if err := f.pages.ExecuteTemplate(&out, name, data); err != nil {
		panic(fmt.Sprintf("board: template %s: %v", name, err)) // the templates are in the program
	}
	return out.String()
}

func event(to *bytes.Buffer, name string, data any) {
	body, err := json.Marshal(data)
	if err != nil {
		panic(fmt.Sprintf("board: event %s: %v", name, err)) // it holds texts and numbers
	}
	fmt.Fprintf(to, "event: %s\ndata: %s\n\n", name, body)
}
