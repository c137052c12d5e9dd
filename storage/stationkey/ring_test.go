package stationkey_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/storage/stationkey"
)

// Each case is put to the ring and to ssh-keygen: both must give one verdict.
func TestTrustIsThatOfSSHKeygen(t *testing.T) {
	t.Parallel()
	key, path := create(t)
	other, _ := create(t)
	dir := filepath.Dir(path)
	sig := filepath.Join(dir, "sig")
	write(t, sig, sign(t, key, purpose, message), 0o600)
	for i, c := range []struct {
		what   string
		signer stationkey.Signer
		at     time.Time
		ok     bool
	}{
		{"no ends", stationkey.Signer{}, noon, true},
		{"its only namespace", stationkey.Signer{Namespaces: []string{purpose}}, noon, true},
		{"one of its namespaces", stationkey.Signer{Namespaces: []string{"ingestd-key", purpose}}, noon, true},
		{"another namespace", stationkey.Signer{Namespaces: []string{"ingestd-key"}}, noon, false},
		{"a namespace that is longer", stationkey.Signer{Namespaces: []string{purpose + "s"}}, noon, false},
		{"a second before its begin", stationkey.Signer{ValidAfter: noon}, noon.Add(-time.Second), false},
		{"its first second", stationkey.Signer{ValidAfter: noon}, noon, true},
		{"its last second", stationkey.Signer{ValidBefore: noon}, noon, true},
		{"within its last second", stationkey.Signer{ValidBefore: noon}, noon.Add(time.Second - 1), true},
		{"a second after its end", stationkey.Signer{ValidBefore: noon}, noon.Add(time.Second), false},
		{"between its ends", stationkey.Signer{ValidAfter: noon.Add(-time.Hour), ValidBefore: noon.Add(time.Hour)}, noon, true},
		{"ends with a fraction", stationkey.Signer{ValidBefore: noon.Add(time.Second - 1)}, noon.Add(time.Second), false},
		{"ends in another zone", stationkey.Signer{ValidBefore: noon.In(time.FixedZone("CST", 8*3600))}, noon.Add(time.Second), false},
		{"another key", stationkey.Signer{Key: other.Public()}, noon, false},
		{"a comment", stationkey.Signer{Comment: "the second key, 采集站"}, noon, true},
	} {
		c.signer.Principal = station
		if c.signer.Key == nil {
			c.signer.Key = key.Public()
		}
		var r stationkey.Ring
		if err := r.Add(c.signer); err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		signer, err := r.Verify(purpose, message, read(t, sig), c.at)
		if c.ok != (err == nil) || !c.ok && !errors.Is(err, stationkey.ErrUntrusted) || c.ok && signer.Principal != station {
			t.Errorf("%s: the ring: %+v, %v", c.what, signer, err)
		}
		allowed := filepath.Join(dir, fmt.Sprint("allowed_signers", i))
		write(t, allowed, r.Format(), 0o600)
		out, ok := sshKeygen(t, message, "-Y", "verify", "-f", allowed, "-I", station, "-n", purpose, "-s", sig,
			"-O", "verify-time="+c.at.UTC().Format("20060102150405")+"Z")
		if ok != c.ok {
			t.Errorf("%s: ssh-keygen: %v: %s", c.what, ok, out)
		}
	}
	if _, err := ring(t, key).Verify(purpose, message, read(t, sig), time.Time{}); !errors.Is(err, stationkey.ErrUntrusted) {
		t.Errorf("at no known time: %v", err)
	}
	var empty stationkey.Ring
	if _, err := empty.Verify(purpose, message, read(t, sig), noon); !errors.Is(err, stationkey.ErrUntrusted) {
		t.Errorf("an empty ring: %v", err)
	}
}

func TestRingsComeBack(t *testing.T) {
	t.Parallel()
	a, _ := create(t)
	b, _ := create(t)
	c, _ := create(t)
	var r stationkey.Ring
	for _, s := range []stationkey.Signer{
		{Principal: station, Key: a.Public()},
		{Principal: "NMQ-02", Key: b.Public(), Namespaces: []string{purpose, stationkey.Namespace}, ValidAfter: noon, ValidBefore: noon.Add(time.Hour), Comment: "with  all of it"},
		{Principal: "NMQ-02", Key: c.Public(), ValidAfter: noon.Add(time.Hour), Comment: " space around it\u3000"},
	} {
		if err := r.Add(s); err != nil {
			t.Fatal(err)
		}
	}
	text := r.Format()
	back, err := stationkey.ParseRing(text)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(r.Signers(), back.Signers()) {
		t.Errorf("written %+v, read %+v", r.Signers(), back.Signers())
	}
	if again := back.Format(); string(again) != string(text) {
		t.Errorf("written:\n%sagain:\n%s", text, again)
	}
	// What is handed out is a copy: nobody changes a ring but by Add and Accept.
	handed := r.Signers()
	handed[0].Principal, handed[1].Key[0], handed[1].Namespaces[0] = "X", handed[1].Key[0]^1, "x"
	if string(r.Format()) != string(text) {
		t.Error("a ring was changed through what it handed out")
	}
}

func TestParseRing(t *testing.T) {
	t.Parallel()
	key, _ := create(t)
	other, path := create(t)
	rsa := filepath.Join(filepath.Dir(path), "rsa")
	mustSSHKeygen(t, nil, "-q", "-t", "rsa", "-b", "2048", "-N", "", "-C", "", "-f", rsa)
	pub := strings.TrimSuffix(key.AuthorizedKey(), " "+station)
	rsaPub := strings.TrimSpace(string(read(t, rsa+".pub")))
	for line, says := range map[string]string{ // an empty word: it is taken
		station + " " + pub: "",
		"# a comment\n\n \t" + station + "\t" + pub + " c \r\n":      "",
		station + ` NameSpaces="a,b",valid-after="20260101Z" ` + pub: "",
		station + ` valid-after="202601011200Z" ` + pub:              "",
		station + ` valid-before="20260101120000Z" ` + pub:           "",
		"": "",

		station + " " + pub + "\n" + station + " " + pub:                     "line 2: add key of NMQ-01 to ring: key SHA256:",
		station + " " + pub + "\nNMQ-02 " + pub:                              "there already",
		station + " " + rsaPub:                                               "neither a key of kind",
		station + ` namespaces="a" ` + rsaPub:                                "of kind",
		station + " ssh-ed25519 " + strings.Fields(rsaPub)[1]:                `"ssh-rsa"`,
		station + " cert-authority " + pub:                                   "cert-authority",
		station + ` cert-authority,namespaces="a" ` + pub:                    "cert-authority",
		station + ` no-such-option="a" ` + pub:                               "does not know",
		station + ` namespaces="a",namespaces="b" ` + pub:                    "twice",
		station + ` namespaces="" ` + pub:                                    "namespace",
		station + ` namespaces="a*" ` + pub:                                  "namespace",
		station + ` namespaces="a,!b" ` + pub:                                "namespace",
		station + ` namespaces=a ` + pub:                                     "quotes",
		station + ` namespaces=a",valid-after="20260101Z" ` + pub:            "quotes",
		station + ` namespaces="a ` + pub:                                    "quotes",
		station + ` namespaces="a"` + pub:                                    "neither a comma",
		station + ` namespaces="a",`:                                         "neither a key",
		station + ` valid-before="20260101" ` + pub:                          "with Z",
		station + ` valid-before="202601Z" ` + pub:                           "YYYYMMDD",
		station + ` valid-before="20261301Z" ` + pub:                         "valid-before",
		station + ` valid-before="19700101Z" ` + pub:                         "can't be written",
		station + ` valid-after="20260102Z",valid-before="20260101Z" ` + pub: "no later than",
		station + ` valid-after="20260101Z",valid-before="20260101Z" ` + pub: "no later than",
		"*" + " " + pub:                           "principal",
		"NMQ-0?" + " " + pub:                      "principal",
		"!NMQ-01" + " " + pub:                     "principal",
		"NMQ-01,NMQ-02" + " " + pub:               "one line for each",
		`"NMQ-01"` + " " + pub:                    "principal",
		station:                                   "neither a key",
		pub:                                       "neither a key",
		station + " ssh-ed25519":                  "public key",
		station + " ssh-ed25519 AAAA":             "public key",
		station + " " + pub[:len(pub)-4]:          "public key",
		station + " " + pub + "AAAA":              "public key",
		station + " " + pub + " c\rNMQ-02 " + pub: "control characters",
		"\ufeff" + station + " " + pub:            "principal",
	} {
		r, err := stationkey.ParseRing([]byte(line))
		switch {
		case says == "" && err != nil:
			t.Errorf("%s\n\t%v", line, err)
		case says != "" && (err == nil || r != nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "line ")):
			t.Errorf("%s\n\t%q is not in: %v", line, says, err)
		}
	}
	r, err := stationkey.ParseRing([]byte(station + ` valid-after="20260101Z",valid-before="202601021530Z" ` + other.AuthorizedKey()))
	if err != nil {
		t.Fatal(err)
	}
	s := r.Signers()[0]
	if !s.ValidAfter.Equal(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)) || !s.ValidBefore.Equal(time.Date(2026, 1, 2, 15, 30, 0, 0, time.UTC)) ||
		s.Comment != station || s.Fingerprint() != other.Fingerprint() {
		t.Errorf("read %+v", s)
	}
}

func TestAddRefusesWhatALineCannotHold(t *testing.T) {
	t.Parallel()
	key, _ := create(t)
	good := stationkey.Signer{Principal: station, Key: key.Public()}
	for what, spoil := range map[string]func(*stationkey.Signer){
		"no principal":                      func(s *stationkey.Signer) { s.Principal = "" },
		"a pattern":                         func(s *stationkey.Signer) { s.Principal = "*" },
		"a second line":                     func(s *stationkey.Signer) { s.Principal = "a\nb" },
		"a principal as comment":            func(s *stationkey.Signer) { s.Principal = "#a" },
		"no key":                            func(s *stationkey.Signer) { s.Key = nil },
		"a short key":                       func(s *stationkey.Signer) { s.Key = s.Key[1:] },
		"an empty namespace":                func(s *stationkey.Signer) { s.Namespaces = []string{""} },
		"two namespaces in one":             func(s *stationkey.Signer) { s.Namespaces = []string{"a,b"} },
		"a comment of two lines":            func(s *stationkey.Signer) { s.Comment = "a\nb" },
		"an end before 1970":                func(s *stationkey.Signer) { s.ValidBefore = time.Unix(-1, 0) },
		"an end at 1970":                    func(s *stationkey.Signer) { s.ValidBefore = time.Unix(0, 0) },
		"a year of five digits":             func(s *stationkey.Signer) { s.ValidBefore = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"an end in the second of its begin": func(s *stationkey.Signer) { s.ValidAfter, s.ValidBefore = noon, noon.Add(time.Second-1) },
		"an end without a begin":            func(s *stationkey.Signer) { s.ValidAfter, s.ValidBefore = noon, noon },
	} {
		var r stationkey.Ring
		s := good
		spoil(&s)
		if err := r.Add(s); err == nil || len(r.Signers()) != 0 {
			t.Errorf("it took %s: %v", what, err)
		}
	}
}

func FuzzParseRing(f *testing.F) {
	key, _ := create(f)
	pub := key.AuthorizedKey()
	f.Add([]byte(station + " " + pub))
	f.Add([]byte("# c\n" + station + ` namespaces="a,b",valid-after="20260101Z",valid-before="20270101120000Z" ` + pub))
	f.Add([]byte(station + ` namespaces="a`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := stationkey.ParseRing(text)
		if err != nil {
			return
		}
		back, err := stationkey.ParseRing(r.Format())
		if err != nil || !reflect.DeepEqual(r.Signers(), back.Signers()) {
			t.Errorf("what was read can't be written and read again: %v\n%s", err, r.Format())
		}
	})
}
