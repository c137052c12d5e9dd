package textgadget_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/simulator/gadget"
	"github.com/bodyworn/ingestd/device/simulator/textgadget"
)

const patience = 30 * time.Second

func plug(t *testing.T, r *textgadget.Recorder) *gadget.Pipe {
	t.Helper()
	p := gadget.NewPipe(r, 0)
	t.Cleanup(p.Unplug)
	return p
}

// ask sends a command and gives what comes back.
func ask(t *testing.T, p *gadget.Pipe, command string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := p.Send(ctx, []byte(command), false); err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	answer := make([]byte, 512)
	n, err := p.Receive(ctx, answer)
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	return string(answer[:n])
}

// silent proves that nothing comes back.
func silent(t *testing.T, p *gadget.Pipe) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	n, err := p.Receive(ctx, make([]byte, 512))
	if n != 0 || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%d bytes, %v; nothing should come", n, err)
	}
}

func TestATalk(t *testing.T) {
	factory := time.Date(2015, 1, 1, 8, 30, 15, 0, time.UTC)
	r := textgadget.New(textgadget.Config{
		Serial: "BWC00042", Password: "24681357",
		Now:     func() time.Time { return factory },
		Answers: map[string]textgadget.Answer{"Gtm": {OK: "@Gtm;{time:20060102150405};{serial};#"}},
	})
	p := plug(t, r)
	for _, step := range []struct{ send, want string }{
		{"@Ver;8;24681357;#", "@Ver;OK;#"},
		{"@Gdv", "@Gdv;8;BWC00042;#"},
		{"@Gdv;8;24681357;#", "@Gdv;8;BWC00042;#"},
		{"@Gtm;#", "@Gtm;20150101083015;BWC00042;#"},
		{"@Sdt;8;20240229;#", "@Sdt;OK;#"},
		{"@Gtm;#", "@Gtm;20240229083015;BWC00042;#"},
		{"@Stm;6;23595800;#\r\n\x00\x00", "@Stm;OK;#"},
		{"@Gtm;#", "@Gtm;20240229235958;BWC00042;#"},
		{"@Sdt;8;20240230;#", "@Sdt;ERR;#"},
		{"@Stm;6;24000000;#", "@Stm;ERR;#"},
		{"@Stm;6;235958;#", "@Stm;ERR;#"},
	} {
		if got := ask(t, p, step.send); got != step.want {
			t.Errorf("%q is answered with %q, not %q", step.send, got, step.want)
		}
	}
	if want := time.Date(2024, 2, 29, 23, 59, 58, 0, time.UTC); !r.Now().Equal(want) {
		t.Errorf("the clock shows %s, not %s", r.Now(), want)
	}
	if c := r.Counts(); c.Logins != 1 || c.Refused != 3 || c.Malformed != 0 || len(c.Commands) != 11 {
		t.Errorf("counted: %+v", c)
	}
}

func TestWrongPasswordsLockForGood(t *testing.T) {
	r := textgadget.New(textgadget.Config{Password: "24681357", MaxWrong: 2})
	p := plug(t, r)
	if got := ask(t, p, "@Gdv"); got != "@Gdv;ERR;#" {
		t.Errorf("before the login: %q", got)
	}
	// The length before it is part of it.
	for _, wrong := range []string{"@Ver;8;00000000;#", "@Ver;6;24681357;#"} {
		if got := ask(t, p, wrong); got != "@Ver;ERR;#" {
			t.Errorf("%s: %q", wrong, got)
		}
	}
	p.Unplug()
	p = plug(t, r)
	if got := ask(t, p, "@Ver;8;24681357;#"); got != "@Ver;ERR;#" {
		t.Errorf("a locked recorder takes the right password, too: %q", got)
	}
	c := r.Counts()
	if !c.Locked || c.WrongPasswords != 2 || c.Logins != 0 || c.Refused != 1 {
		t.Errorf("counted: %+v", c)
	}
}

func TestALoginEndsWithTheDocking(t *testing.T) {
	r := textgadget.New(textgadget.Config{Password: "1", OtherPassword: "22"})
	p := plug(t, r)
	ask(t, p, "@Ver;1;1;#")
	if got := ask(t, p, "@Gdv;2;22;#"); !strings.HasPrefix(got, "@Gdv;8;") {
		t.Errorf("logged in: %q", got)
	}
	p.Unplug()
	p = plug(t, r)
	if got := ask(t, p, "@Gdv;2;22;#"); got != "@Gdv;ERR;#" {
		t.Errorf("docked again: %q", got)
	}
}

func TestWhatIsNoCommandIsNotAnswered(t *testing.T) {
	r := textgadget.New(textgadget.Config{Password: "1"})
	p := plug(t, r)
	texts := []string{"", "@", "#", "@Ver;1;1;", "@Ver;1;1#", "Ver;1;1;#", "@Ver;1;1;#@Gdv", "@Xyz;#", "\x00", strings.Repeat("@", 600)}
	for _, text := range texts {
		if err := p.Send(t.Context(), []byte(text), true); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	silent(t, p)
	if c := r.Counts(); c.Malformed != len(texts)-1 || c.WrongPasswords != 0 {
		t.Errorf("counted: %+v", c)
	}
}

func TestAnswersOfTheTest(t *testing.T) {
	r := textgadget.New(textgadget.Config{
		Password: "1", PadTo: 64,
		Answers: map[string]textgadget.Answer{textgadget.Login: {OK: "welcome", Refused: ""}},
	})
	p := plug(t, r)
	if err := p.Send(t.Context(), []byte("@Ver;1;2;#"), false); err != nil {
		t.Fatal(err)
	}
	silent(t, p)
	if got := ask(t, p, "@Ver;1;1;#"); got != "welcome"+strings.Repeat("\x00", 57) {
		t.Errorf("%q", got)
	}
}

func TestBecomesADisk(t *testing.T) {
	for _, c := range []struct {
		name, answer string
		take         bool
	}{
		{"the host takes the answer", "@ATH;OK;#", true},
		{"the host does not", "@ATH;OK;#", false},
		{"there is none", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			switched := make(chan struct{}, 2)
			config := textgadget.Config{
				Password: "1", Switch: func() { switched <- struct{}{} },
				Answers: map[string]textgadget.Answer{textgadget.DiskMode: {OK: c.answer, Refused: "no"}},
			}
			if c.take {
				config.SwitchAfter = 100 * patience // only what the host does can switch it
			}
			r := textgadget.New(config)
			p := plug(t, r)
			if got := ask(t, p, "@ATH;1;1;#"); got != "no" {
				t.Fatalf("before the login: %q", got)
			}
			ask(t, p, "@Ver;1;1;#")
			if got := ask(t, p, "@ATH;1;2;#"); got != "no" {
				t.Fatalf("with a wrong password: %q", got)
			}
			if c.take {
				if got := ask(t, p, "@ATH;1;1;#"); got != c.answer {
					t.Fatalf("%q", got)
				}
			} else if err := p.Send(t.Context(), []byte("@ATH;1;1;#"), false); err != nil {
				t.Fatal(err)
			}
			select {
			case <-switched:
			case <-time.After(patience):
				t.Fatal("it does not switch")
			}
			if n := r.Counts(); n.Switches != 1 || n.WrongPasswords != 1 || len(switched) != 0 {
				t.Errorf("counted: %+v", n)
			}
		})
	}
}

func TestLeavesTheBusWithoutASwitch(t *testing.T) {
	r := textgadget.New(textgadget.Config{Password: "1"})
	p := plug(t, r)
	ask(t, p, "@Ver;1;1;#")
	ask(t, p, "@ATH;1;1;#")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := p.Receive(ctx, make([]byte, 512)); !errors.Is(err, device.ErrRemoved) {
		t.Errorf("%v", err)
	}
}

func TestShowsItself(t *testing.T) {
	d := textgadget.New(textgadget.Config{USBSerial: "S"}).Descriptors()
	if d.Vendor != 0x4255 || d.Product != 1 || d.Serial != "S" || len(d.Interfaces) != 1 || d.Interfaces[0].Class != 0xff {
		t.Errorf("%+v", d)
	}
}

func FuzzCommand(f *testing.F) {
	for _, text := range []string{"@Ver;8;24681357;#", "@Gdv", "@Stm;6;23595800;#", "@Sdt;8;20240229;#", "@ATH;8;24681357;#", "@;;#", "\x00\xff"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r := textgadget.New(textgadget.Config{Password: "24681357"})
		p := plug(t, r)
		if err := p.Send(t.Context(), text, true); err != nil {
			t.Fatal(err)
		}
		if slices.Equal(text, []byte("@Ver;8;24681357;#")) {
			return
		}
		// Nothing but the password itself, with what may stand behind it, logs in.
		if c := r.Counts(); c.Logins > 0 && !strings.HasPrefix(string(text), "@Ver;8;24681357;#") || c.Switches > 0 {
			t.Errorf("%q: %+v", text, c)
		}
	})
}
