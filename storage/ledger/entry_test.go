package ledger_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/storage/ledger"
)

func TestEntryForms(t *testing.T) {
	t.Parallel()
	line, err := entry(7).Encode()
	const want = `{"actor":"station","clock":"synchronised, ±4 ms","detail":{"a":"7","z":"last"},"event":"session.sealed","objects":[{"key":"a/b/7.mp4","sha256":"0000000000000000000000000000000000000000000000000000000000000007","version":"v1"}],"officer":"110123","reason":"案件 42","recorder":"REC<1>&2","schema":"ingestd.ledger/1","session":"20260831-0007","station":"STATION-1","time":"2026-08-31T09:00:07.123456+08:00"}`
	if err != nil || string(line) != want {
		t.Errorf("%v\n%s", err, line)
	}
	many := entry(0)
	for range 10000 {
		many.Objects = append(many.Objects, many.Objects[0])
	}
	with := func(change func(*ledger.Entry)) ledger.Entry {
		e := entry(0)
		change(&e)
		return e
	}
	for name, e := range map[string]ledger.Entry{
		"no actor":        with(func(e *ledger.Entry) { e.Actor = "" }),
		"no station":      with(func(e *ledger.Entry) { e.Station = "" }),
		"no event":        with(func(e *ledger.Entry) { e.Event = "" }),
		"event in words":  with(func(e *ledger.Entry) { e.Event = "Session sealed" }),
		"no time":         with(func(e *ledger.Entry) { e.Time = time.Time{} }),
		"odd offset":      with(func(e *ledger.Entry) { e.Time = e.Time.In(time.FixedZone("LMT", 8*3600+5*60+43)) }),
		"year 10000":      with(func(e *ledger.Entry) { e.Time = e.Time.AddDate(8000, 0, 0) }),
		"other schema":    with(func(e *ledger.Entry) { e.Schema = "ingestd.ledger/2" }),
		"not UTF-8":       with(func(e *ledger.Entry) { e.Officer = "\xc0" }),
		"detail not UTF8": with(func(e *ledger.Entry) { e.Detail["\xff"] = "" }),
		"key not UTF-8":   with(func(e *ledger.Entry) { e.Objects[0].Key = "\xff" }),
		"no key":          with(func(e *ledger.Entry) { e.Objects[0].Key = "" }),
		"short digest":    with(func(e *ledger.Entry) { e.Objects[0].SHA256 = "00" }),
		"upper digest":    with(func(e *ledger.Entry) { e.Objects[0].SHA256 = strings.Repeat("A", 64) }),
		"too long":        many,
	} {
		if _, err := e.Encode(); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	for name, text := range map[string]string{
		"space":       strings.Replace(want, ",", ", ", 1),
		"unknown key": strings.Replace(want, `{"actor"`, `{"aa":"","actor"`, 1),
		"twice":       strings.Replace(want, `"clock"`, `"actor":"station","clock"`, 1),
		"escaped":     strings.Replace(want, "<", `\u003c`, 1),
		"two":         want + want,
		"newline":     want + "\n",
		"nothing":     "",
		"null":        "null",
		"bad UTF-8":   strings.Replace(want, "案", "\xff", 1),
		"other zone":  strings.Replace(want, "+08:00", "+0800", 1),
	} {
		if _, err := ledger.ParseLine([]byte(text)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func FuzzParseLine(f *testing.F) {
	for n := range 3 {
		line, err := entry(n).Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(line)
	}
	f.Add([]byte(`{"actor":"a","event":"e","schema":"ingestd.ledger/1","station":"s","time":"2026-01-01T00:00:00Z"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := ledger.ParseLine(line)
		if err != nil {
			return
		}
		if again, err := e.Encode(); err != nil || !bytes.Equal(again, line) || bytes.ContainsAny(line, "\n\x00") {
			t.Errorf("%v: %q gives %q", err, line, again)
		}
	})
}
