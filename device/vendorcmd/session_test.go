package vendorcmd_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/usb"
	"github.com/bodyworn/ingestd/device/vendorcmd"
)

func TestFromLoginToDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{answer: good}
		s := loggedIn(t, r)
		id, err := s.Identity(t.Context())
		if err != nil || id.Serial.Value != "NMQ0007" || id.Officer.Value != "052507" || id.Model.Known() {
			t.Errorf("identity %+v, %v", id, err)
		}
		if charge, err := s.Battery(t.Context()); err != nil || charge == nil || *charge != 61 {
			t.Errorf("battery %v, %v", charge, err)
		}
		if err := s.DiskMode(t.Context()); err != nil {
			t.Error(err)
		}
		want := []string{"@Ver;8;" + password + ";#", "@Gdv;#", "@Bat;#", "@ATH;" + password + ";#"}
		if !slices.Equal(r.got, want) {
			t.Errorf("sent %q, want %q", r.got, want)
		}
		if _, err := s.Identity(t.Context()); err == nil || len(r.got) != len(want) {
			t.Errorf("a command after the switch to a disk: %v, sent %q", err, r.got)
		}
	})
}

func TestUnlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{answer: good}
		if err := vendorcmd.Unlock(t.Context(), r, commands(), password); err != nil || len(r.got) != 2 {
			t.Errorf("%v, sent %q", err, r.got)
		}
	})
}

func TestAWrongPasswordIsSentOnceAndNeedsAPerson(t *testing.T) {
	for name, answers := range map[string][]string{
		"refused":                 {"@Ver;ERR;#"},
		"odd":                     {"@Hello;#"},
		"odd, with the password":  {"@Ver;8;" + password + ";#"},
		"odd, a piece of it":      {"@Ver;8;" + strings.ToUpper(password[2:]) + ";#"},
		"refused, with it":        {"@Ver;ERR;" + password + ";#"},
		"endless":                 slices.Repeat([]string{strings.Repeat("x", 60)}, 1000),
		"endless, of nothing":     slices.Repeat([]string{""}, 1000),
		"stops in the middle":     {"@Ver;O"},
		"an answer to more":       {"@Gdv;8;NMQ0007;#@Ver;OK;#"},
		"control characters":      {"\x1b[2J\x07#"},
		"neither UTF-8 nor GBK":   {"\xff\xff\x80#"},
		"of a command from later": {"@Stm;OK;#"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &recorder{answer: func(string) []string { return answers }}
				s, err := vendorcmd.New(r, commands(), password)
				if err != nil {
					t.Fatal(err)
				}
				err = s.Login(t.Context())
				if !errors.Is(err, device.ErrNeedsPerson) {
					t.Errorf("login: %v", err)
				}
				again := s.Login(t.Context())
				disk := s.DiskMode(t.Context())
				_, clock := s.SetClock(t.Context(), time.UTC)
				if again == nil || disk == nil || clock == nil || len(r.got) != 1 {
					t.Errorf("after a refused login: %v, %v, %v; sent %q", again, disk, clock, r.got)
				}
				if name == "endless" && len(r.waiting) < 900 {
					t.Errorf("listened to %d transfers", 1000-len(r.waiting))
				}
				text := fmt.Sprint(err, again, disk)
				if strings.ContainsAny(text, "\x1b\x07") {
					t.Errorf("control characters in %q", text)
				}
				checkSecret(t, text)
			})
		})
	}
}

// A recorder with another password for later commands gets the wrong one once.
func TestAPasswordThatALaterCommandRefusesIsNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{answer: replaced("@Gdv", "@Gdv;ERR;#")}
		c := commands()
		c.Identity.Send = "@Gdv;8;{password};#"
		s, err := vendorcmd.New(r, c, password)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Login(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Identity(t.Context()); !errors.Is(err, device.ErrNeedsPerson) {
			t.Errorf("identity: %v", err)
		}
		if err := s.DiskMode(t.Context()); err == nil || len(r.got) != 2 {
			t.Errorf("disk mode: %v, sent %q", err, r.got)
		}
	})
}

func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{answer: func(string) []string { return nil }}
		s, err := vendorcmd.New(r, commands(), password)
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		err = s.Login(t.Context())
		if !errors.Is(err, vendorcmd.ErrNoAnswer) || errors.Is(err, device.ErrNeedsPerson) {
			t.Errorf("login: %v", err)
		}
		if waited := time.Since(begun); waited < vendorcmd.DefaultTimeout || waited > 2*vendorcmd.DefaultTimeout {
			t.Errorf("waited %s for an answer", waited)
		}
		if err := s.Login(t.Context()); err == nil || len(r.got) != 1 {
			t.Errorf("the password was sent again: %v, %q", err, r.got)
		}
	})
}

func TestALateAnswerIsNotThatOfTheNextCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := true
		r := &recorder{answer: func(command string) []string {
			if silent && strings.HasPrefix(command, "@Gdv") {
				return nil
			}
			return good(command)
		}}
		s := loggedIn(t, r)
		if _, err := s.Identity(t.Context()); !errors.Is(err, vendorcmd.ErrNoAnswer) {
			t.Fatalf("identity: %v", err)
		}
		r.waiting = append(r.waiting, []byte("@Gdv;8;STALE;#"))
		silent = false
		if id, err := s.Identity(t.Context()); err != nil || id.Serial.Value != "NMQ0007" {
			t.Errorf("identity %+v, %v", id, err)
		}
	})
}

func TestWhatAnEarlierTalkLeftBehindDoesNotLogIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{waiting: [][]byte{[]byte("@Ver;OK;#")}, answer: func(string) []string { return []string{"@Ver;ERR;#"} }}
		s, err := vendorcmd.New(r, commands(), password)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Login(t.Context()); !errors.Is(err, vendorcmd.ErrRefused) {
			t.Errorf("login: %v", err)
		}
	})
}

func TestRemovedAndInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{answer: good}
		s := loggedIn(t, r)
		r.gone = true
		if _, err := s.Identity(t.Context()); !errors.Is(err, device.ErrRemoved) {
			t.Errorf("identity of a recorder that is gone: %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{answer: replaced("@Gdv")}
		s := loggedIn(t, r)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := s.Identity(ctx); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, vendorcmd.ErrNoAnswer) {
			t.Errorf("identity when the caller ended: %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{answer: good}
		s := loggedIn(t, r)
		r.failSend = usb.ErrStall
		if _, err := s.Identity(t.Context()); !errors.Is(err, usb.ErrStall) {
			t.Errorf("identity, stalled: %v", err)
		}
	})
}

func TestDiskMode(t *testing.T) {
	with := func(e vendorcmd.Exchange, answers ...string) (*recorder, error) {
		r := &recorder{answer: func(command string) []string { return answers }}
		c := vendorcmd.Commands{End: "#", DiskMode: &e}
		s, err := vendorcmd.New(r, c, "")
		if err != nil {
			return r, err
		}
		return r, s.DiskMode(context.Background())
	}
	ok, no := regexp.MustCompile("OK"), regexp.MustCompile("ERR")
	for name, c := range map[string]struct {
		e       vendorcmd.Exchange
		answers []string
		want    error
	}{
		"nothing to wait for":          {vendorcmd.Exchange{Send: "go"}, nil, nil},
		"no refusal":                   {vendorcmd.Exchange{Send: "go", Refused: no}, nil, nil},
		"refused":                      {vendorcmd.Exchange{Send: "go", Refused: no}, []string{"ERR#"}, device.ErrNeedsPerson},
		"good":                         {vendorcmd.Exchange{Send: "go", Expect: ok}, []string{"OK#"}, nil},
		"odd":                          {vendorcmd.Exchange{Send: "go", Expect: ok}, []string{"hm#"}, vendorcmd.ErrOddAnswer},
		"silent though it must answer": {vendorcmd.Exchange{Send: "go", Expect: ok}, nil, vendorcmd.ErrNoAnswer},
	} {
		synctest.Test(t, func(t *testing.T) {
			r, err := with(c.e, c.answers...)
			if !errors.Is(err, c.want) || len(r.got) != 1 {
				t.Errorf("%s: %v, sent %q", name, err, r.got)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) { // it leaves the bus instead of an answer
		var r *recorder
		r = &recorder{answer: func(string) []string { r.gone = true; return nil }}
		s, err := vendorcmd.New(r, vendorcmd.Commands{DiskMode: &vendorcmd.Exchange{Send: "go", Expect: ok}}, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := s.DiskMode(t.Context()); err != nil {
			t.Errorf("a recorder that left to become a disk: %v", err)
		}
	})
}

func TestUnknownStaysUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, answer := range []string{"@Gdv;8;00000000;000000;#", "@Gdv;8;--------;0000-0000;#", "@Gdv;8;" + password + ";;#", "@Gdv;8;\x01\x02;0;#"} {
			s := loggedIn(t, &recorder{answer: replaced("@Gdv", answer)})
			if id, err := s.Identity(t.Context()); err != nil || id.Serial.Known() || id.Officer.Known() {
				t.Errorf("%q: %+v, %v", answer, id, err)
			}
		}
		for _, answer := range []string{"@Bat;;#", "@Bat;low;#", "@Bat;101;#", "@Bat;-1;#", "@Bat;61%;#"} {
			s := loggedIn(t, &recorder{answer: replaced("@Bat", answer)})
			if charge, err := s.Battery(t.Context()); err != nil || charge != nil {
				t.Errorf("%q: %v, %v", answer, charge, err)
			}
		}
		c := commands()
		c.Identity, c.Battery, c.ReadClock, c.SetDate, c.SetTime, c.DiskMode = nil, nil, nil, nil, nil, nil
		s, err := vendorcmd.New(&recorder{answer: good}, c, password)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Login(t.Context()); err != nil {
			t.Fatal(err)
		}
		id, err1 := s.Identity(t.Context())
		charge, err2 := s.Battery(t.Context())
		clock, err3 := s.Clock(t.Context(), time.UTC)
		if id != (vendorcmd.Identity{}) || charge != nil || clock.Kind != device.ClockUnknown || errors.Join(err1, err2, err3) != nil {
			t.Errorf("without commands: %+v, %v, %+v, %v", id, charge, clock, errors.Join(err1, err2, err3))
		}
		if _, err := s.SetClock(t.Context(), time.UTC); !errors.Is(err, device.ErrNoClock) {
			t.Errorf("set the clock without a command: %v", err)
		}
		if err := s.DiskMode(t.Context()); !errors.Is(err, vendorcmd.ErrNoCommand) {
			t.Errorf("disk mode without a command: %v", err)
		}
	})
}

func TestPasswordsThatAreNotSent(t *testing.T) {
	for _, bad := range []string{
		"", "1;2", "12#", "a@b", "{password}", "a}b", "1 2", "1\n2", "12\x00", "密码", strings.Repeat("1", 65),
	} {
		r := &recorder{answer: good}
		_, err := vendorcmd.New(r, commands(), bad)
		if !errors.Is(err, device.ErrNeedsPerson) || len(r.got) != 0 {
			t.Errorf("%q: %v, sent %q", bad, err, r.got)
		}
		if err != nil && len(bad) > 4 && strings.Contains(err.Error(), bad) && bad != "{password}" {
			t.Errorf("the error holds the password: %v", err)
		}
	}
	if _, err := vendorcmd.New(&recorder{}, vendorcmd.Commands{DiskMode: &vendorcmd.Exchange{Send: "go"}}, ""); err != nil {
		t.Errorf("no password where none is wanted: %v", err)
	}
}

func TestASessionPrintsNoPassword(t *testing.T) {
	s, err := vendorcmd.New(&recorder{}, commands(), password)
	if err != nil {
		t.Fatal(err)
	}
	checkSecret(t, fmt.Sprintf("%v %+v %#v %v", s, s, s, *s))
}

// FuzzAnswers lets a recorder answer anything in any pieces.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte("@Ver;OK;#"), uint8(64), []byte("@Gdv;8;NMQ0007;052507;#"))
	f.Add([]byte("@Ver;OK;#\x00\x00"), uint8(3), []byte("@Gtm;20261124081402;#"))
	f.Add([]byte("\xd6\xb4#"), uint8(1), []byte("\xff"))
	f.Add([]byte("\x9cre"), uint8(2), []byte("@VC;#"))
	f.Fuzz(func(t *testing.T, login []byte, piece uint8, rest []byte) {
		cut := func(data []byte) (pieces []string) {
			for chunk := range slices.Chunk(data, max(int(piece), 1)) {
				pieces = append(pieces, string(chunk))
			}
			return pieces
		}
		synctest.Test(t, func(t *testing.T) {
			r := &recorder{answer: func(command string) []string {
				if strings.HasPrefix(command, "@Ver") {
					return cut(login)
				}
				return cut(rest)
			}}
			s, err := vendorcmd.New(r, commands(), password)
			if err != nil {
				t.Fatal(err)
			}
			err = s.Login(t.Context())
			id, err1 := s.Identity(t.Context())
			charge, err2 := s.Battery(t.Context())
			clock, err3 := s.Clock(t.Context(), time.UTC)
			if err != nil && (err1 == nil || err2 == nil || err3 == nil) {
				t.Error("went on after a login that did not succeed")
			}
			for _, f := range []device.Fact{id.Serial, id.Officer} {
				if f.Known() && (strings.Trim(f.Value, "0") == "" || f.Value == password || strings.ContainsAny(f.Value, "\x00\n\x1b")) {
					t.Errorf("%q was taken for an id", f.Value)
				}
			}
			if charge != nil && (*charge < 0 || *charge > 100) {
				t.Errorf("battery %d", *charge)
			}
			if err3 == nil && (clock.Kind == device.ClockMeasured) != (clock.Offset != nil && clock.Uncertainty != nil) {
				t.Errorf("clock %+v", clock)
			}
			if r.times("@Ver") != 1 {
				t.Errorf("the password was sent %d times", r.times("@Ver"))
			}
			for _, err := range []error{err, err1, err2, err3} {
				if err != nil && !strings.Contains(string(login)+string(rest), password[:3]) {
					checkSecret(t, err.Error())
				}
			}
		})
	})
}
