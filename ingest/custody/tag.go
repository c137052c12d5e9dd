package custody

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage/ledger"
)

// tagLongest is how long a tag may be, in characters.
const tagLongest = 100

// CheckTag refuses a text that can be no tag, or that a person could not tell from
// another one.
func CheckTag(tag string) error {
	switch {
	case strings.TrimSpace(tag) == "":
		return errors.New("a tag must not be empty")
	case !utf8.ValidString(tag) || strings.ContainsFunc(tag, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("tag %q: it holds what can't be printed", tag)
	case strings.TrimSpace(tag) != tag:
		return fmt.Errorf("tag %q: it begins or ends with a space", tag)
	case utf8.RuneCountInString(tag) > tagLongest:
		return fmt.Errorf("tag %q…: it has %d characters, %d are allowed", string([]rune(tag)[:20]), utf8.RuneCountInString(tag), tagLongest)
	}
	return nil
}

// Tag marks a session, also one that is open: it is then sealed by its tags. It gives
// those that it did not have before. That its locks are as long as they ask for is the
// work of Lengthen.
//
//  1. The ledger has it. Crash: a line of a tag that is not there; no harm.
//  2. The journal has it. From here on Lengthen goes by it.
func (d *Desk) Tag(ctx context.Context, session string, tags []string, reason string) (added []string, err error) {
	s, have, err := d.tagged(ctx, session)
	if err != nil {
		return nil, err
	}
	for _, tag := range tags {
		if err := CheckTag(tag); err != nil {
			return added, err
		}
	}
	if !s.DisposedAt.IsZero() {
		return nil, d.refuse(ctx, ledger.Entry{Event: "tag.refused", Session: s.ID}, fmt.Errorf("the footage of session %s was disposed of: there is nothing to keep", s.ID))
	}
	for _, tag := range tags {
		if slices.Contains(have, tag) {
			continue
		}
		if err := d.record(ctx, ledger.Entry{Event: "tag.added", Session: s.ID, Recorder: s.Recorder, Officer: s.Officer, Reason: reason,
			Detail: map[string]string{"tag": tag}}); err != nil {
			return added, err
		}
		if err := d.Journal.AddTag(ctx, journal.Tag{Session: s.ID, Tag: tag, AddedAt: d.Journal.Now(), AddedBy: d.Person}); err != nil {
			return added, err
		}
		have, added = append(have, tag), append(added, tag)
	}
	return added, nil
}

// Untag takes a mark off a session. No lock becomes shorter by it.
func (d *Desk) Untag(ctx context.Context, session, tag, reason string) error {
	s, have, err := d.tagged(ctx, session)
	if err != nil {
		return err
	}
	if !slices.Contains(have, tag) {
		return fmt.Errorf("session %s has no tag %q: %w", s.ID, tag, journal.ErrNotFound)
	}
	if err := d.record(ctx, ledger.Entry{Event: "tag.removed", Session: s.ID, Recorder: s.Recorder, Officer: s.Officer, Reason: reason,
		Detail: map[string]string{"tag": tag}}); err != nil {
		return err
	}
	return d.Journal.RemoveTag(ctx, s.ID, tag)
}

func (d *Desk) tagged(ctx context.Context, session string) (journal.Session, []string, error) {
	s, err := d.Journal.Session(ctx, session)
	if err != nil {
		return s, nil, err
	}
	tags, err := d.Journal.Tags(ctx, s.ID)
	var have []string
	for _, t := range tags {
		have = append(have, t.Tag)
	}
	return s, have, err
}

// NoRuleAsksFor gives those of the tags that no rule of the policy in force names.
func (d *Desk) NoRuleAsksFor(tags []string) (unknown []string) {
	var asked []string
	if d.Policy != nil {
		asked = d.Policy.Tags()
	}
	for _, tag := range tags {
		if !slices.Contains(asked, tag) {
			unknown = append(unknown, tag)
		}
	}
	return unknown
}
