// Package metrics counts what a station does, for Prometheus, and tells whether it is
// ready. It stands beside the flow: it is told every event, asks journal and store now
// and then, and nothing waits for it.
//
// No label names an officer, a recorder, a session or a path: who works when is not for
// a monitoring system (第十二条). Slots have the names that the settings give them; what is
// docked anywhere else is slot "other", since a folder may be named after a person.
package metrics

import (
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest"
)

// Other is the slot of all that is docked elsewhere than in a slot of the settings.
const Other = "other"

// earlyFor is how long a slot other than those of the settings is remembered for a
// recorder that was taken too early and did not come back.
const earlyFor = 24 * time.Hour

// The results of dockings. The first two are ends of a session.
const (
	safe        = "safe"
	failed      = "failed"
	interrupted = "interrupted" // the session is open, and tried again
)

// Build says which program this is.
type Build struct {
	Version, Commit string
}

// Metrics counts. It is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	named    []string // slots of the settings

	bytes, stalls, early     *prometheus.CounterVec
	files, dockings, checked *prometheus.CounterVec
	events                   *prometheus.CounterVec
	clocksOff                prometheus.Counter
	reloaded                 prometheus.Gauge
	took                     prometheus.Histogram
	requests                 *prometheus.HistogramVec
	auth, unwritten          prometheus.Counter
	refused                  *prometheus.CounterVec
	state, offset, battery   *prometheus.GaugeVec

	mu        sync.Mutex
	showing   map[string]ingest.SlotState // guarded by mu; by slot of the settings
	elsewhere map[string]shown            // guarded by mu; by the name of the place
}

// shown is the state of a place that is not in the settings.
type shown struct {
	state ingest.SlotState
	since time.Time
}

// slotStates are those that events tell of.
var slotStates = []ingest.SlotState{
	ingest.Empty, ingest.Identifying, ingest.Queued, ingest.Copying, ingest.Safe, ingest.Failed, ingest.UnknownDevice, ingest.Conflict, ingest.RemovedEarly,
}

// New makes all metrics, at zero: a counter that begins to be there with its first
// event would hide that event from rate and increase. slots are those of the settings.
func New(b Build, slots []string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(), showing: map[string]ingest.SlotState{}, elsewhere: map[string]shown{},
		bytes:     counter("ingest_bytes_total", "Bytes of files that were stored and verified.", "slot"),
		stalls:    counter("ingest_stalls_total", "Times that a session stood still for ingest.stall_after, and not because it waited for its turn.", "slot"),
		early:     counter("early_removals_total", "Recorders that were taken before they were safe.", "slot"),
		files:     counter("ingest_files_total", "Files of sessions that have ended: stored and verified, identical to one that was already, or not stored.", "result"),
		dockings:  counter("ingest_sessions_total", "Tries to take in a recorder that have ended, by what the slot showed; interrupted: the session is open and tried again.", "result"),
		checked:   counter("verify_files_total", "Stored files that were verified (match), and objects that were found not to be what was sent (mismatch).", "result"),
		events:    counter("events_total", "Lines of the log, by event and level.", "event", "level"),
		clocksOff: prometheus.NewCounter(prometheus.CounterOpts{Name: "ingestd_clock_drift_warnings_total", Help: "Dockings of recorders whose clock was off by more than clock.warn_over."}),
		reloaded:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "ingestd_config_last_reload_successful", Help: "1 if the settings of the file are in force as they were last loaded, 0 if they were refused."}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "ingestd_ingest_duration_seconds", Help: "How long dockings took whose session has ended.",
			Buckets: []float64{10, 30, 60, 120, 300, 600, 1200, 2400, 3600, 7200, 14400}}),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "ingestd_http_request_duration_seconds", Help: "How long requests to the console took, by the pattern of their address.",
			Buckets: []float64{.01, .05, .1, .5, 1, 5, 30}}, []string{"route", "method", "code"}),
		auth:      prometheus.NewCounter(prometheus.CounterOpts{Name: "ingestd_auth_failures_total", Help: "Passwords that were wrong, or came too soon after a wrong one, in the console."}),
		unwritten: prometheus.NewCounter(prometheus.CounterOpts{Name: "ingestd_audit_write_errors_total", Help: "Requests to the console that were refused because the ledger could not have them."}),
		refused:   counter("retention_refused_total", "Orders about keeping or disposing of footage that were refused: a plan, or a change of the rules.", "reason"),
		state:     gauge("slot_state", "1 for the state that a slot is in; for slot other, how many places are in it. Copying lasts until the docking has ended.", "slot", "state"),
		offset:    gauge("device_clock_drift_seconds", "Clock of the recorder in a slot minus the station's, as it was measured first. Not there where it is not known.", "slot"),
		battery:   gauge("device_battery_ratio", "Charge of the recorder in a slot when it was docked. Not there where it is not known.", "slot"),
	}
	for _, s := range slots {
		if s != "" && !slices.Contains(m.named, s) {
			m.named = append(m.named, s)
		}
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "ingestd_build_info", Help: "1, with the version of the program.",
		ConstLabels: prometheus.Labels{"version": b.Version, "commit": b.Commit, "goversion": runtime.Version()}})
	build.Set(1)
	m.reloaded.Set(1)
	m.registry.MustRegister(build, m.bytes, m.stalls, m.early, m.files, m.dockings, m.checked, m.events, m.clocksOff, m.reloaded, m.took, m.requests, m.auth, m.unwritten, m.refused,
		m.state, m.offset, m.battery, collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.begin()
	return m
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ingestd_" + name, Help: help}, labels)
}

func gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "ingestd_" + name, Help: help}, labels)
}

// begin sets everything that can be to zero.
func (m *Metrics) begin() {
	for _, slot := range append([]string{Other}, m.named...) {
		for _, v := range []*prometheus.CounterVec{m.bytes, m.stalls, m.early} {
			v.WithLabelValues(slot)
		}
		for _, s := range slotStates {
			m.state.WithLabelValues(slot, string(s))
		}
	}
	for _, slot := range m.named {
		m.state.WithLabelValues(slot, string(ingest.Empty)).Set(1)
	}
	for _, result := range []string{"stored", "identical", "not_stored"} {
		m.files.WithLabelValues(result)
	}
	for _, result := range []string{safe, failed, interrupted, string(ingest.RemovedEarly), string(ingest.UnknownDevice), string(ingest.Conflict)} {
		m.dockings.WithLabelValues(result)
	}
	for _, reason := range []string{refusedPlan, refusedRules} {
		m.refused.WithLabelValues(reason)
	}
	for _, result := range []string{"match", "mismatch"} {
		m.checked.WithLabelValues(result)
	}
	for _, e := range ingest.EventKinds {
		for _, level := range e.Levels {
			m.events.WithLabelValues(e.Name, level.String())
		}
	}
}

// Why retention refuses.
const (
	refusedPlan  = "plan"
	refusedRules = "rules"
)

// Request counts one request to the console: its pattern and what came of it, with the
// code of the problem if there was one. Who asked, and for what, is not counted.
func (m *Metrics) Request(route, method string, status int, took time.Duration, problem string) {
	m.requests.WithLabelValues(route, method, strconv.Itoa(status)).Observe(took.Seconds())
	switch problem {
	case "wrong_login", "wrong_password", "too_soon":
		m.auth.Inc()
	case "ledger_unavailable":
		m.unwritten.Inc()
	}
	switch {
	case strings.HasPrefix(route, "/admin/retention") && status == http.StatusUnprocessableEntity:
		m.refused.WithLabelValues(refusedRules).Inc()
	case strings.HasPrefix(route, "/admin/disposal/") && status == http.StatusConflict:
		m.refused.WithLabelValues(refusedPlan).Inc()
	}
}

// Observe counts one event. It is for Config.Events of a station.
func (m *Metrics) Observe(e ingest.Event) {
	slot := m.slot(e.Slot)
	m.events.WithLabelValues(e.Name, e.Level.String()).Inc()
	switch e.Name {
	case "ingest.file_done":
		m.bytes.WithLabelValues(slot).Add(float64(e.Bytes))
		m.checked.WithLabelValues("match").Inc()
	case "verify.mismatch":
		m.checked.WithLabelValues("mismatch").Inc()
	case "ingest.stalled":
		if e.Level != ingest.Info {
			m.stalls.WithLabelValues(slot).Inc()
		}
	case "slot.removed_early":
		m.early.WithLabelValues(slot).Inc()
	case "clock.recorder_off":
		m.clocksOff.Inc()
	case "config.reloaded":
		m.reloaded.Set(1)
	case "retention.refused":
		m.refused.WithLabelValues(refusedPlan).Inc()
	case "config.refused":
		m.reloaded.Set(0)
	}
	if e.Totals != nil {
		m.ended(e)
	}
	if e.State != "" && e.Slot != ingest.StagingSlot {
		m.show(e.Slot, e.State)
	}
	if e.Clock != nil && slot == e.Slot {
		m.tell(slot, *e.Clock, e.Health)
	}
}

// slot is the label of a slot.
func (m *Metrics) slot(name string) string {
	if slices.Contains(m.named, name) {
		return name
	}
	return Other
}

// ended counts a docking that has ended, and its files if its session has too.
func (m *Metrics) ended(e ingest.Event) {
	result := string(e.State)
	if e.State == ingest.Failed && e.Err != nil {
		result = interrupted
	}
	m.dockings.WithLabelValues(result).Inc()
	if result != safe && result != failed {
		return
	}
	m.took.Observe(e.Took.Seconds())
	m.files.WithLabelValues("stored").Add(float64(e.Totals.Stored))
	m.files.WithLabelValues("identical").Add(float64(e.Totals.Identical))
	m.files.WithLabelValues("not_stored").Add(float64(e.Totals.NotStored))
}

// show sets the state of a slot. One that a recorder was taken from too early stays so
// until something is docked there: that it is empty is what is wrong with it.
func (m *Metrics) show(slot string, state ingest.SlotState) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.slot(slot) == Other {
		if was := m.elsewhere[slot]; state == ingest.Empty && was.state == ingest.RemovedEarly {
			return
		}
		m.elsewhere[slot] = shown{state, time.Now()}
		if state == ingest.Empty {
			delete(m.elsewhere, slot)
		}
		m.countElsewhere()
		return
	}
	was, known := m.showing[slot]
	if !known {
		was = ingest.Empty
	}
	if state == ingest.Empty && was == ingest.RemovedEarly {
		return
	}
	m.showing[slot] = state
	m.state.WithLabelValues(slot, string(was)).Set(0)
	m.state.WithLabelValues(slot, string(state)).Set(1)
	if state == ingest.Empty || state == ingest.Identifying {
		m.offset.DeleteLabelValues(slot)
		m.battery.DeleteLabelValues(slot)
	}
}

// countElsewhere is called with mu held.
func (m *Metrics) countElsewhere() {
	count := map[ingest.SlotState]int{}
	for place, s := range m.elsewhere {
		if s.state == ingest.RemovedEarly && time.Since(s.since) > earlyFor {
			delete(m.elsewhere, place)
			continue
		}
		count[s.state]++
	}
	for _, s := range slotStates {
		m.state.WithLabelValues(Other, string(s)).Set(float64(count[s]))
	}
}

// tell keeps what a recorder has told of itself. What it did not tell is not there.
func (m *Metrics) tell(slot string, clock device.ClockReading, health *device.Health) {
	if clock.Kind == device.ClockMeasured && clock.Offset != nil {
		m.offset.WithLabelValues(slot).Set(clock.Offset.Seconds())
	}
	if health != nil && health.BatteryPercent != nil {
		m.battery.WithLabelValues(slot).Set(float64(*health.BatteryPercent) / 100)
	}
}
