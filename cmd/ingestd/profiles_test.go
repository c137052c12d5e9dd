package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/bodyworn/ingestd/device/profile"
	"github.com/bodyworn/ingestd/device/simulator"
)

// inPlace runs one of the commands about profiles in this process, with the place's
// settings.
func inPlace(t *testing.T, p *place, output string, cmd func(*app) *cobra.Command, args ...string) (out string, code int) {
	t.Helper()
	var b bytes.Buffer
	a := &app{configFile: p.path("ingestd.yaml"), output: output, out: &b, err: &b}
	c := cmd(a)
	c.SilenceErrors, c.SilenceUsage = true, true
	c.SetArgs(args)
	err := c.ExecuteContext(t.Context())
	if err != nil {
		b.WriteString(err.Error())
	}
	return b.String(), codeOf(err, false)
}

func TestRecordersProfiles(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig+"recorders: {profiles: makes}\n")
	p.write("makes/own.yaml", "name: own\ntitle: {en: Own, zh: 自有}\ntested_with: X1\naccess: disk\nmatch: {labels: ['^OWN']}\n")
	out, code := inPlace(t, p, "table", (*app).recordersProfilesCmd)
	if code != exitDone || !strings.Contains(out, "zfy-paramini") || !strings.Contains(out, "自有") || !strings.Contains(out, "label ^OWN") {
		t.Errorf("exit %d\n%s", code, out)
	}
	out, code = inPlace(t, p, "json", (*app).recordersProfilesCmd)
	var j struct{ Items []profileJSON }
	if err := json.Unmarshal([]byte(out), &j); err != nil || code != exitDone || len(j.Items) != 7 {
		t.Fatalf("exit %d, %v\n%s", code, err, out)
	}
	for _, i := range j.Items {
		if i.Name == "" || i.TitleEn == "" || i.TestedWith == "" || len(i.Signs) == 0 || i.ClockSet == "" || i.File == "" {
			t.Errorf("%+v", i)
		}
	}
	p.write("makes/own.yaml", "name: own\ncolour: red\n")
	if out, code = inPlace(t, p, "table", (*app).recordersProfilesCmd); code != exitConfig || !strings.Contains(out, "own.yaml:2: colour: no such key") {
		t.Errorf("a wrong profile: exit %d\n%s", code, out)
	}
}

func TestRecordersTestOfACard(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	card := p.path("card")
	contents, err := simulator.Card{Clips: 2, ClipLength: time.Second, ClipBytes: 400_000}.Write(card)
	if err != nil {
		t.Fatal(err)
	}
	out, code := inPlace(t, p, "json", (*app).recordersTestCmd, card)
	var j cardJSON
	if err := json.Unmarshal([]byte(out), &j); err != nil || code != exitDone {
		t.Fatalf("exit %d, %v\n%s", code, err, out)
	}
	if j.Profile == nil || *j.Profile != "zfy-paramini" || j.Fallback || j.Serial.Value != "NMQ0007" || j.Officer.Value != "052507" || j.Model.Known() {
		t.Errorf("%s", out)
	}
	if f := j.Found; f == nil || f.Files != len(contents.Files) || f.Footage != 5 || f.Marked != 1 || f.GPS != 2 || f.Named != 2 || f.First == nil {
		t.Errorf("%s", out)
	}
	if !strings.Contains(out, `"model": null`) {
		t.Errorf("an unknown model is not null: %s", out)
	}
	out, code = inPlace(t, p, "table", (*app).recordersTestCmd, card)
	for _, want := range []string{"zfy-paramini", "NMQ0007  (Param.ini DevNo)", "未知 unknown", "all of them are copied", "2026-11-24 08:14:02"} {
		if code != exitDone || !strings.Contains(out, want) {
			t.Errorf("exit %d, %q is missing in\n%s", code, want, out)
		}
	}
}

func TestRecordersTestOfACardNobodyKnows(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testConfig)
	p.write("card/a.mp4", "footage")
	p.write("card/b\x1b[2J.mp4", "footage")
	out, code := inPlace(t, p, "json", (*app).recordersTestCmd, p.path("card"))
	if code != exitDone || !strings.Contains(out, `"profile": "generic-disk"`) || !strings.Contains(out, `"fallback": true`) || !strings.Contains(out, `"serial": null`) {
		t.Errorf("exit %d\n%s", code, out)
	}
	out, code = inPlace(t, p, "table", (*app).recordersTestCmd, "--label", "TIMESET", p.path("card"))
	if code != exitDone || !strings.Contains(out, "timeset-file") || strings.Contains(out, "\x1b") {
		t.Errorf("by label: exit %d\n%s", code, out)
	}
	if out, code = inPlace(t, p, "table", (*app).recordersTestCmd, p.path("absent")); code != exitNotFound {
		t.Errorf("no folder: exit %d\n%s", code, out)
	}

	// A station that refuses what is not registered has no profile for any disk.
	p.write("ingestd.yaml", testConfig+"recorders: {unregistered: refuse, profiles: makes}\n")
	p.write("makes/one.yaml", "name: one\ntitle: {en: A, zh: 甲}\ntested_with: none\naccess: disk\nmatch: {markers: [a.mp4]}\n")
	p.write("makes/two.yaml", "name: two\ntitle: {en: A, zh: 甲}\ntested_with: none\naccess: disk\nmatch: {markers: [c.mp4]}\n")
	p.write("other/b.mp4", "footage")
	out, code = inPlace(t, p, "json", (*app).recordersTestCmd, p.path("other"))
	if code != exitFindings || !strings.Contains(out, `"profile": null`) || !strings.Contains(out, "no profile fits") {
		t.Errorf("refused: exit %d\n%s", code, out)
	}
	p.write("card/c.mp4", "footage")
	out, code = inPlace(t, p, "table", (*app).recordersTestCmd, p.path("card"))
	if code != exitFindings || !strings.Contains(out, "one, two") {
		t.Errorf("two profiles: exit %d\n%s", code, out)
	}
}

func TestRecordersTestOfWhatIsPluggedIn(t *testing.T) {
	t.Parallel()
	sys := t.TempDir()
	plug := func(port string, files map[string]string) {
		for name, text := range files {
			path := filepath.Join(sys, "bus/usb/devices", port, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text+"\n"), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for port, d := range map[string]struct{ vendor, product, name, class, subclass string }{
		"1-1": {"4255", "0001", "Amba Simple Class", "ff", "00"},
		"1-2": {"1209", "ca01", "Bodycam\x1b[2J", "06", "01"},
		"1-3": {"0951", "1666", "Stick", "08", "06"},
		"1-4": {"046d", "c31c", "Keyboard", "03", "01"},
	} {
		address := port[2:]
		plug(port, map[string]string{
			"idVendor": d.vendor, "idProduct": d.product, "bcdDevice": "0100", "bDeviceClass": "00", "bDeviceSubClass": "00",
			"bDeviceProtocol": "00", "busnum": "1", "devnum": "1" + address, "product": d.name, "speed": "480",
			"bNumConfigurations": "1", "bConfigurationValue": "1", "bNumInterfaces": " 1", "devpath": address,
		})
		files := map[string]string{
			"bInterfaceNumber": "00", "bAlternateSetting": " 0", "bInterfaceClass": d.class, "bInterfaceSubClass": d.subclass,
			"bInterfaceProtocol": "01", "bNumEndpoints": "02",
		}
		plug(port+":1.0", files)
		plug(filepath.Join(port, port+":1.0"), files)
	}
	set, err := profile.Load(os.DirFS("../../configs/recorders"), "")
	if err != nil {
		t.Fatal(err)
	}
	run := func(output, port string) (string, error) {
		var b bytes.Buffer
		a := &app{output: output, out: &b, err: &b}
		err := a.testUSB(set, sys, port)
		return b.String(), err
	}
	out, err := run("json", "")
	var j struct{ Items []pluggedJSON }
	if err := errors.Join(err, json.Unmarshal([]byte(out), &j)); err != nil || len(j.Items) != 4 {
		t.Fatalf("%v\n%s", err, out)
	}
	for i, want := range []string{"ambarella-text", "generic-ptp", "its card decides", "not a recorder"} {
		got := j.Items[i].Decides
		if j.Items[i].Profile != nil {
			got = *j.Items[i].Profile
		}
		if !strings.Contains(got, want) {
			t.Errorf("port %s: %q, want %q", j.Items[i].Port, got, want)
		}
	}
	out, err = run("table", "1-2")
	if err != nil || !strings.Contains(out, "1209:ca01") || strings.Contains(out, "4255") || strings.Contains(out, "\x1b") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := run("table", "1-9"); codeOf(err, false) != exitNotFound {
		t.Errorf("an empty port: %v", err)
	}
	var b bytes.Buffer
	if err := (&app{output: "table", out: &b}).testUSB(set, t.TempDir(), ""); codeOf(err, false) != exitNotFound || !strings.Contains(err.Error(), "no USB at all") {
		t.Errorf("no USB: %v", err)
	}
}
