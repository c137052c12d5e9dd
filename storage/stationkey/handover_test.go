package stationkey_test

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/storage/stationkey"
)

const reason = "yearly change <年度更换> & more"

func handOver(t testing.TB, from, to *stationkey.Key, at time.Time) stationkey.SignedHandOver {
	t.Helper()
	s, err := stationkey.NewHandOver(from, to, station, reason, at)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTheNewKeyTakesOverAtItsTime(t *testing.T) {
	t.Parallel()
	first, _ := create(t)
	second, _ := create(t)
	third, _ := create(t)
	var r stationkey.Ring
	allowed := []string{purpose, stationkey.Namespace}
	if err := r.Add(stationkey.Signer{Principal: station, Key: first.Public(), Namespaces: allowed}); err != nil {
		t.Fatal(err)
	}
	later := noon.AddDate(1, 0, 0)
	one, two := handOver(t, first, second, noon.Add(300*time.Millisecond)), handOver(t, second, third, later)
	if err := r.Accept(one); err != nil {
		t.Fatal(err)
	}
	if err := r.Accept(two); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		key  *stationkey.Key
		at   time.Time
		ok   bool
	}{
		{"the first, long before", first, noon.AddDate(-1, 0, 0), true},
		{"the first, in its last second", first, noon, true},
		{"the first, after", first, noon.Add(time.Second), false},
		{"the second, before", second, noon.Add(-time.Second), false},
		{"the second, in its first second", second, noon, true},
		{"the second, in its last second", second, later, true},
		{"the second, after", second, later.Add(time.Second), false},
		{"the third, before", third, later.Add(-time.Second), false},
		{"the third, after", third, later.AddDate(10, 0, 0), true},
	} {
		if _, err := r.Verify(purpose, message, sign(t, c.key, purpose, message), c.at); c.ok != (err == nil) || !c.ok && !errors.Is(err, stationkey.ErrUntrusted) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	for _, s := range r.Signers() {
		if s.Principal != station || !reflect.DeepEqual(s.Namespaces, allowed) {
			t.Errorf("%+v has not the rights of the first key", s)
		}
	}
	// A ring is made anew from all hand-overs, some of which it may know.
	before := string(r.Format())
	for _, s := range []stationkey.SignedHandOver{one, two} {
		if err := r.Accept(s); err != nil || string(r.Format()) != before {
			t.Errorf("accepted again: %v\n%s", err, r.Format())
		}
	}
}

func TestAcceptRefuses(t *testing.T) {
	t.Parallel()
	old, _ := create(t)
	next, _ := create(t)
	thief, _ := create(t)
	good := handOver(t, old, next, noon)
	with := func(change func(*stationkey.SignedHandOver)) stationkey.SignedHandOver {
		s := good
		change(&s)
		return s
	}
	trusted := func(signers ...stationkey.Signer) *stationkey.Ring {
		var r stationkey.Ring
		for _, s := range signers {
			if s.Principal == "" {
				s.Principal = station
			}
			if s.Key == nil {
				s.Key = old.Public()
			}
			if err := r.Add(s); err != nil {
				t.Fatal(err)
			}
		}
		return &r
	}
	plain := stationkey.Signer{}
	document, err := good.HandOver.Encode()
	if err != nil {
		t.Fatal(err)
	}
	handedOver := trusted(plain)
	if err := handedOver.Accept(good); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		ring *stationkey.Ring
		s    stationkey.SignedHandOver
		want error // nil: neither sentinel
	}{
		"not signed by the old key":   {trusted(plain), with(func(s *stationkey.SignedHandOver) { s.OldSignature = nil }), stationkey.ErrSignature},
		"signed by the new key twice": {trusted(plain), with(func(s *stationkey.SignedHandOver) { s.OldSignature = s.NewSignature }), stationkey.ErrUntrusted},
		"signed by a stranger": {trusted(plain), with(func(s *stationkey.SignedHandOver) {
			s.OldSignature = sign(t, thief, stationkey.Namespace, document)
		}), stationkey.ErrUntrusted},
		"signed by another key of the ring": {trusted(plain, stationkey.Signer{Principal: "NMQ-02", Key: thief.Public()}),
			with(func(s *stationkey.SignedHandOver) { s.OldSignature = sign(t, thief, stationkey.Namespace, document) }), stationkey.ErrUntrusted},
		"signed by another key of the station": {trusted(plain, stationkey.Signer{Key: thief.Public()}),
			with(func(s *stationkey.SignedHandOver) { s.OldSignature = sign(t, thief, stationkey.Namespace, document) }), stationkey.ErrUntrusted},
		"signed for another namespace": {trusted(plain), with(func(s *stationkey.SignedHandOver) {
			s.OldSignature = sign(t, old, purpose, document)
		}), stationkey.ErrSignature},
		"not signed by the new key":   {trusted(plain), with(func(s *stationkey.SignedHandOver) { s.NewSignature = nil }), stationkey.ErrSignature},
		"signed by the old key twice": {trusted(plain), with(func(s *stationkey.SignedHandOver) { s.NewSignature = s.OldSignature }), stationkey.ErrUntrusted},
		"the reason changed":          {trusted(plain), with(func(s *stationkey.SignedHandOver) { s.HandOver.Reason += "!" }), stationkey.ErrSignature},
		"the time changed":            {trusted(plain), with(func(s *stationkey.SignedHandOver) { s.HandOver.At = noon.Add(time.Second) }), stationkey.ErrSignature},
		"the station changed":         {trusted(plain), with(func(s *stationkey.SignedHandOver) { s.HandOver.Station = "NMQ-02" }), stationkey.ErrSignature},
		"the new key changed": {trusted(plain), with(func(s *stationkey.SignedHandOver) {
			s.HandOver.NewKey = strings.TrimSuffix(thief.AuthorizedKey(), " "+station)
		}), stationkey.ErrSignature},
		"another schema":                    {trusted(plain), with(func(s *stationkey.SignedHandOver) { s.HandOver.Schema += "0" }), nil},
		"another station":                   {trusted(stationkey.Signer{Principal: "NMQ-02"}), good, stationkey.ErrUntrusted},
		"the old key unknown":               {trusted(), good, stationkey.ErrUntrusted},
		"the old key ended":                 {trusted(stationkey.Signer{ValidBefore: noon.Add(-time.Second)}), good, stationkey.ErrUntrusted},
		"the old key has an end, backdated": {trusted(stationkey.Signer{ValidBefore: noon.Add(time.Hour)}), good, stationkey.ErrUntrusted},
		"before the old key":                {trusted(stationkey.Signer{ValidAfter: noon.Add(time.Second)}), good, stationkey.ErrUntrusted},
		"as the old key began":              {trusted(stationkey.Signer{ValidAfter: noon}), good, stationkey.ErrUntrusted},
		"the old key may not":               {trusted(stationkey.Signer{Namespaces: []string{purpose}}), good, stationkey.ErrUntrusted},
		"the new key known":                 {trusted(plain, stationkey.Signer{Key: next.Public()}), good, nil},
		"the new key another station's":     {trusted(plain, stationkey.Signer{Key: next.Public(), Principal: "NMQ-02"}), good, nil},
		// The old key again, after it has handed over: a thief of it says that
		// it was earlier, at the same time, later.
		"a second successor, earlier":   {handedOver, handOver(t, old, thief, noon.Add(-time.Hour)), stationkey.ErrUntrusted},
		"a second successor, same time": {handedOver, handOver(t, old, thief, noon), stationkey.ErrUntrusted},
		"a second successor, later":     {handedOver, handOver(t, old, thief, noon.Add(time.Hour)), stationkey.ErrUntrusted},
		"back to the old key":           {handedOver, handOver(t, next, old, noon.Add(time.Hour)), nil},
		"the same pair at another time": {handedOver, handOver(t, old, next, noon.Add(-time.Hour)), nil},
	} {
		before := string(c.ring.Format())
		err := c.ring.Accept(c.s)
		if err == nil || c.want != nil && !errors.Is(err, c.want) ||
			c.want == nil && (errors.Is(err, stationkey.ErrSignature) || errors.Is(err, stationkey.ErrUntrusted)) {
			t.Errorf("%s: %v", what, err)
		}
		if string(c.ring.Format()) != before {
			t.Errorf("%s: refused, but the ring has changed", what)
		}
	}
}

func TestNewHandOverRefuses(t *testing.T) {
	t.Parallel()
	old, _ := create(t)
	next, _ := create(t)
	for what, c := range map[string]struct {
		next            *stationkey.Key
		station, reason string
		at              time.Time
	}{
		"the same key":       {old, station, reason, noon},
		"no station":         {next, "", reason, noon},
		"a pattern":          {next, "*", reason, noon},
		"no reason":          {next, station, " ", noon},
		"no UTF-8":           {next, station, "\xff", noon},
		"no time":            {next, station, reason, time.Time{}},
		"a time beyond 9999": {next, station, reason, time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		if _, err := stationkey.NewHandOver(old, c.next, c.station, c.reason, c.at); err == nil {
			t.Errorf("it took %s", what)
		}
	}
}

func TestHandOversComeBackAndAreCanonical(t *testing.T) {
	t.Parallel()
	old, path := create(t)
	next, _ := create(t)
	signed := handOver(t, old, next, noon.In(time.FixedZone("CST", 8*3600)))
	text, err := signed.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := stationkey.DecodeHandOver(text)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(signed, back) {
		t.Errorf("written %+v, read %+v", signed, back)
	}
	if err := ring(t, old).Accept(back); err != nil {
		t.Error(err)
	}
	document, err := signed.HandOver.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string][]byte{"signed": text, "document": document} {
		at := -1
		for _, key := range []string{"at", "document", "new_key", "new_signature", "old_key", "old_signature", "reason", "schema", "station"} {
			if i := strings.Index(string(text), "\n \""+key+"\": "); i >= 0 {
				if i < at {
					t.Errorf("%s: the keys are not sorted:\n%s", what, text)
				}
				at = i
			}
		}
		if at < 0 || !strings.HasSuffix(string(text), "}\n") || strings.HasSuffix(string(text), "\n\n") || strings.Contains(string(text), `\u003c`) {
			t.Errorf("%s is not canonical:\n%s", what, text)
		}
	}
	// What a court does: take document and signature out and ask ssh-keygen.
	var fields map[string]string
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(path)
	allowed, sig := filepath.Join(dir, "allowed_signers"), filepath.Join(dir, "sig")
	write(t, allowed, ring(t, old, next).Format(), 0o600)
	for _, by := range []string{"old_signature", "new_signature"} {
		write(t, sig, []byte(fields[by]), 0o600)
		mustSSHKeygen(t, []byte(fields["document"]), "-Y", "verify", "-f", allowed, "-I", station, "-n", stationkey.Namespace, "-s", sig)
	}
}

func TestDecodeHandOverRefuses(t *testing.T) {
	t.Parallel()
	old, _ := create(t)
	next, _ := create(t)
	encoded, err := handOver(t, old, next, noon).Encode()
	if err != nil {
		t.Fatal(err)
	}
	text := string(encoded)
	replace := func(from, to string) string {
		if !strings.Contains(text, from) {
			t.Fatalf("%q is not in it:\n%s", from, text)
		}
		return strings.Replace(text, from, to, 1)
	}
	for what, text := range map[string]string{
		"nothing":                  "",
		"a cut end":                text[:len(text)-3],
		"something behind":         text + "{}",
		"another newline":          text + "\n",
		"another schema outside":   replace("handover-signed/1", "handover-signed/2"),
		"another schema inside":    replace("ingestd.key-handover/1", "ingestd.key-handover/2"),
		"an unknown key outside":   replace(`"document"`, `"more": "", "document"`),
		"an unknown key inside":    replace(`\n \"at\"`, `\n \"more\": \"\",\n \"at\"`),
		"a key twice outside":      replace(`"schema"`, `"old_signature": "", "schema"`),
		"a key twice inside":       replace(`\n \"reason\"`, `\n \"reason\": \"other\",\n \"reason\"`),
		"a key in capitals":        replace(`\n \"reason\"`, `\n \"Reason\"`),
		"another space":            replace(`\n \"reason\"`, `\n  \"reason\"`),
		"a time in another zone":   replace("2026-11-24T12:00:00Z", "2026-11-24T20:00:00+08:00"),
		"a fraction of a second":   replace("2026-11-24T12:00:00Z", "2026-11-24T12:00:00.5Z"),
		"a comment behind the key": replace(`\",\n \"old_key\"`, ` c\",\n \"old_key\"`),
		"a key on two lines":       replace("ssh-ed25519 AAAA", `ssh-ed25519 AA\\nAA`),
		"another kind of key":      replace("ssh-ed25519", "ssh-rsa"),
	} {
		if _, err := stationkey.DecodeHandOver([]byte(text)); err == nil {
			t.Errorf("it took %s", what)
		}
	}
}

func FuzzDecodeHandOver(f *testing.F) {
	old, _ := create(f)
	next, _ := create(f)
	text, err := handOver(f, old, next, noon).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := stationkey.DecodeHandOver(text)
		if err != nil {
			return
		}
		if again, err := s.Encode(); err != nil || string(again) != string(text) {
			t.Errorf("read and written again it is another: %v\n%s", err, again)
		}
	})
}
