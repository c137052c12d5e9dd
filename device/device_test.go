package device_test

import (
	"encoding/json"
	"strings"
	"testing"

	"golang.org/x/text/encoding/simplifiedchinese"

	"github.com/bodyworn/ingestd/device"
)

func TestParamINI(t *testing.T) {
	gbk := func(s string) string {
		out, err := simplifiedchinese.GBK.NewEncoder().String(s)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for name, c := range map[string]struct{ text, serial, officer string }{
		"as recorders write it": {gbk("[ZFY]\r\nDevNo=NMQ0007\r\nPolNo=150525\r\nUserName=张三\r\nCorpName=奈曼旗\r\n"), "NMQ0007", "150525"},
		"UTF-8 with a mark":     {"\xef\xbb\xbf[zhy]\nDEVNO = A1 \npolno=7\n", "A1", "7"},
		"factory default":       {"[ZFY]\nDevNo=0000000\nPolNo=000000\n", "", ""},
		"another section":       {"[WIFI]\nDevNo=NMQ0007\n", "", ""},
		"empty values":          {"[ZFY]\nDevNo=\nPolNo=  \n", "", ""},
		"not text":              {"[ZFY]\nDevNo=\x1b[2J\x01\nPolNo=a\x7fb\n", "", ""},
		"endless value":         {"[ZFY]\nDevNo=" + strings.Repeat("9", 100_000), "", ""},
		"empty file":            {"", "", ""},
		"broken GBK":            {"[ZFY]\nDevNo=\xff\xff\xff\n", "", ""},
	} {
		serial, officer := device.ParseParamINI(strings.NewReader(c.text))
		if serial.Value != c.serial || officer.Value != c.officer {
			t.Errorf("%s: serial %q, officer %q; want %q, %q", name, serial.Value, officer.Value, c.serial, c.officer)
		}
	}
}

func FuzzParamINI(f *testing.F) {
	f.Add([]byte("[ZFY]\nDevNo=NMQ0007\nPolNo=000000\n"))
	f.Add([]byte("\xff[ZHY]\r\nPolNo=\xd6\xb4\xb7\xa8"))
	f.Fuzz(func(t *testing.T, data []byte) {
		serial, officer := device.ParseParamINI(strings.NewReader(string(data)))
		for _, fact := range []device.Fact{serial, officer} {
			if fact.Known() && (strings.Trim(fact.Value, "0") == "" || strings.ContainsAny(fact.Value, "\x00\n\r\x1b")) {
				t.Errorf("%q was taken for an id", fact.Value)
			}
		}
	})
}

func TestUnknownIsNullAndNeverAValue(t *testing.T) {
	out, err := json.Marshal(struct {
		ID     device.Identity
		Clock  device.ClockReading
		Health device.Health
	}{Clock: device.ClockReading{Kind: device.ClockUnknown}})
	if err != nil {
		t.Fatal(err)
	}
	text := string(out)
	for _, want := range []string{`"serial":null`, `"officer":null`, `"kind":"unknown"`} {
		if !strings.Contains(text, want) {
			t.Errorf("%s lacks %s", text, want)
		}
	}
	for _, never := range []string{"offset", "battery", "capacity"} {
		if strings.Contains(text, never) {
			t.Errorf("%s tells of %s, of which nothing is known", text, never)
		}
	}
	var back device.Identity
	if err := json.Unmarshal([]byte(`{"serial":null,"officer":{"value":"7","source":"x"}}`), &back); err != nil || back.Serial.Known() || back.Officer.Value != "7" {
		t.Errorf("read back %+v, %v", back, err)
	}
}
