package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/bodyworn/ingestd/ingest/accounts"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage/ledger"
)

func (a *app) userCmd() *cobra.Command {
	var account accounts.Account
	var role string
	var fromStdin bool
	withPassword := func(cmd *cobra.Command) *cobra.Command {
		cmd.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the password from the first line of standard input")
		return cmd
	}
	add := withPassword(&cobra.Command{
		Use: "add NAME --role ROLE", Short: "Make an account for the console", Args: cobra.ExactArgs(1),
		Long: `add makes an account for the console (admin.listen), with a password of at least 12
characters that is asked for. There is no account that nobody has made. The ledger has
the name for good: take a number or a short form, not a person's name.

Roles: officer sees the sessions of the officer --officer · auditor sees everything and
changes nothing · itstaff sees no footage · admin also gives orders about footage.

Where custody.administrators names somebody, only they may make or change accounts.

Exit codes: 0 done · 1 not a good password or name, or there is such an account ·
2 wrong command line · 4 not allowed, which the ledger has.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			account.Name, account.Role = args[0], accounts.Role(role)
			return a.changeAccounts(cmd.Context(), account.Name, func(ctx context.Context, b *accounts.Book) error {
				password, err := a.password(cmd.InOrStdin(), fromStdin)
				if err != nil {
					return err
				}
				return b.Add(ctx, account, password, actor())
			})
		},
	})
	add.Flags().StringVar(&role, "role", "", "`ROLE`: officer, auditor, itstaff or admin")
	add.Flags().StringVar(&account.Officer, "officer", "", "`ID` of the officer whose sessions an account of role officer may see")
	passwd := withPassword(&cobra.Command{
		Use: "passwd NAME", Short: "Give an account another password; its logins end", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeAccounts(cmd.Context(), args[0], func(ctx context.Context, b *accounts.Book) error {
				if _, err := b.Account(ctx, args[0]); err != nil {
					return err
				}
				password, err := a.password(cmd.InOrStdin(), fromStdin)
				if err != nil {
					return err
				}
				return b.SetPassword(ctx, args[0], password, actor())
			})
		},
	})
	return group("user", "Accounts of the console", add, passwd,
		&cobra.Command{
			Use: "disable NAME", Short: "End the use of an account, for good; its logins end", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return a.changeAccounts(cmd.Context(), args[0], func(ctx context.Context, b *accounts.Book) error { return b.Disable(ctx, args[0], actor()) })
			},
		},
		&cobra.Command{
			Use: "list", Short: "List the accounts", Args: cobra.NoArgs, Annotations: isList,
			RunE: func(cmd *cobra.Command, _ []string) error { return a.userList(cmd.Context()) },
		})
}

// changeAccounts has accounts changed by who may. Whoever could make himself one could
// else release by it what he may not.
func (a *app) changeAccounts(ctx context.Context, name string, change func(context.Context, *accounts.Book) error) (err error) {
	w, err := a.openRegister(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	administrators, err := administratorsOf(w.cfg)
	if err != nil {
		return err
	}
	if who := person(); len(administrators) > 0 && !slices.Contains(administrators, who) {
		why := fmt.Sprintf("%s is not among custody.administrators", who)
		err := exitError{exitRefused, fmt.Errorf("accounts are not changed: %s", why)}
		return errors.Join(err, w.record(ctx, ledger.Entry{Event: "user.refused", Reason: why, Detail: map[string]string{"account": strings.ToValidUTF8(name, "\uFFFD")}}))
	}
	err = change(ctx, accounts.NewBook(w.journal, w.record, nil))
	if errors.Is(err, accounts.ErrRefused) {
		return exitError{exitRefused, err}
	}
	return err
}

// password asks for one, twice, and shows nothing of it.
func (a *app) password(in io.Reader, fromStdin bool) (string, error) {
	if fromStdin {
		line, err := bufio.NewReader(io.LimitReader(in, 4096)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("read the password: %w", err)
		}
		return strings.TrimRight(line, "\r\n"), nil
	}
	terminal := int(os.Stdin.Fd())
	if !term.IsTerminal(terminal) {
		return "", usage(errors.New("there is no terminal to ask for the password: give it with --password-stdin"))
	}
	var typed [2]string
	for i, prompt := range []string{"password: ", "the same again: "} {
		fmt.Fprint(a.err, prompt)
		text, err := term.ReadPassword(terminal)
		fmt.Fprintln(a.err)
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		typed[i] = string(text)
	}
	if typed[0] != typed[1] {
		return "", errors.New("the two passwords differ: nothing was changed")
	}
	return typed[0], nil
}

func (a *app) userList(ctx context.Context) (err error) {
	w, err := a.openJournal(journal.Share)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	all, err := accounts.NewBook(w.journal, w.record, nil).Accounts(ctx)
	if err != nil {
		return err
	}
	loc := w.cfg.Station.Timezone
	items := []map[string]any{}
	for _, u := range all {
		items = append(items, map[string]any{"name": u.Name, "role": u.Role, "officer_id": u.Officer, "disabled": u.Disabled, "made_at": known(u.MadeAt, loc), "changed_at": known(u.ChangedAt, loc)})
	}
	var rows [][]any
	for _, u := range all {
		state := "in use"
		if u.Disabled {
			state = "disabled"
		}
		rows = append(rows, []any{u.Name, u.Role, orDash(u.Officer), state, when(u.MadeAt, loc)})
	}
	return printList(a, "ingestd.users/1", items, "", []string{"NAME", "ROLE", "OFFICER", "STATE", "MADE"}, rows)
}
