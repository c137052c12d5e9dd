package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/bodyworn/ingestd/ingest/custody"
	"github.com/bodyworn/ingestd/ingest/journal"
)

func (a *app) tagCmd() *cobra.Command {
	var reason, removeReason string
	add := &cobra.Command{
		Use: "add SESSION TAG…", Short: "Mark a session, and lock it for as long as the rules then ask for",
		Long: `add marks a session. Rules of the retention file can ask for tags: what it has is then
locked for as long as they say, at once. It may run beside the daemon. A session that
has not ended is sealed by its tags.

Exit codes: 0 done · 1 the tag is there, and the locks could not be lengthened now: the
daemon does it · 2 no text for a tag · 5 no such session.`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.tagAdd(cmd.Context(), args[0], args[1:], reason)
		},
	}
	add.Flags().StringVar(&reason, "reason", "", "why, for the ledger; no names of people")
	remove := &cobra.Command{
		Use: "remove SESSION TAG", Short: "Take a tag off a session; no lock becomes shorter", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.tagRemove(cmd.Context(), args[0], args[1], removeReason)
		},
	}
	remove.Flags().StringVar(&removeReason, "reason", "", "why, for the ledger; no names of people")
	return group("tag", "Tags of sessions (标记), by which rules keep footage longer", add, remove, &cobra.Command{
		Use: "list [SESSION]", Short: "List the tags of a session, or of all", Args: cobra.MaximumNArgs(1), Annotations: isList,
		RunE: func(cmd *cobra.Command, args []string) error {
			session := ""
			if len(args) > 0 {
				session = args[0]
			}
			return a.tagList(cmd.Context(), session)
		},
	})
}

// taggedJSON is what a tag has done.
type taggedJSON struct {
	Schema  string   `json:"schema"`
	Session string   `json:"session"`
	Added   []string `json:"added"`
	// NoRule has those that no rule in force asks for.
	NoRule      []string   `json:"no_rule"`
	RetainUntil *time.Time `json:"retain_until"` // by the journal; null: not sealed yet
	Permanent   bool       `json:"permanent"`
	// NotLengthened says why the locks could not be lengthened now.
	NotLengthened string `json:"not_lengthened,omitempty"`
}

func (a *app) tagAdd(ctx context.Context, session string, tags []string, reason string) error {
	for _, tag := range tags {
		if err := custody.CheckTag(tag); err != nil {
			return usage(err)
		}
	}
	return a.atDesk(ctx, "", false, func(ctx context.Context, w *workplace, d *custody.Desk, away error) error {
		added, err := d.Tag(ctx, session, tags, reason)
		if err != nil {
			return err
		}
		notLengthened := away
		if away == nil {
			_, notLengthened = d.Lengthen(ctx, func(s journal.Session) bool { return s.ID == session })
		}
		s, err := w.journal.Session(ctx, session)
		if err != nil {
			return errors.Join(notLengthened, err)
		}
		j := taggedJSON{Schema: "ingestd.tagged/1", Session: s.ID, Added: append([]string{}, added...), NoRule: append([]string{}, d.NoRuleAsksFor(tags)...),
			RetainUntil: known(s.RetainUntil, d.Location), Permanent: s.Permanent}
		if notLengthened != nil {
			notLengthened = fmt.Errorf("the tag is there, and the locks could not be lengthened now; the daemon does it when it is started or told to load its settings again (SIGHUP), or within a day, and so does `ingestd retention extend`: %w", notLengthened)
			j.NotLengthened = notLengthened.Error()
		}
		if a.output == "json" {
			return errors.Join(notLengthened, printJSON(a.out, j))
		}
		a.printTagged(j, d.Location)
		return notLengthened
	})
}

func (a *app) printTagged(j taggedJSON, loc *time.Location) {
	for _, tag := range j.Added {
		fmt.Fprintf(a.out, "已标记 tagged  %s  %s\n", j.Session, tame(tag))
	}
	if len(j.Added) == 0 {
		fmt.Fprintf(a.out, "%s has these tags already\n", j.Session)
	}
	for _, tag := range j.NoRule {
		fmt.Fprintf(a.out, "no rule of the retention file asks for %s: it keeps nothing longer 现行保存规则不含此标记\n", tame(tag))
	}
	switch {
	case j.RetainUntil == nil:
		fmt.Fprintln(a.out, "the session has not ended: it is sealed by its tags 尚未封存，封存时按标记决定")
	case j.Permanent:
		fmt.Fprintf(a.out, "永久保存 kept permanently, locked until 锁定至 %s\n", when(*j.RetainUntil, loc))
	default:
		fmt.Fprintf(a.out, "锁定至 locked until %s\n", when(*j.RetainUntil, loc))
	}
}

func (a *app) tagRemove(ctx context.Context, session, tag, reason string) error {
	if reason == "" {
		return usage(errors.New("a tag is removed for a reason, which the ledger has: --reason TEXT"))
	}
	return a.atDesk(ctx, "", false, func(ctx context.Context, w *workplace, d *custody.Desk, _ error) error {
		if err := d.Untag(ctx, session, tag, reason); err != nil {
			return err
		}
		s, err := w.journal.Session(ctx, session)
		if err != nil {
			return err
		}
		if a.output == "json" {
			return printJSON(a.out, map[string]any{"schema": "ingestd.untagged/1", "session": s.ID, "removed": tag,
				"retain_until": known(s.RetainUntil, d.Location), "permanent": s.Permanent})
		}
		fmt.Fprintf(a.out, "已取消标记 removed  %s  %s\n锁定期限不缩短 no lock becomes shorter: locked until %s", s.ID, tame(tag), when(s.RetainUntil, d.Location))
		if s.Permanent {
			fmt.Fprint(a.out, ", permanently 永久保存")
		}
		fmt.Fprintln(a.out)
		return nil
	})
}

func (a *app) tagList(ctx context.Context, session string) (err error) {
	w, err := a.openJournal(journal.Share)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	if session != "" {
		if _, err := w.journal.Session(ctx, session); err != nil {
			return err
		}
	}
	tags, err := w.journal.Tags(ctx, session)
	if err != nil {
		return err
	}
	loc := w.cfg.Station.Timezone
	items := []map[string]any{}
	for _, t := range tags {
		items = append(items, map[string]any{"session": t.Session, "tag": t.Tag, "added_at": known(t.AddedAt, loc), "added_by": t.AddedBy})
	}
	var rows [][]any
	for _, t := range tags {
		rows = append(rows, []any{t.Session, tame(t.Tag), when(t.AddedAt, loc), t.AddedBy})
	}
	return printList(a, "ingestd.tags/1", items, "", []string{"SESSION", "TAG", "ADDED", "BY"}, rows)
}
