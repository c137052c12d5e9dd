package vendorcmd_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/bodyworn/ingestd/device/usb"
	"github.com/bodyworn/ingestd/device/vendorcmd"
)

func TestTheInterfaceForCommands(t *testing.T) {
	device := func(classes ...uint8) (d usb.Device) {
		for n, c := range classes {
			d.Interfaces = append(d.Interfaces, usb.Interface{Number: n, Class: c, SubClass: uint8(n)})
		}
		return d
	}
	for _, c := range []struct {
		text string
		in   usb.Device
		want int // -1: none
	}{
		{"", device(0xff), 0},
		{"", device(0x08, 0xff), 1},
		{"", device(0xff, 0xff), -1}, // which of them is not known
		{"", device(0x08), -1},
		{"0", device(0xff), 0},
		{"0", device(0x08), -1}, // it is a disk already
		{"1", device(0xff), -1},
		{"class ff/01", device(0xff, 0xff), 1},
		{"class 0a", device(0x02, 0x0a), 1},
	} {
		var i vendorcmd.Interface
		if c.text != "" {
			if err := i.UnmarshalText([]byte(c.text)); err != nil {
				t.Fatal(err)
			}
		}
		n, ok := i.In(c.in)
		if ok != (c.want >= 0) || ok && n != c.want {
			t.Errorf("%q in %v: %d, %v", c.text, c.in.Interfaces, n, ok)
		}
	}
	for _, bad := range []string{"-1", "x", "class", "class fff", "class ff/", "class 08", "class 03/01", "999"} {
		if err := new(vendorcmd.Interface).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestCheckFindsWhatMakesNoSense(t *testing.T) {
	ok := regexp.MustCompile("OK")
	for name, c := range map[string]struct {
		commands vendorcmd.Commands
		want     string // key
	}{
		"nothing":                {vendorcmd.Commands{}, ""},
		"empty send":             {vendorcmd.Commands{Login: &vendorcmd.Exchange{Expect: ok}}, "login.send"},
		"open brace":             {vendorcmd.Commands{Login: &vendorcmd.Exchange{Send: "a{b", Expect: ok}}, "login.send"},
		"stray brace":            {vendorcmd.Commands{Login: &vendorcmd.Exchange{Send: "a}b", Expect: ok}}, "login.send"},
		"unknown placeholder":    {vendorcmd.Commands{Login: &vendorcmd.Exchange{Send: "{pass}", Expect: ok}}, "login.send"},
		"not ASCII":              {vendorcmd.Commands{Login: &vendorcmd.Exchange{Send: "密", Expect: ok}}, "login.send"},
		"time in login":          {vendorcmd.Commands{Login: &vendorcmd.Exchange{Send: "{time:15}", Expect: ok}}, "login.send"},
		"no time":                {vendorcmd.Commands{SetTime: &vendorcmd.Exchange{Send: "set", Expect: ok}}, "set_time.send"},
		"layout of another tool": {vendorcmd.Commands{SetTime: &vendorcmd.Exchange{Send: "{time:HHmmss}", Expect: ok}}, "set_time.send"},
		"date alone":             {vendorcmd.Commands{SetDate: &vendorcmd.Exchange{Send: "{time:20060102}", Expect: ok}}, "set_date"},
		"no expect":              {vendorcmd.Commands{Login: &vendorcmd.Exchange{Send: "a"}}, "login.expect"},
		"expect fits all":        {vendorcmd.Commands{Login: &vendorcmd.Exchange{Send: "a", Expect: regexp.MustCompile(".*")}}, "login.expect"},
		"refused fits all":       {vendorcmd.Commands{Login: &vendorcmd.Exchange{Send: "a", Expect: ok, Refused: regexp.MustCompile("x*")}}, "login.refused"},
		"no group":               {vendorcmd.Commands{Battery: &vendorcmd.Exchange{Send: "a", Expect: ok}}, "battery.expect"},
		"unknown group":          {vendorcmd.Commands{Login: &vendorcmd.Exchange{Send: "a", Expect: regexp.MustCompile("(?P<x>OK)")}}, "login.expect"},
		"no layout":              {vendorcmd.Commands{ReadClock: &vendorcmd.Exchange{Send: "a", Expect: regexp.MustCompile("(?P<time>OK)")}}, "read_clock.time_layout"},
		"layout elsewhere":       {vendorcmd.Commands{Login: &vendorcmd.Exchange{Send: "a", Expect: ok, TimeLayout: "2006"}}, "login.time_layout"},
		"endless timeout":        {vendorcmd.Commands{Login: &vendorcmd.Exchange{Send: "a", Expect: ok, Timeout: 1e15}}, "login.timeout"},
		"end too long":           {vendorcmd.Commands{End: strings.Repeat("#", 17), Login: &vendorcmd.Exchange{Send: "a", Expect: ok}}, "end"},
	} {
		var keys []string
		c.commands.Check(func(key, text string) {
			keys = append(keys, key)
			if text == "" {
				t.Errorf("%s: no text", name)
			}
		})
		if len(keys) != 1 || keys[0] != c.want {
			t.Errorf("%s: problems with %q, want %q", name, keys, c.want)
		}
	}
	good := commands()
	good.Check(func(key, text string) { t.Errorf("%s: %s", key, text) })
}
