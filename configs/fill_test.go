package configs_test

import (
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/bodyworn/ingestd/configs"
)

var comment = regexp.MustCompile(`(?m)^\s*#.*$`)

// What is filled in is what is loaded, whatever it looks like, and nothing else is
// changed: every comment stays, and so does every other value.
func TestFilledInIsWhatIsLoaded(t *testing.T) {
	set := []configs.Setting{
		{Key: "station.id", Value: "0412"}, {Key: "station.name", Value: `奈曼旗 "一楼": #3, {x} \ 'y'`},
		{Key: "station.timezone", Value: "UTC"}, {Key: "storage.kind", Value: "s3"}, {Key: "storage.s3.endpoint", Value: "store.example:9000"},
		{Key: "storage.s3.credentials_file", Value: "/etc/a b/键: #"}, {Key: "retention.months", Value: "12"},
		{Key: "usb.watch", Value: "slots"},
		{Key: "usb.slots[0].name", Value: "1"}, {Key: "usb.slots[0].port", Value: "1-2.1"},
		{Key: "usb.slots[1].name", Value: "左, 上"}, {Key: "usb.slots[1].port", Value: "1-2.2"},
		{Key: "sources[0].path", Value: "/media"}, {Key: "sources[0].kind", Value: "mounts"}, {Key: "sources[0].slot", Value: ""},
	}
	text, err := configs.Fill(set)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := configs.Load(writeFile(t, string(text)))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	want := map[string]string{}
	for _, s := range defaults {
		if s.Key != "usb.slots" && s.Key != "sources" {
			want[s.Key] = s.Value
		}
	}
	for _, s := range set {
		want[s.Key] = s.Value
	}
	got := map[string]string{}
	for _, s := range cfg.Effective() {
		got[s.Key] = s.Value
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("loaded:\n%v\nwant:\n%v", got, want)
	}
	none, err := configs.Fill(nil)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(comment.FindAllString(string(text), -1), comment.FindAllString(string(none), -1)) {
		t.Error("a comment is lost")
	}
	// What was loaded can be filled in again and is the same.
	again, err := configs.Fill(cfg.Effective())
	if err != nil {
		t.Fatal(err)
	}
	cfg, err = configs.Load(writeFile(t, string(again)))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range cfg.Effective() {
		if want[s.Key] != s.Value {
			t.Errorf("%s became %s", s.Key, s.Value)
		}
	}
}

func TestFillRefusesWhatIsNoSetting(t *testing.T) {
	for _, key := range []string{"station", "station.ids", "stations[0].id", "station.id.x", "usb.slots[1].port", "usb[0].x", ""} {
		if text, err := configs.Fill([]configs.Setting{{Key: key, Value: "x"}}); err == nil {
			t.Errorf("%q was filled in:\n%s", key, strings.Join(strings.Split(string(text), "\n")[:30], "\n"))
		}
	}
	if !configs.Has("usb.slots") || !configs.Has("station.id") || configs.Has("station.ids") || configs.Has("id") {
		t.Error("Has is wrong")
	}
}
