//go:build e2e

package e2e

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/scripts/e2e.d/wire"
)

// simulated is a recorder that the agent plugs into the machine's virtual
// controller: one that is more than a disk.
type simulated struct {
	m    *machine
	name string
	out  bool
}

// attach plugs one in. Attach.Name is filled in here.
func (m *machine) attach(t testing.TB, at wire.Attach) *simulated {
	t.Helper()
	at.Name = m.unique(at.Kind)
	s := &simulated{m: m, name: at.Name}
	m.must(t, "attach", at, nil)
	t.Cleanup(func() { s.detach(t) })
	return s
}

// detach pulls it out. Once out it does nothing.
func (s *simulated) detach(t testing.TB) {
	t.Helper()
	if s.out {
		return
	}
	s.out = true
	if err := s.m.ask("detach", wire.Name{Name: s.name}, nil); err != nil {
		t.Error(err)
	}
}

// told is what it has noted.
func (s *simulated) told(t testing.TB) (told wire.Told) {
	t.Helper()
	s.m.must(t, "recorder", wire.Name{Name: s.name}, &told)
	return told
}

// bring puts an image into the machine and gives its path there.
func (w *world) bring(t testing.TB, image string) string {
	t.Helper()
	data, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	path := "/tmp/" + w.m.unique("image")
	w.m.must(t, "write", wire.File{Path: path, Data: packed.Bytes(), Packed: true}, nil)
	t.Cleanup(func() { w.m.run(t, "rm", path) })
	return path
}

// there is the digest of a file in the machine.
func (w *world) there(t testing.TB, path string) string {
	t.Helper()
	sum, _, _ := strings.Cut(w.m.run(t, "sha256sum", path), " ")
	return sum
}

// settings name the files that prepare writes.
const settings = "usb: {watch: all}\nrecorders: {profiles: /etc/recorders, passwords_file: /etc/passwords}\n"

// prepare writes the profile of the simulated PTP recorder, and the password that
// the station has for locked ones.
func (w *world) prepare(t testing.TB, password string) {
	t.Helper()
	w.m.must(t, "write", wire.File{Path: "/etc/recorders/simulator.yaml", Data: []byte(`name: simulator
title: {en: Simulated recorder, zh: 模拟记录仪}
tested_with: none
match: {usb: ["1209:ca01"]}
access: ptp
identity: {serial: [ptp], model: [ptp]}
footage: {files: ['\.mp4$']}
clock: {read: ptp, set: ptp, zone: station}
battery: ptp
`)}, nil)
	w.m.must(t, "write", wire.File{Path: "/etc/passwords", Data: fmt.Appendf(nil, "4255:0001: %s\n", password), Mode: 0o600}, nil)
}

// testPTP docks a recorder that speaks PTP and whose clock is 3 min 12 s fast. The
// clock is measured before anything else, the footage is stored, the clock is set
// and measured again (第十条).
func testPTP(t *testing.T, w *world) {
	const fast = 3*time.Minute + 12*time.Second
	w.prepare(t, "unused")
	w.m.must(t, "keep-time", struct{}{}, nil)
	var files []file
	at := wire.Attach{Kind: "ptp", Port: 0, Serial: "PTP0001", Offset: fast}
	for i := range 3 {
		f := wire.Fill{Path: fmt.Sprintf("执法_%03d.MP4", i), Seed: uint64(300 + i), Size: 3<<20 - int64(i)}
		at.Files = append(at.Files, f)
		files = append(files, file{Path: "DCIM/" + f.Path, Seed: f.Seed, Size: f.Size})
	}
	d := w.run(t, settings)
	from := w.m.now()
	s := w.m.attach(t, at)
	safe := d.safe(t, from, "")
	m := w.store.checkSession(t, safe.Session, "PTP0001", files)

	clock := m.Recorder.Clock
	if clock.Kind != device.ClockMeasured || clock.Offset == nil || clock.Uncertainty == nil {
		t.Fatalf("the clock was not measured: %+v", clock)
	}
	if wrong := (*clock.Offset - fast).Abs(); wrong > *clock.Uncertainty {
		t.Errorf("the clock is %s fast; measured %s ± %s", fast, *clock.Offset, *clock.Uncertainty)
	}
	w.note("measured %s ± %s", clock.Offset.Round(time.Millisecond), clock.Uncertainty.Round(time.Millisecond))
	if m.Recorder.ClockVerdict != device.ClockOff {
		t.Errorf("the verdict is %q", m.Recorder.ClockVerdict)
	}
	d.waitFrom(t, from, "clock.recorder_off", "")
	d.waitFrom(t, from, "clock.set", "")
	if told := s.told(t); len(told.Set) != 1 {
		t.Errorf("the clock was set %d times: %q", len(told.Set), told.Set)
	}
	set := m.Recorder.ClockSet
	switch {
	case set == nil:
		t.Errorf("the manifest does not tell that the clock was set; %s", m.Recorder.ClockNotSet)
	case set.After.Kind != device.ClockMeasured:
		t.Errorf("the clock was not measured again: %+v", set.After)
	default:
		// Set to the whole second; then the same limits hold as for the first reading.
		if most := *set.After.Uncertainty + time.Second; set.After.Offset.Abs() > most {
			t.Errorf("after it was set the clock is off by %s ± %s", *set.After.Offset, *set.After.Uncertainty)
		}
		w.note("then %s ± %s", set.After.Offset.Round(time.Millisecond), set.After.Uncertainty.Round(time.Millisecond))
	}
	if h := m.Recorder.Health; h.BatteryPercent == nil || *h.BatteryPercent != 77 {
		t.Errorf("the battery has 77 %%, told is %+v", h)
	}
	s.detach(t)
	d.waitFrom(t, from, "slot.removed", "")
}

// testLocked docks a recorder that wants a password and then comes back in the
// same socket as a disk: one docking, the password sent once.
func testLocked(t *testing.T, w *world) {
	const password = "73519264"
	w.prepare(t, password)
	files := footage("LOCK001", 310, 2, 1<<20)
	image := w.bring(t, fatCard(t, w, layout{}, files))
	before := w.there(t, image)
	d := w.run(t, settings)
	from := w.m.now()
	s := w.m.attach(t, wire.Attach{Kind: "locked", Port: 1, Serial: "LOCK001", Password: password, Image: image})
	safe := d.safe(t, from, "")
	w.store.checkSession(t, safe.Session, "LOCK001", files)
	told := s.told(t)
	if told.WrongPasswords != 0 || told.Switches != 1 {
		t.Errorf("unlocked with %d wrong passwords, became a disk %d times", told.WrongPasswords, told.Switches)
	}
	if told.Writes != 0 || w.there(t, image) != before {
		t.Errorf("%d writes to the recorder", told.Writes)
	}
	// It left and came back, which is not the end of the docking.
	events, _ := w.m.since(from)
	for _, e := range events {
		if l, ok := d.is(e); ok && (l.Event == "slot.removed" || l.Event == "slot.removed_early") {
			t.Errorf("told as taken while it became a disk: %+v", l)
		}
	}
	s.detach(t)
	d.waitFrom(t, from, "slot.removed", "")
	if strings.Contains(d.log(), password) {
		t.Error("the password is in the log")
	}
}

// testWrongPassword: it is tried once, since recorders lock themselves for good
// after a few, and a person is told.
func testWrongPassword(t *testing.T, w *world) {
	const wrong = "11112222"
	w.prepare(t, wrong)
	image := w.bring(t, fatCard(t, w, layout{}, footage("LOCK002", 320, 1, 1<<20)))
	d := w.run(t, settings)
	from := w.m.now()
	s := w.m.attach(t, wire.Attach{Kind: "locked", Port: 2, Serial: "LOCK002", Password: "20261125", Image: image})
	failed := d.waitFrom(t, from, "ingest.failed", "")
	if failed.Level != "error" || !strings.Contains(strings.ToLower(failed.Err), "password") {
		t.Errorf("it is not told that the password is wrong: %+v", failed)
	}
	// Longer than the first pauses before something else would be tried again.
	time.Sleep(12 * time.Second)
	told := s.told(t)
	if told.WrongPasswords != 1 {
		t.Errorf("a wrong password was sent %d times", told.WrongPasswords)
	}
	if told.Switches != 0 || told.Read != 0 {
		t.Errorf("it became a disk %d times", told.Switches)
	}
	d.neverSafe(t, "LOCK002")
	s.detach(t)
	d.waitFrom(t, from, "slot.removed", "")
	if strings.Contains(d.log(), wrong) {
		t.Error("the password is in the log")
	}
}
