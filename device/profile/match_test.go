package profile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/text/encoding/simplifiedchinese"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/profile"
	"github.com/bodyworn/ingestd/device/usb"
	"github.com/bodyworn/ingestd/device/vendorcmd"
)

var china = time.FixedZone("CST", 8*60*60)

// profiles loads several by what stands under match.
func profiles(t *testing.T, matches map[string]string) profile.Set {
	t.Helper()
	files := map[string]string{}
	for name, match := range matches {
		text := head(name)
		if strings.HasPrefix(match, "ptp ") {
			text, match = strings.Replace(text, "disk", "ptp", 1), match[4:]
		}
		files[name+".yaml"] = text + "match: " + match + "\n"
	}
	set, err := profile.Load(folder(files), "")
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func nameOf(p *profile.Profile, ok bool) string {
	if !ok {
		return ""
	}
	return p.Name
}

func TestTheMostParticularProfileIsTakenForADevice(t *testing.T) {
	set := profiles(t, map[string]string{
		"any-ptp":    "ptp {any: true}",
		"any-disk":   "{any: true}",
		"vendor":     `{usb: ["1234"]}`,
		"model":      `{usb: ["1234:0001"]}`,
		"named":      `{usb: ["1234:0001"], product: '^Body'}`,
		"vendorname": `{usb: ["1234"], product: '^Body'}`,
		"strings":    `{manufacturer: acme}`,
		"one":        `{usb: ["9999"], product: X}`,
		"two":        `{usb: ["9999"], manufacturer: Y}`,
		"front":      `{usb: ["7777"], over: [back]}`,
		"back":       `{usb: ["7777:0001"]}`,
	})
	ptp := []usb.Interface{{Class: 6, SubClass: 1, Protocol: 1}}
	for name, c := range map[string]struct {
		d    usb.Device
		want string
	}{
		"id and string":             {usb.Device{Vendor: 0x1234, Product: 1, ProductName: "Bodycam"}, "named"},
		"id":                        {usb.Device{Vendor: 0x1234, Product: 1, ProductName: "Cam"}, "model"},
		"vendor and string":         {usb.Device{Vendor: 0x1234, Product: 2, ProductName: "bodycam"}, "vendorname"},
		"vendor":                    {usb.Device{Vendor: 0x1234, Product: 2}, "vendor"},
		"string alone":              {usb.Device{Vendor: 0x4321, Manufacturer: "ACME Ltd."}, "strings"},
		"id before string":          {usb.Device{Vendor: 0x1234, Product: 2, Manufacturer: "ACME Ltd."}, "vendor"},
		"any PTP":                   {usb.Device{Vendor: 0x4321, Interfaces: ptp}, "any-ptp"},
		"id before any PTP":         {usb.Device{Vendor: 0x1234, Product: 1, Interfaces: ptp}, "model"},
		"a disk of no known make":   {usb.Device{Vendor: 0x4321, Interfaces: []usb.Interface{{Class: 8, SubClass: 6}}}, ""},
		"a keyboard":                {usb.Device{Vendor: 0x4321, Interfaces: []usb.Interface{{Class: 3, SubClass: 1}}}, ""},
		"two fit equally well":      {usb.Device{Vendor: 0x9999, Manufacturer: "Y", ProductName: "X"}, ""},
		"and are not any PTP":       {usb.Device{Vendor: 0x9999, Manufacturer: "Y", ProductName: "X", Interfaces: ptp}, ""},
		"id without its string":     {usb.Device{Vendor: 0x9999, Product: 1}, ""},
		"one stands back by choice": {usb.Device{Vendor: 0x7777, Product: 1}, "front"},
		"nothing":                   {usb.Device{}, ""},
	} {
		if got := nameOf(set.ForUSB(c.d)); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if n := len(set.CandidatesUSB(usb.Device{Vendor: 0x9999, Manufacturer: "Y", ProductName: "X"})); n != 2 {
		t.Errorf("%d candidates", n)
	}
}

func TestTheProfileOfACard(t *testing.T) {
	set := profiles(t, map[string]string{
		"any-disk": "{any: true}",
		"label":    `{labels: ['^ZFY\d+$']}`,
		"marker":   `{markers: [DCIM/100MEDIA/Info.dat]}`,
		"both":     `{labels: ['^ZFY\d+$'], markers: [dcim/100media/INFO.DAT]}`,
		"p":        `{markers: [p]}`,
		"q":        `{markers: [q]}`,
		"r":        `{markers: [r], over: [p, both]}`,
	})
	file := &fstest.MapFile{}
	info := fstest.MapFS{"dcim/100Media/info.DAT": file}
	for name, c := range map[string]struct {
		volumes        []profile.Volume
		want, fallback string
	}{
		"label":                  {[]profile.Volume{{Label: "zfy7", FS: fstest.MapFS{}}}, "label", "label"},
		"marker in another case": {[]profile.Volume{{FS: info}}, "marker", "marker"},
		"both":                   {[]profile.Volume{{Label: "ZFY7", FS: info}}, "both", "both"},
		"on the second volume":   {[]profile.Volume{{FS: fstest.MapFS{}}, {Label: "ZFY7", FS: info}}, "both", "both"},
		"apart on two volumes":   {[]profile.Volume{{Label: "ZFY7", FS: fstest.MapFS{}}, {FS: info}}, "", "any-disk"},
		"marker is a folder":     {[]profile.Volume{{FS: fstest.MapFS{"p/x": file}}}, "", "any-disk"},
		"equally well":           {[]profile.Volume{{FS: fstest.MapFS{"p": file, "q": file}}}, "", "any-disk"},
		"by choice":              {[]profile.Volume{{FS: fstest.MapFS{"p": file, "r": file}}}, "r", "r"},
		"by choice, fewer signs": {[]profile.Volume{{Label: "ZFY7", FS: fstest.MapFS{"DCIM/100MEDIA/Info.dat": file, "r": file}}}, "", "any-disk"},
		"nothing":                {[]profile.Volume{{Label: "MYDISK", FS: fstest.MapFS{"a.mp4": file}}}, "", "any-disk"},
		"no volume":              {nil, "", "any-disk"},
		"volume without files":   {[]profile.Volume{{Label: "X"}}, "", "any-disk"},
	} {
		if got := nameOf(set.ForVolumes(c.volumes, false)); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if got := nameOf(set.ForVolumes(c.volumes, true)); got != c.fallback {
			t.Errorf("%s, any allowed: %q, want %q", name, got, c.fallback)
		}
	}
}

func gbk(t testing.TB, s string) string {
	t.Helper()
	out, err := simplifiedchinese.GBK.NewEncoder().String(s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestIdentify(t *testing.T) {
	const sources = "identity:\n  serial: [param_ini, info_dat, label, usb]\n  officer: [param_ini, info_dat, label]\n  model: [usb]\n  label_pattern: '^BWC(?P<serial>\\d+)-(?P<officer>\\d+)$'\n"
	p := must(t, head("x")+"match: {markers: [x]}\n"+sources)
	card := func(files map[string]string) profile.Volume { return profile.Volume{FS: folder(files)} }
	param := gbk(t, "[ZFY]\r\nDevNo=NMQ0007\r\nPolNo=052507\r\nUserName=演示员甲\r\n")
	zeros := "[ZFY]\r\nDevNo=0000000\r\nPolNo=000000\r\n"
	info := gbk(t, "NMQ0008;V1.0.3;052508;演示员乙;大队\r\n")
	for name, c := range map[string]struct {
		e                      profile.Evidence
		serial, officer, model string
	}{
		"Param.ini":                {profile.Evidence{Volumes: []profile.Volume{card(map[string]string{"PARAM.INI": param, "DCIM/100MEDIA/Info.dat": info})}}, "NMQ0007", "052507", ""},
		"zeros are nobody":         {profile.Evidence{Volumes: []profile.Volume{card(map[string]string{"Param.ini": zeros})}}, "", "", ""},
		"zeros, then Info.dat":     {profile.Evidence{Volumes: []profile.Volume{card(map[string]string{"Param.ini": zeros, "DCIM/100MEDIA/Info.dat": info})}}, "NMQ0008", "052508", ""},
		"label":                    {profile.Evidence{Volumes: []profile.Volume{{Label: "bwc0012-345"}}}, "0012", "345", ""},
		"label of zeros":           {profile.Evidence{Volumes: []profile.Volume{{Label: "BWC000-000"}}}, "", "", ""},
		"label of another kind":    {profile.Evidence{Volumes: []profile.Volume{{Label: "KINGSTON"}}}, "", "", ""},
		"USB":                      {profile.Evidence{Device: usb.Device{Serial: "A1B2C3D4", ProductName: "X1"}}, "A1B2C3D4", "", "X1"},
		"USB placeholder":          {profile.Evidence{Device: usb.Device{Serial: "0123456789ABCDEF"}}, "", "", ""},
		"another placeholder":      {profile.Evidence{Device: usb.Device{Serial: "123456789"}}, "", "", ""},
		"one digit over and over":  {profile.Evidence{Device: usb.Device{Serial: "11111111"}}, "", "", ""},
		"USB zeros":                {profile.Evidence{Device: usb.Device{Serial: "000000000000"}}, "", "", ""},
		"two volumes agree":        {profile.Evidence{Volumes: []profile.Volume{card(map[string]string{"Param.ini": param}), card(map[string]string{"Param.ini": param})}}, "NMQ0007", "052507", ""},
		"two volumes contradict":   {profile.Evidence{Volumes: []profile.Volume{card(map[string]string{"Param.ini": param}), card(map[string]string{"Param.ini": "[ZFY]\nDevNo=OTHER\nPolNo=052507\n"})}}, "", "052507", ""},
		"one of them says nothing": {profile.Evidence{Volumes: []profile.Volume{card(map[string]string{"Param.ini": zeros}), card(map[string]string{"Param.ini": param})}}, "NMQ0007", "052507", ""},
		"not asked for":            {profile.Evidence{PTP: device.Identity{Serial: device.Told("PTP", "P1")}, Answer: vendorcmd.Identity{Serial: device.Told("command", "C1")}}, "", "", ""},
		"nothing":                  {profile.Evidence{}, "", "", ""},
	} {
		serial, officer, model := p.Identify(c.e)
		if serial.Value != c.serial || officer.Value != c.officer || model.Value != c.model {
			t.Errorf("%s: %q, %q, %q; want %q, %q, %q", name, serial.Value, officer.Value, model.Value, c.serial, c.officer, c.model)
		}
		for _, f := range []device.Fact{serial, officer, model} {
			if f.Known() != (f.Source != "") {
				t.Errorf("%s: %+v has no source, or a source of nothing", name, f)
			}
		}
	}
}

func TestIdentityByPTPAndByCommand(t *testing.T) {
	generic, _ := builtIn(t).Named("generic-ptp")
	serial, officer, model := generic.Identify(profile.Evidence{
		Device: usb.Device{Serial: "USB1"},
		PTP:    device.Identity{Serial: device.Told("PTP", "0123456789abcdef"), Model: device.Told("PTP", "X1")},
	})
	if serial.Value != "USB1" || officer.Known() || model.Value != "X1" {
		t.Errorf("PTP: %+v, %+v, %+v", serial, officer, model)
	}
	amba, _ := builtIn(t).Named("ambarella-text")
	serial, _, _ = amba.Identify(profile.Evidence{Device: usb.Device{Serial: "USB1"}, Answer: vendorcmd.Identity{Serial: device.Told("command", "C1")}})
	if serial.Value != "C1" {
		t.Errorf("command: %+v", serial)
	}
}

// A link on a card leads nowhere, and what only looks like the file is not opened.
func TestIdentityFilesAreFilesOfTheCard(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "Param.ini"), []byte("[ZFY]\nDevNo=STOLEN\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(outside, "100MEDIA"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(outside, "100MEDIA/Info.dat"), []byte("STOLEN;V1;7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(outside, "Param.ini"), filepath.Join(dir, "Param.ini")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "DCIM")); err != nil {
		t.Fatal(err)
	}
	volumes := []profile.Volume{{FS: os.DirFS(dir)}}
	set := builtIn(t)
	if p, ok := set.ForVolumes(volumes, false); ok {
		t.Errorf("a link was taken for the marker of %s", p.Name)
	}
	p, _ := set.Named("zfy-paramini")
	if serial, _, _ := p.Identify(profile.Evidence{Volumes: volumes}); serial.Known() {
		t.Errorf("read through a link: %+v", serial)
	}
}

func TestInfoDat(t *testing.T) {
	for name, c := range map[string]struct{ text, serial, officer string }{
		"as recorders write it": {gbk(t, "NMQ0007;V1.0.3;052507;演示员甲;大队\r\nmore;x;y\r\n"), "NMQ0007", "052507"},
		"UTF-8 with a mark":     {"\xef\xbb\xbfA1;;7;甲", "A1", "7"},
		"zeros":                 {"0000000;V1;000000;\n", "", ""},
		"spaces":                {" A1 ; ; 7 \n", "A1", "7"},
		"too few fields":        {"A1;V1\n", "", ""},
		"second line":           {"\nA1;V1;7\n", "", ""},
		"not text":              {"\x00\x01\x02;\x03;\x1b[2J\n", "", ""},
		"endless":               {strings.Repeat("9", 100_000), "", ""},
		"cut in the number":     {"A1;" + strings.Repeat("v", 4088) + ";123456789\n", "", ""},
		"empty":                 {"", "", ""},
	} {
		serial, officer := profile.ParseInfoDat(strings.NewReader(c.text))
		if serial.Value != c.serial || officer.Value != c.officer {
			t.Errorf("%s: %q, %q; want %q, %q", name, serial.Value, officer.Value, c.serial, c.officer)
		}
	}
}

func FuzzInfoDat(f *testing.F) {
	f.Add([]byte("NMQ0007;V1.0.3;052507;x;y\r\n"))
	f.Add([]byte("\xd6\xb4;\xff;0000"))
	f.Fuzz(func(t *testing.T, data []byte) {
		serial, officer := profile.ParseInfoDat(strings.NewReader(string(data)))
		for _, fact := range []device.Fact{serial, officer} {
			if fact.Known() && (strings.Trim(fact.Value, "0") == "" || strings.ContainsAny(fact.Value, "\x00\n\r\x1b;") || len(fact.Value) > 64) {
				t.Errorf("%q was taken for an id", fact.Value)
			}
		}
	})
}

func FuzzLabel(f *testing.F) {
	p := must(f, head("x")+"match: {markers: [x]}\nidentity:\n  serial: [label]\n  label_pattern: '^(?P<serial>.+)$'\n")
	f.Add("NMQ0007")
	f.Add("\x00\xff000")
	f.Fuzz(func(t *testing.T, label string) {
		serial, _, _ := p.Identify(profile.Evidence{Volumes: []profile.Volume{{Label: label}}})
		if serial.Known() && (strings.Trim(serial.Value, "0") == "" || strings.ContainsAny(serial.Value, "\x00\n\x1b") || len(serial.Value) > 64) {
			t.Errorf("%q was taken for a number", serial.Value)
		}
	})
}
