package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// ErrTaken says that there is an account of that name already.
var ErrTaken = errors.New("there is such an account already")

// User is an account of the console.
type User struct {
	Name      string // an id, never a person's name
	Role      string
	Officer   string // id of the officer whose sessions it may see; empty: none
	Hash      string // of its password: argon2id, as a PHC string
	Disabled  bool
	MadeAt    time.Time
	ChangedAt time.Time // of password or use: logins from before count no more
}

const userColumns = "name, role, officer, hash, disabled, made_at, changed_at"

// AddUser makes an account; ErrTaken: there is one of that name.
func (j *Journal) AddUser(ctx context.Context, u User) error {
	return j.write(ctx, func(tx *sql.Tx) error {
		done, err := tx.Exec("INSERT INTO users ("+userColumns+") VALUES (?,?,?,?,?,?,?) ON CONFLICT (name) DO NOTHING",
			u.Name, u.Role, u.Officer, u.Hash, u.Disabled, formatTime(u.MadeAt), formatTime(u.ChangedAt))
		return oneRow(done, err, fmt.Errorf("account %s: %w", u.Name, ErrTaken))
	})
}

// SaveUser writes an account that is there; ErrNotFound: it is not. Its name, role,
// officer and when it was made stay.
func (j *Journal) SaveUser(ctx context.Context, u User) error {
	return j.write(ctx, func(tx *sql.Tx) error {
		done, err := tx.Exec("UPDATE users SET hash = ?, disabled = ?, changed_at = ? WHERE name = ?", u.Hash, u.Disabled, formatTime(u.ChangedAt), u.Name)
		return oneRow(done, err, fmt.Errorf("account %s: %w", u.Name, ErrNotFound))
	})
}

func oneRow(done sql.Result, err, none error) error {
	if err != nil {
		return err
	}
	n, err := done.RowsAffected()
	if err == nil && n == 0 {
		return none
	}
	return err
}

// User gives one account, or ErrNotFound.
func (j *Journal) User(ctx context.Context, name string) (User, error) {
	all, err := j.users(ctx, "WHERE name = ?", name)
	if err == nil && len(all) == 0 {
		return User{}, fmt.Errorf("account %s: %w", name, ErrNotFound)
	}
	if err != nil {
		return User{}, err
	}
	return all[0], nil
}

// Users gives all accounts in the order of their names.
func (j *Journal) Users(ctx context.Context) ([]User, error) { return j.users(ctx, "ORDER BY name") }

func (j *Journal) users(ctx context.Context, where string, args ...any) (all []User, err error) {
	rows, err := j.db.QueryContext(ctx, "SELECT "+userColumns+" FROM users "+where, args...)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var u User
		var made, changed string
		if err := rows.Scan(&u.Name, &u.Role, &u.Officer, &u.Hash, &u.Disabled, &made, &changed); err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		if err := errors.Join(setTime(&u.MadeAt, made), setTime(&u.ChangedAt, changed)); err != nil {
			return nil, fmt.Errorf("journal: account %s: %w", u.Name, err)
		}
		all = append(all, u)
	}
	return all, rows.Err()
}
