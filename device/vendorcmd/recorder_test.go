package vendorcmd_test

import (
	"bytes"
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/usb"
	"github.com/bodyworn/ingestd/device/vendorcmd"
)

// recorder is the other side of a pipe: it takes commands and puts answers into the
// queue of transfers. Reading from an empty queue waits, as a bus does.
type recorder struct {
	answer   func(command string) []string // the transfers that answer; nil: silence
	waiting  [][]byte
	got      []string // what was sent, in order
	gone     bool
	delay    time.Duration // before each answer is there
	gotAt    []time.Time
	failSend error
}

var errCancelled = errors.New("transfer was cancelled") // what libusb says, not the context's error

func (r *recorder) Send(ctx context.Context, p []byte, _ bool) error {
	switch {
	case r.gone:
		return device.ErrRemoved
	case r.failSend != nil:
		return r.failSend
	case ctx.Err() != nil:
		return errCancelled
	}
	r.got, r.gotAt = append(r.got, string(p)), append(r.gotAt, time.Now())
	for _, a := range r.answer(string(p)) {
		r.waiting = append(r.waiting, []byte(a))
	}
	return nil
}

func (r *recorder) Receive(ctx context.Context, p []byte) (int, error) {
	if r.gone && len(r.waiting) == 0 {
		return 0, device.ErrRemoved
	}
	if len(r.waiting) == 0 {
		<-ctx.Done()
		return 0, errCancelled
	}
	if r.delay > 0 && len(r.got) > 0 {
		select {
		case <-time.After(r.delay):
		case <-ctx.Done():
			return 0, errCancelled
		}
	}
	n := copy(p, r.waiting[0])
	r.waiting = r.waiting[1:]
	return n, nil
}

func (*recorder) Control(context.Context, byte, byte, uint16, []byte) (int, error) {
	return 0, usb.ErrStall
}
func (*recorder) ClearHalt(bool) error { return nil }
func (*recorder) PacketSize() int      { return 64 }
func (*recorder) Close() error         { return nil }

// times counts how often a command that begins so was sent.
func (r *recorder) times(begin string) int {
	n := 0
	for _, c := range r.got {
		if strings.HasPrefix(c, begin) {
			n++
		}
	}
	return n
}

const password = "s3cretPW"

// commands are like those of the 4255:0001 class.
func commands() vendorcmd.Commands {
	return vendorcmd.Commands{
		End:      "#",
		Login:    &vendorcmd.Exchange{Send: "@Ver;{password_length};{password};#", Expect: regexp.MustCompile(`^@Ver;OK`), Refused: regexp.MustCompile(`ERR`)},
		Identity: &vendorcmd.Exchange{Send: "@Gdv;#", Expect: regexp.MustCompile(`^@Gdv;[^;]*;(?P<serial>[^;#]+)(;(?P<officer>[^;#]*))?`)},
		ReadClock: &vendorcmd.Exchange{
			Send: "@Gtm;#", Expect: regexp.MustCompile(`^@Gtm;(?P<time>[^;#]+)`), TimeLayout: "20060102150405",
		},
		SetDate:  &vendorcmd.Exchange{Send: "@Sdt;8;{time:20060102};#", Expect: regexp.MustCompile(`^@Sdt;OK`)},
		SetTime:  &vendorcmd.Exchange{Send: "@Stm;6;{time:15040500};#", Expect: regexp.MustCompile(`^@Stm;OK`)},
		Battery:  &vendorcmd.Exchange{Send: "@Bat;#", Expect: regexp.MustCompile(`^@Bat;(?P<battery>[^;#]*)`)},
		DiskMode: &vendorcmd.Exchange{Send: "@ATH;{password};#"},
	}
}

// good answers every command as a recorder does that knows its password.
func good(command string) []string {
	switch {
	case command == "@Ver;8;"+password+";#":
		return []string{"@Ver;OK;#\x00\x00\x00"}
	case strings.HasPrefix(command, "@Gdv"):
		return []string{"@Gdv;8;NMQ", "0007;052507;#"} // in two transfers
	case strings.HasPrefix(command, "@Gtm"):
		return []string{"@Gtm;20261124081402;#"}
	case strings.HasPrefix(command, "@Sdt"):
		return []string{"@Sdt;OK;#"}
	case strings.HasPrefix(command, "@Stm"):
		return []string{"@Stm;OK;#"}
	case strings.HasPrefix(command, "@Bat"):
		return []string{"@Bat;61;#"}
	}
	return []string{"@ERR;#"}
}

func loggedIn(t *testing.T, r *recorder) *vendorcmd.Session {
	t.Helper()
	s, err := vendorcmd.New(r, commands(), password)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Login(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// replaced answers like good, but for commands that begin so.
func replaced(begin string, answers ...string) func(string) []string {
	return func(command string) []string {
		if strings.HasPrefix(command, begin) {
			return answers
		}
		return good(command)
	}
}

// checkSecret fails if anything of the password is in the text.
func checkSecret(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		for i := range len(password) - 2 {
			if bytes.Contains([]byte(strings.ToLower(text)), []byte(strings.ToLower(password[i:i+3]))) {
				t.Errorf("a piece of the password is in %q", text)
			}
		}
	}
}
