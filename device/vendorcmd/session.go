package vendorcmd

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/usb"
)

// ErrNoAnswer says that a command was sent and nothing came back in its time.
var ErrNoAnswer = errors.New("the recorder did not answer")

// ErrOddAnswer says that what came back is not what the profile expects.
var ErrOddAnswer = errors.New("the recorder answered something else")

// ErrRefused says that what came back is what the profile calls a refusal.
var ErrRefused = errors.New("the recorder refused")

// ErrNoCommand says that the profile has no such command.
var ErrNoCommand = errors.New("the profile has no command for it")

// Session is one talk with one recorder, from the login to the switch of its mode.
// One goroutine uses it at a time. The pipe stays the caller's, to be closed
// after the talk.
type Session struct {
	pipe     usb.Pipe
	commands Commands
	// password is behind a function so that nothing which prints a Session, however
	// deep, prints it.
	password func() string
	phase    phase
	stale    bool // an answer may lie in the pipe that belongs to nothing we ask next
}

type phase int

const (
	phaseNew      phase = iota
	phaseRefused        // the password was sent and not taken: nothing is sent any more
	phaseOpen           // logged in, or there is no login
	phaseDiskMode       // the recorder is on its way to another mode
)

// New begins a talk; nothing is sent yet. A password that is missing although the
// commands need one, or that can't stand in a command, is an error with
// device.ErrNeedsPerson.
func New(pipe usb.Pipe, commands Commands, password string) (*Session, error) {
	var templates []template
	needed := false
	for _, e := range commands.all() {
		t, err := parseTemplate(e.Send)
		if err != nil {
			return nil, fmt.Errorf("command %s of the profile: %w", e.key, err)
		}
		templates = append(templates, t)
		needed = needed || t.has(partPassword)
	}
	if needed && password == "" {
		return nil, fmt.Errorf("this recorder wants a password and none is known: put it into the file that recorders.passwords_file names (%w)", device.ErrNeedsPerson)
	}
	if err := checkPassword(password, templates); err != nil {
		return nil, fmt.Errorf("the password for this recorder %w: it was not sent (%w)", err, device.ErrNeedsPerson)
	}
	s := &Session{pipe: pipe, commands: commands, password: func() string { return password }, stale: true}
	if commands.Login == nil {
		s.phase = phaseOpen
	}
	return s, nil
}

// Unlock logs in and makes the recorder a disk, for those that need nothing else.
func Unlock(ctx context.Context, pipe usb.Pipe, commands Commands, password string) error {
	s, err := New(pipe, commands, password)
	if err != nil {
		return err
	}
	if err := s.Login(ctx); err != nil {
		return err
	}
	return s.DiskMode(ctx)
}

// Login sends the password, once. An answer that is not the expected one is an
// error with device.ErrNeedsPerson: some recorders lock themselves after a few
// wrong passwords, so no machine may try again. ErrNoAnswer is not: a cable may
// be bad. Without a login command it does nothing. What is said here of a wrong
// password holds for every later command that carries it.
func (s *Session) Login(ctx context.Context) error {
	if s.commands.Login == nil {
		return nil
	}
	if s.phase != phaseNew {
		return errors.New("log in: this was done already, and a password is sent only once")
	}
	s.phase = phaseRefused // until the answer says otherwise
	if _, err := s.exchange(ctx, named{"login", s.commands.Login}, time.Time{}); err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	s.phase = phaseOpen
	return nil
}

// Identity is what the answer to the identity command tells.
type Identity struct {
	Serial, Officer, Model device.Fact
}

// Identity asks the recorder who it is. What it does not tell is unknown, as is a
// recorder without this command.
func (s *Session) Identity(ctx context.Context) (Identity, error) {
	if s.commands.Identity == nil {
		return Identity{}, nil
	}
	answer, err := s.command(ctx, "identity", s.commands.Identity)
	if err != nil {
		return Identity{}, fmt.Errorf("ask who the recorder is: %w", err)
	}
	told := func(group string) device.Fact {
		value := answer.group(group)
		if value == s.password() { // an echo of the login, never a number
			return device.Fact{}
		}
		return device.Told("answer to the identity command", value)
	}
	return Identity{Serial: told("serial"), Officer: told("officer"), Model: told("model")}, nil
}

// Battery asks for the charge in percent. nil: there is no such command, or the
// answer is no number of 0 to 100.
func (s *Session) Battery(ctx context.Context) (*int, error) {
	if s.commands.Battery == nil {
		return nil, nil
	}
	answer, err := s.command(ctx, "battery", s.commands.Battery)
	if err != nil {
		return nil, fmt.Errorf("ask for the battery: %w", err)
	}
	if percent, err := strconv.ParseUint(answer.group("battery"), 10, 8); err == nil && percent <= 100 {
		charge := int(percent)
		return &charge, nil
	}
	return nil, nil // what it says is no charge
}

// DiskMode makes the recorder a disk. It leaves the bus for that, so the caller
// announces it before (Plug.Expect), and afterwards closes the pipe and waits for
// the disk: only that proves that the switch was made. A recorder that is gone
// before it answered has done what it was told; one that refuses needs a person.
// Nothing can be sent afterwards.
func (s *Session) DiskMode(ctx context.Context) error {
	e := s.commands.DiskMode
	if e == nil {
		return fmt.Errorf("switch to disk mode: %w", ErrNoCommand)
	}
	if err := s.ready(); err != nil {
		return fmt.Errorf("switch to disk mode: %w", err)
	}
	s.phase = phaseDiskMode
	sent, err := s.send(ctx, named{"disk_mode", e}, time.Time{})
	if err != nil {
		return fmt.Errorf("switch to disk mode: %w", err)
	}
	defer sent.done()
	if e.Expect == nil && e.Refused == nil {
		return nil
	}
	answer, err := s.receive(sent)
	switch {
	case errors.Is(err, device.ErrRemoved):
		return nil
	case errors.Is(err, ErrNoAnswer) && e.Expect == nil:
		return nil
	case err != nil:
		return fmt.Errorf("switch to disk mode: %w", s.refused(sent.named, err))
	}
	if _, err = s.judge(sent.named, answer); err == nil {
		return nil
	}
	if err = s.refused(sent.named, err); errors.Is(err, ErrRefused) && !errors.Is(err, device.ErrNeedsPerson) {
		err = fmt.Errorf("%w (%w)", err, device.ErrNeedsPerson)
	}
	return fmt.Errorf("switch to disk mode: %w", err)
}

// ready says why a command can't be sent now.
func (s *Session) ready() error {
	switch s.phase {
	case phaseNew:
		return errors.New("not logged in yet")
	case phaseRefused:
		return errors.New("the password was sent and not taken")
	case phaseDiskMode:
		return errors.New("the recorder was told to become a disk already")
	}
	return nil
}

// command is an exchange after the login.
func (s *Session) command(ctx context.Context, key string, e *Exchange) (answer, error) {
	if err := s.ready(); err != nil {
		return answer{}, err
	}
	return s.exchange(ctx, named{key, e}, time.Time{})
}
