// Package accounts says who may use the console, and as what: accounts with a role and
// a password, kept in the journal.
//
// It stands beside the flow: package console asks it at each login and each request,
// the command `ingestd user` changes it. Footage, the board and the other commands
// need no account.
//
// Its promises: a password is kept only as an argon2id hash and told to nobody; the
// ledger has every change and every login before it takes effect, without what was
// typed for a name that there is not; guessing is slow, for each account and for each
// address, and takes as long whether there is such an account or not.
package accounts

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage/ledger"
)

// Role says what an account is for. The strings are stable.
type Role string

// The roles.
const (
	Officer Role = "officer" // 执法人员: the sessions of one officer
	Auditor Role = "auditor" // 抽检: looks at everything, changes nothing of it
	ITStaff Role = "itstaff" // 运维: health and logs, no footage
	Admin   Role = "admin"   // 管理员
)

// Roles are all roles.
func Roles() []Role { return []Role{Officer, Auditor, ITStaff, Admin} }

// MayList tells whether a role may see what sessions there are: its own, for an officer.
func (r Role) MayList() bool { return r == Officer || r == Auditor || r == Admin }

// ErrRefused is a change that is not made, or a login that is not let in.
var ErrRefused = errors.New("refused")

// Account is who uses the console.
type Account struct {
	Name      string // an id, never a person's name
	Role      Role
	Officer   string // id; of role officer alone
	Disabled  bool
	MadeAt    time.Time
	ChangedAt time.Time // logins from before count no more
	// Elsewhere says that it was vouched for by an OpenID provider: it has no password
	// here.
	Elsewhere bool
}

// Actor is the account as the ledger and orders about footage name it.
func (a Account) Actor() string { return "account " + a.Name }

// MaySee tells whether the account may see a session of an officer. One of which the
// officer is unknown is nobody's own.
func (a Account) MaySee(officer string) bool {
	return a.Role.MayList() && (a.Role != Officer || a.Officer != "" && a.Officer == officer)
}

// nameForm leaves room for account names of providers, which have a slash.
var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// CheckName tells why a name can't be an account's.
func CheckName(name string) error {
	if !nameForm.MatchString(name) {
		return fmt.Errorf("account %q: a name has 1 to 64 of a-z, 0-9, '.', '_' and '-', and begins with a letter or digit; take a number or a short form, not a person's name", name)
	}
	return nil
}

// Book has the accounts of a station. It is safe for concurrent use.
type Book struct {
	journal *journal.Journal
	record  func(context.Context, ledger.Entry) error
	now     func() time.Time // for back-off
	// turn holds one token: passwords are looked at one after the other. Many tries at
	// once would else all be looked at before the first one has cost any time; and it
	// bounds the memory, for the daemon takes in footage.
	turn   chan struct{}
	delays delays
}

// NewBook gives the accounts that a journal has. record writes to the ledger; now may
// be nil.
func NewBook(j *journal.Journal, record func(context.Context, ledger.Entry) error, now func() time.Time) *Book {
	if now == nil {
		now = time.Now
	}
	return &Book{journal: j, record: record, now: now, turn: make(chan struct{}, 1), delays: delays{of: map[key]delay{}}}
}

// Add makes an account. actor is who does it, for the ledger.
func (b *Book) Add(ctx context.Context, a Account, password, actor string) error {
	if err := CheckName(a.Name); err != nil {
		return err
	}
	switch {
	case !slices.Contains(Roles(), a.Role):
		return fmt.Errorf("role %q: it is one of officer, auditor, itstaff and admin", a.Role)
	case a.Role == Officer && a.Officer == "":
		return errors.New("an account of role officer needs the id of the officer whose sessions it may see")
	case a.Role != Officer && a.Officer != "":
		return fmt.Errorf("only an account of role officer has an officer's id: role %s is not bound to one", a.Role)
	case !utf8.ValidString(a.Officer) || utf8.RuneCountInString(a.Officer) > 64:
		return fmt.Errorf("officer %q: an id has at most 64 characters", a.Officer)
	}
	if _, err := b.journal.User(ctx, a.Name); !errors.Is(err, journal.ErrNotFound) {
		if err == nil {
			err = fmt.Errorf("account %s: %w", a.Name, journal.ErrTaken)
		}
		return err
	}
	hash, err := hashPassword(password)
	if err != nil {
		return err
	}
	now := b.journal.Now()
	if err := b.record(ctx, ledger.Entry{Event: "user.added", Actor: actor, Officer: a.Officer,
		Detail: map[string]string{"account": a.Name, "role": string(a.Role)}}); err != nil {
		return err
	}
	return b.journal.AddUser(ctx, journal.User{Name: a.Name, Role: string(a.Role), Officer: a.Officer, Hash: hash, MadeAt: now, ChangedAt: now})
}

// SetPassword gives an account another password; whoever is logged in with it is not
// any more.
func (b *Book) SetPassword(ctx context.Context, name, password, actor string) error {
	u, err := b.journal.User(ctx, name)
	if err != nil {
		return err
	}
	if u.Disabled {
		return fmt.Errorf("account %s is disabled: %w; make another one", name, ErrRefused)
	}
	if u.Hash, err = hashPassword(password); err != nil {
		return err
	}
	if err := b.record(ctx, ledger.Entry{Event: "user.password_changed", Actor: actor, Detail: map[string]string{"account": name}}); err != nil {
		return err
	}
	u.ChangedAt = b.journal.Now()
	return b.journal.SaveUser(ctx, u)
}

// Disable ends the use of an account, for good: its name stays that of one person in
// the ledger.
func (b *Book) Disable(ctx context.Context, name, actor string) error {
	u, err := b.journal.User(ctx, name)
	if err != nil || u.Disabled {
		return err
	}
	if err := b.record(ctx, ledger.Entry{Event: "user.disabled", Actor: actor, Detail: map[string]string{"account": name}}); err != nil {
		return err
	}
	u.Disabled, u.ChangedAt = true, b.journal.Now()
	return b.journal.SaveUser(ctx, u)
}

// Accounts gives all in the order of their names.
func (b *Book) Accounts(ctx context.Context) (all []Account, err error) {
	users, err := b.journal.Users(ctx)
	for _, u := range users {
		all = append(all, accountOf(u))
	}
	return all, err
}

// Account gives one, or journal.ErrNotFound.
func (b *Book) Account(ctx context.Context, name string) (Account, error) {
	u, err := b.journal.User(ctx, name)
	return accountOf(u), err
}

func accountOf(u journal.User) Account {
	return Account{Name: u.Name, Role: Role(u.Role), Officer: u.Officer, Disabled: u.Disabled, MadeAt: u.MadeAt, ChangedAt: u.ChangedAt}
}
