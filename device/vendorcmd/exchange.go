package vendorcmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/encoding/simplifiedchinese"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/usb"
)

const (
	maxAnswer   = 4096 // bytes; known answers have fewer than 64
	maxReceives = 256  // bulk transfers for one answer
	staleReads  = 16   // transfers thrown away before a command
	staleWait   = 50 * time.Millisecond
	shownAnswer = 60 // characters of an answer in an error
)

// answer is one that matched what the profile expects.
type answer struct {
	groups map[string]string
	// sentAt and receivedAt are the station's clock before the command went out and
	// after the first bytes of its answer came.
	sentAt, receivedAt time.Time
}

func (a answer) group(name string) string { return a.groups[name] }

// sent is a command on its way.
type sent struct {
	named
	ctx        context.Context // ends when the time for the answer is over
	parent     context.Context // ends when the caller wants it
	done       context.CancelFunc
	at         time.Time
	receivedAt time.Time
}

// exchange sends a command and judges its answer. at fills {time:…}.
func (s *Session) exchange(ctx context.Context, e named, at time.Time) (answer, error) {
	sent, err := s.send(ctx, e, at)
	if err != nil {
		return answer{}, err
	}
	defer sent.done()
	text, err := s.receive(sent)
	if err != nil {
		return answer{}, s.refused(e, err)
	}
	groups, err := s.judge(e, text)
	if err != nil {
		return answer{}, s.refused(e, err)
	}
	return answer{groups: groups, sentAt: sent.at, receivedAt: sent.receivedAt}, nil
}

// refused ends the talk if the recorder did not take a command with the password:
// some lock themselves after a few wrong ones, so that no machine may try again,
// and no later command may carry the same one.
func (s *Session) refused(e named, err error) error {
	if !errors.Is(err, ErrRefused) && !errors.Is(err, ErrOddAnswer) {
		return err // nothing came back: a cable may be bad
	}
	if t, bad := parseTemplate(e.Send); bad == nil && !t.has(partPassword) && e.key != "login" {
		return err
	}
	s.phase = phaseRefused
	return fmt.Errorf("%w; the password is not tried again: check it in recorders.passwords_file (%w)", err, device.ErrNeedsPerson)
}

func (s *Session) send(ctx context.Context, e named, at time.Time) (*sent, error) {
	if err := s.dropStale(ctx); err != nil {
		return nil, err
	}
	t, err := parseTemplate(e.Send)
	if err != nil {
		return nil, fmt.Errorf("command %s of the profile: %w", e.key, err)
	}
	limited, cancel := context.WithTimeout(ctx, e.timeout())
	out := &sent{named: e, ctx: limited, parent: ctx, done: cancel, at: time.Now()}
	s.stale = true // until the answer is complete
	if err := s.pipe.Send(limited, t.fill(s.password(), at), false); err != nil {
		err = s.explain(out, "send", err) // before the context ends by our own doing
		cancel()
		return nil, err
	}
	return out, nil
}

// receive gathers one answer: up to the profile's End, or one transfer.
func (s *Session) receive(sent *sent) (string, error) {
	var got []byte
	// Of a whole number of packets: less would be an overflow on the bus.
	buffer := make([]byte, max(s.pipe.PacketSize(), 512))
	for range maxReceives {
		n, err := s.pipe.Receive(sent.ctx, buffer)
		got = append(got, buffer[:min(max(n, 0), len(buffer))]...)
		if n > 0 && sent.receivedAt.IsZero() {
			sent.receivedAt = time.Now()
		}
		if len(got) > maxAnswer {
			break
		}
		if text, complete := s.complete(got); complete {
			s.stale = false
			return text, nil
		}
		if err != nil {
			err = s.explain(sent, "receive the answer to", err)
			if errors.Is(err, ErrNoAnswer) && len(got) > 0 {
				return "", fmt.Errorf("%w: %s, and then no more", ErrOddAnswer, s.quoted(string(got)))
			}
			return "", err
		}
	}
	return "", fmt.Errorf("%w: more than %d bytes or %d transfers without an end", ErrOddAnswer, maxAnswer, maxReceives)
}

// complete cuts the answer out of what has come so far. Recorders fill their
// packets with NULs. Text that is neither UTF-8 nor GBK stays as it is.
func (s *Session) complete(got []byte) (text string, complete bool) {
	got = bytes.Trim(got, "\x00 \t\r\n")
	if s.commands.End != "" {
		at := bytes.Index(got, []byte(s.commands.End))
		if at < 0 {
			return "", false
		}
		got = got[:at+len(s.commands.End)]
	}
	if !utf8.Valid(got) {
		if decoded, err := simplifiedchinese.GBK.NewDecoder().Bytes(got); err == nil {
			got = decoded
		}
	}
	return string(got), len(got) > 0
}

// judge holds an answer against the profile.
func (s *Session) judge(e named, text string) (map[string]string, error) {
	if e.Refused != nil && e.Refused.MatchString(text) {
		return nil, fmt.Errorf("%w: %s", ErrRefused, s.quoted(text))
	}
	if e.Expect == nil {
		return nil, nil
	}
	match := e.Expect.FindStringSubmatch(text)
	if match == nil {
		return nil, fmt.Errorf("%w: %s", ErrOddAnswer, s.quoted(text))
	}
	groups := map[string]string{}
	for i, name := range e.Expect.SubexpNames() {
		if name != "" && match[i] != "" {
			groups[name] = match[i]
		}
	}
	return groups, nil
}

// explain says what an error of the pipe means for a command.
func (s *Session) explain(sent *sent, doing string, err error) error {
	switch {
	case errors.Is(err, device.ErrRemoved):
		return fmt.Errorf("%s command %s: %w", doing, sent.key, err)
	case sent.parent.Err() != nil:
		return fmt.Errorf("%s command %s: %w", doing, sent.key, sent.parent.Err())
	case sent.ctx.Err() != nil: // whatever the bus calls a cancelled transfer
		return fmt.Errorf("%s command %s: %w within %s", doing, sent.key, ErrNoAnswer, sent.timeout())
	case errors.Is(err, usb.ErrStall):
		err = errors.Join(err, s.pipe.ClearHalt(true), s.pipe.ClearHalt(false))
	}
	return fmt.Errorf("%s command %s: %w", doing, sent.key, err)
}

// dropStale throws away what an earlier talk left in the pipe: it must not be taken
// for the answer to the next command.
func (s *Session) dropStale(ctx context.Context) error {
	if !s.stale {
		return ctx.Err()
	}
	buffer := make([]byte, max(s.pipe.PacketSize(), 512))
	for range staleReads {
		limited, cancel := context.WithTimeout(ctx, staleWait)
		_, err := s.pipe.Receive(limited, buffer)
		quiet := limited.Err() != nil
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, device.ErrRemoved):
			return fmt.Errorf("listen before the first command: %w", err)
		case quiet:
			s.stale = false
			return nil //nolint:nilerr // silence is what was waited for
		case errors.Is(err, usb.ErrStall):
			if err := s.pipe.ClearHalt(true); err != nil {
				return fmt.Errorf("listen before the first command: %w", err)
			}
		case err != nil:
			return fmt.Errorf("listen before the first command: %w", err)
		}
	}
	return fmt.Errorf("%w: it talks without being asked, %d times", ErrOddAnswer, staleReads)
}

// quoted makes an answer fit for an error: short, without control characters, and
// not at all if it repeats a piece of the password.
func (s *Session) quoted(text string) string {
	shown := fmt.Sprintf("%q", text)
	if runes := []rune(text); len(runes) > shownAnswer {
		shown = fmt.Sprintf("%q and so on, %d bytes", string(runes[:shownAnswer]), len(text))
	}
	// Quotes can make up a piece: \x9cre of three bytes has cre.
	password, lower := strings.ToLower(s.password()), strings.ToLower(text+"\n"+shown)
	for piece := min(3, len(password)); len(password) > 0 && len(password) >= piece; password = password[1:] {
		if strings.Contains(lower, password[:piece]) {
			return fmt.Sprintf("%d bytes, not shown as they may repeat the password", len(text))
		}
	}
	return shown
}
