package accounts

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage/ledger"
)

// ErrWrong is a name and a password that do not belong together. It does not tell
// whether there is such an account.
var ErrWrong = errors.New("name or password is wrong")

// TooSoon is a try that was not looked at, because there were wrong ones before it.
type TooSoon struct{ Wait time.Duration }

func (e TooSoon) Error() string {
	return fmt.Sprintf("too many wrong passwords: wait %s", e.Wait.Round(time.Second))
}

// Login lets an account in that has the password. address is where the try comes from,
// without a port.
func (b *Book) Login(ctx context.Context, name, password, address string) (Account, error) {
	a, err := b.check(ctx, name, password, address, "login")
	if err != nil {
		return Account{}, err
	}
	return a, b.RecordLogin(ctx, a, address, "password")
}

// RecordLogin writes that an account is let in; how is password or the name of a
// provider.
func (b *Book) RecordLogin(ctx context.Context, a Account, address, how string) error {
	return b.record(ctx, ledger.Entry{Event: "auth.login", Actor: a.Actor(), Officer: a.Officer,
		Detail: map[string]string{"address": address, "role": string(a.Role), "by": how}})
}

// MayTry tells whether an address may try to be let in by somebody else than us; TooSoon:
// not yet. Without it strangers could fill the ledger with failures.
func (b *Book) MayTry(address string) error {
	if wait, _ := b.delays.wait(b.now(), []key{ofAddress(address)}); wait > 0 {
		return TooSoon{wait}
	}
	return nil
}

// RecordFailure writes that somebody was not let in whose password is not kept here. It
// costs the address time as a wrong password does.
func (b *Book) RecordFailure(ctx context.Context, address, why string) error {
	b.delays.wrong(b.now(), []key{ofAddress(address)})
	return b.record(ctx, ledger.Entry{Event: "auth.login_failed", Actor: "console", Reason: why, Detail: map[string]string{"address": address}})
}

// Confirm asks for the password of an account that is let in already, before an act
// that can't be undone.
func (b *Book) Confirm(ctx context.Context, name, password, address string) error {
	_, err := b.check(ctx, name, password, address, "confirm")
	return err
}

// check looks at a password, slower after each wrong one:
//
//  1. Nothing is looked at before the time that wrong ones before it have cost. The
//     first try that comes too soon is told to the ledger.
//  2. The hash is made, for an account that there is not too.
//  3. A wrong one is counted, then told to the ledger, then answered.
func (b *Book) check(ctx context.Context, name, password, address, why string) (Account, error) {
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
	case <-ctx.Done():
		return Account{}, ctx.Err()
	}
	keys := []key{keyOf("account", name), ofAddress(address)}
	if wait, first := b.delays.wait(b.now(), keys); wait > 0 {
		if first {
			if err := b.recordTry(ctx, "too soon", ledger.Entry{Event: "auth.locked"}, name, address, why); err != nil {
				return Account{}, err
			}
		}
		return Account{}, TooSoon{wait}
	}
	u, err := b.journal.User(ctx, name)
	known := err == nil
	if err != nil && !errors.Is(err, journal.ErrNotFound) {
		return Account{}, err
	}
	hash := u.Hash
	if !known {
		hash = nobody
	}
	right, err := matches(hash, password)
	if err != nil {
		return Account{}, err
	}
	if right && known && !u.Disabled {
		b.delays.right(keys)
		return accountOf(u), nil
	}
	b.delays.wrong(b.now(), keys)
	reason := "wrong password"
	if !known {
		reason = "no such account"
	} else if u.Disabled {
		reason = "disabled"
	}
	if err := b.recordTry(ctx, reason, ledger.Entry{Event: "auth.login_failed"}, name, address, why); err != nil {
		return Account{}, err
	}
	return Account{}, ErrWrong
}

// recordTry leaves out a name that no account has: people type passwords there.
func (b *Book) recordTry(ctx context.Context, reason string, e ledger.Entry, name, address, why string) error {
	e.Actor, e.Reason = "console", reason
	e.Detail = map[string]string{"address": address, "for": why}
	if _, err := b.journal.User(ctx, name); err == nil {
		e.Detail["account"] = name
	}
	return b.record(ctx, e)
}

// The delays after wrong passwords: the first, and the longest, which the tenth
// reaches.
const (
	firstDelay   = time.Second
	longestDelay = 5 * time.Minute
	// forgetAfter is how long after its end a delay still counts for the next one.
	forgetAfter = 30 * time.Minute
	// mostDelays bounds the memory of them.
	mostDelays = 100_000
)

// key names an account or an address; both come from outside and may be long.
type key [sha256.Size]byte

func keyOf(kind, name string) key { return sha256.Sum256([]byte(kind + "\x00" + name)) }

// ofAddress takes a network of IPv6 for one: whoever is in it has all its addresses.
func ofAddress(address string) key {
	if ip, err := netip.ParseAddr(address); err == nil && ip.Is6() && !ip.Is4In6() {
		address = netip.PrefixFrom(ip.WithZone(""), 64).Masked().String()
	}
	return keyOf("address", address)
}

type delay struct {
	wrong int       // passwords in a row
	until time.Time // nothing is looked at before
	told  bool      // that somebody came too soon
}

// delays are kept in memory: whoever can start the daemon anew can do more than guess.
type delays struct {
	mu sync.Mutex
	of map[key]delay // guarded by mu
}

// wait is how long the keys must wait still, and whether this is the first time that
// this is found.
func (d *delays) wait(now time.Time, keys []key) (wait time.Duration, first bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, k := range keys {
		e := d.of[k]
		left := e.until.Sub(now)
		if left <= 0 {
			continue
		}
		wait = max(wait, left)
		if !e.told {
			first, e.told = true, true
			d.of[k] = e
		}
	}
	return wait, first
}

func (d *delays) wrong(now time.Time, keys []key) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.of) >= mostDelays {
		d.forget(now)
	}
	for _, k := range keys {
		e := d.of[k]
		if now.Sub(e.until) > forgetAfter {
			e = delay{}
		}
		e.wrong++
		e.until, e.told = now.Add(min(longestDelay, firstDelay<<min(e.wrong-1, 10))), false
		d.of[k] = e
	}
}

// right ends the delay of the account, and takes one wrong one off the address: who has
// one account may not use it to guess the others' faster.
func (d *delays) right(keys []key) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, k := range keys {
		e := d.of[k]
		if e.wrong--; i == 0 || e.wrong <= 0 {
			delete(d.of, k)
			continue
		}
		d.of[k] = e
	}
}

// forget drops what counts no more, or all of it where an attacker has filled it: the
// delays of that moment are lost, not the daemon's memory.
func (d *delays) forget(now time.Time) {
	for k, e := range d.of {
		if now.Sub(e.until) > forgetAfter {
			delete(d.of, k)
		}
	}
	if len(d.of) >= mostDelays {
		clear(d.of)
	}
}
