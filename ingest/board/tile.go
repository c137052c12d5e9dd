package board

import (
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest"
)

// The classes of tiles. Only classSafe says yes: everything else, also a state that
// this board does not know, says no.
const (
	classEmpty = "empty"
	classBusy  = "busy"
	classSafe  = "safe"
	classAttn  = "attn" // a person has to look
	classBack  = "back" // put the recorder back
)

var classes = []string{classSafe, classBusy, classBack, classAttn, classEmpty}

// icons tell the classes apart without colour.
var icons = map[string]string{classEmpty: "i-empty", classBusy: "i-stop", classSafe: "i-check", classAttn: "i-warn", classBack: "i-back"}

// classOf gives every state of ux its class.
var classOf = map[ingest.SlotState]string{
	ingest.Empty:         classEmpty,
	ingest.Identifying:   classBusy,
	ingest.Queued:        classBusy,
	ingest.Copying:       classBusy,
	ingest.Verifying:     classBusy,
	ingest.Finalizing:    classBusy,
	ingest.Safe:          classSafe,
	ingest.Failed:        classAttn,
	ingest.UnknownDevice: classAttn,
	ingest.Conflict:      classAttn,
	ingest.RemovedEarly:  classBack,
}

const (
	// longNumber is the length from which a slot's name needs small letters.
	longNumber = 3
	// longWho is the same for an id.
	longWho = 8
	// lowBattery is the charge in percent below which an officer is told to charge,
	// where the settings do not say more.
	lowBattery = 20
)

// tile is what is drawn of a slot. It is comparable: one that has changed is drawn
// again, while of progress alone the numbers are sent.
type tile struct {
	ID, State, Class, Icon string
	Number                 string
	Long                   bool // the number is a longer name
	Who, Recorder          string
	LongWho                bool // an id must be whole to be one
	Head, Detail, Size     string
	Warn                   bool // the detail is a warning
	Badges                 [2]badge
	HasBar                 bool
	progress               progress
}

// progress is what changes every second.
type progress struct {
	Percent int // at most 99
	Left    string
}

// Percent and Left are for the template.
func (t tile) Percent() int { return t.progress.Percent }

// Left says how long it will take.
func (t tile) Left() string { return t.progress.Left }

type badge struct{ Kind, Icon, Text, Label string }

// tileOf draws a slot. It decides nothing: what is safe, the station has said.
func (w words) tileOf(i int, v ingest.SlotView) tile {
	t := tile{ID: "s" + strconv.Itoa(i), State: string(v.State), Class: classAttn}
	if class, ok := classOf[v.State]; ok {
		t.Class = class
	}
	t.Icon, t.Head = icons[t.Class], w.say("head."+t.Class)
	t.Number = numberOf(v)
	t.Long = utf8.RuneCountInString(t.Number) > longNumber
	t.Who, t.Recorder = v.Officer, v.Recorder
	if t.Who == "" {
		t.Who, t.Recorder = v.Recorder, ""
	}
	if t.Class == classEmpty {
		w.last(&t, v.Last)
		t.LongWho = utf8.RuneCountInString(t.Who) > longWho
		return t
	}
	t.LongWho = utf8.RuneCountInString(t.Who) > longWho
	switch {
	case t.Who == "" && v.State == ingest.UnknownDevice:
		t.Who = w.say("who.unregistered")
	case t.Who == "" && (v.Identified || t.Class == classAttn || t.Class == classBack):
		t.Who = w.say("who.unknown")
	}
	t.Detail = w.detail(v)
	switch t.Class {
	case classSafe:
		t.Size = size(v.Bytes)
	case classBusy:
		t.HasBar = v.State == ingest.Copying || v.State == ingest.Verifying
		t.Warn = v.Trouble == ingest.TroubleStalled
	}
	if t.HasBar {
		t.progress = progress{Percent: max(0, min(99, int(100*v.Fraction))), Left: w.left(v)}
	}
	if v.Identified {
		w.badges(&t, v)
	}
	return t
}

// numberOf is the slot's name as large as it can be.
func numberOf(v ingest.SlotView) string {
	name := v.Name
	if n, err := strconv.Atoi(name); err == nil && n >= 0 && n < 100 {
		name = fmt.Sprintf("%02d", n)
	}
	if v.Further > 0 {
		name += "·" + strconv.Itoa(v.Further+1)
	}
	return name
}

// last says of an empty slot what became of the recorder that was in it.
func (w words) last(t *tile, l *ingest.LastDocking) {
	t.Detail = w.say("detail.empty")
	if l == nil {
		return
	}
	if t.Who, t.Recorder = l.Officer, l.Recorder; t.Who == "" {
		t.Who, t.Recorder = l.Recorder, ""
	}
	switch {
	case !l.Safe:
		t.Detail, t.Warn = w.say("last.not_stored"), true
	case l.PreUse == device.PreUseFit:
		t.Detail = w.say("last.fit")
	case l.PreUse == device.PreUseUnfit:
		t.Detail, t.Warn = w.say("last.unfit"), true
	case l.PreUse == device.PreUseCheck:
		t.Detail = w.say("last.check")
	default:
		t.Detail = w.say("last.taken")
	}
}

func (w words) detail(v ingest.SlotView) string {
	switch v.State {
	case ingest.Safe:
		switch {
		case batteryLow(v):
			return w.say("detail.safe_charge")
		case clockOff(v):
			return w.say("detail.safe_clock")
		case v.Verification != ingest.ReadBack:
			return w.say("detail.safe_checksum")
		}
		return w.say("detail.safe")
	case ingest.Failed, ingest.UnknownDevice:
		if v.Trouble == ingest.TroubleNone || v.Trouble == ingest.TroubleStalled {
			return w.say("detail.other")
		}
		return w.say("detail." + string(v.Trouble))
	}
	if v.Trouble == ingest.TroubleStalled {
		return w.say("detail.stalled")
	}
	if _, known := classOf[v.State]; !known {
		return w.say("detail.other")
	}
	return w.say("detail." + string(v.State))
}

func (w words) left(v ingest.SlotView) string {
	switch {
	case v.Left == nil && v.Trouble == ingest.TroubleStalled:
		return ""
	case v.Left == nil:
		return w.say("eta.unknown")
	case *v.Left >= 2*time.Hour:
		return w.say("eta.hours", "N", int((*v.Left+time.Hour-1)/time.Hour))
	case *v.Left >= time.Minute:
		return w.say("eta.minutes", "N", int((*v.Left+time.Minute-1)/time.Minute))
	}
	return w.say("eta.less")
}

func batteryLow(v ingest.SlotView) bool {
	return v.Health.BatteryPercent != nil && *v.Health.BatteryPercent < lowBattery
}

// clockOff tells whether the clock is wrong for sure, as it is now.
func clockOff(v ingest.SlotView) bool {
	verdict := v.Verdict
	if v.ClockSet != nil {
		verdict = *v.ClockSet
	}
	return verdict != device.ClockWithin && verdict != device.ClockNotKnown && verdict != ""
}

// badges puts the two that matter most on a tile; more would not fit.
func (w words) badges(t *tile, v ingest.SlotView) {
	all := make([]badge, 0, 3)
	if v.CardBad {
		all = append(all, badge{Kind: "warn", Icon: "i-card", Text: w.say("card.bad")})
	}
	if clock := w.clockBadge(v); clock.Text != "" {
		all = append(all, clock)
	}
	battery := badge{Kind: "dim", Icon: "i-batt", Text: w.say("battery.unknown"), Label: w.say("battery.unknown_label")}
	if percent := v.Health.BatteryPercent; percent != nil {
		battery = badge{Kind: "ok", Icon: "i-batt", Text: fmt.Sprintf("%d%%", *percent), Label: w.say("battery.is", "N", *percent)}
		if batteryLow(v) {
			battery.Kind, battery.Icon = "warn", "i-battlow"
		}
	}
	copy(t.Badges[:], append(all, battery))
}

func (w words) clockBadge(v ingest.SlotView) badge {
	b := badge{Kind: "warn", Icon: "i-clock"}
	c := v.Clock
	switch {
	case v.ClockSet != nil && *v.ClockSet == device.ClockWithin:
		return badge{Kind: "ok", Icon: "i-clock", Text: w.say("clock.set")}
	case v.ClockSet != nil && !clockOff(v):
		return badge{Kind: "dim", Icon: "i-clock", Text: w.say("clock.set_unread")}
	case v.Verdict == device.ClockWithin:
		return badge{}
	case v.Verdict == device.ClockNotKnown, v.Verdict == "":
		return badge{Kind: "dim", Icon: "i-clock", Text: w.say("clock.unknown")}
	case v.Verdict == device.ClockReset:
		b.Text = w.say("clock.reset")
	case v.Verdict == device.ClockWrongZone:
		b.Text = w.say("clock.zone")
	case c.Offset != nil && *c.Offset < 0:
		b.Text = w.say("clock.slow", "V", w.span(*c.Offset))
	case c.Offset != nil:
		b.Text = w.say("clock.fast", "V", w.span(*c.Offset))
	case c.AtLeast != nil && *c.AtLeast > 0:
		b.Text = w.say("clock.at_least_fast", "V", w.span(*c.AtLeast))
	case c.AtMost != nil && *c.AtMost < 0:
		b.Text = w.say("clock.at_least_slow", "V", w.span(*c.AtMost))
	default:
		return badge{Kind: "dim", Icon: "i-clock", Text: w.say("clock.unknown")}
	}
	return b
}
