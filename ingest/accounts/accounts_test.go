package accounts_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/ingest/accounts"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage/ledger"
)

const password = "correct horse battery"

// world is the accounts of a journal, with a clock and a ledger that a test has in its
// hands.
type world struct {
	*accounts.Book
	journal *journal.Journal
	now     time.Time

	mu     sync.Mutex
	lines  []ledger.Entry // guarded by mu
	broken error          // of the ledger
}

func newWorld(t *testing.T) *world {
	t.Helper()
	j, err := journal.Open(t.TempDir(), journal.Share)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{journal: j, now: time.Date(2026, 11, 26, 8, 0, 0, 0, time.UTC)}
	w.Book = accounts.NewBook(j, func(_ context.Context, e ledger.Entry) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.broken != nil {
			return w.broken
		}
		w.lines = append(w.lines, e)
		return nil
	}, func() time.Time { return w.now })
	return w
}

func (w *world) count(event string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.lines {
		if e.Event == event {
			n++
		}
	}
	return n
}

func (w *world) add(t *testing.T, a accounts.Account) {
	t.Helper()
	if err := w.Add(t.Context(), a, password, "uid 0"); err != nil {
		t.Fatal(err)
	}
}

func TestPasswordsAreKeptAsHashesAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, bad := range []string{"", "elevenchars", "十一个汉字不够长的密码", strings.Repeat("x", 2000), "not UTF-8 \xff\xff"} {
		if err := w.Add(t.Context(), accounts.Account{Name: "li", Role: accounts.Auditor}, bad, "uid 0"); err == nil {
			t.Errorf("password %q was taken", bad)
		}
	}
	if len(w.lines) != 0 {
		t.Errorf("the ledger has accounts that were not made: %v", w.lines)
	}
	w.add(t, accounts.Account{Name: "li", Role: accounts.Auditor})
	w.add(t, accounts.Account{Name: "wulan", Role: accounts.Admin})
	var hashes []string
	for _, name := range []string{"li", "wulan"} {
		u, err := w.journal.User(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(`^\$argon2id\$v=19\$m=65536,t=3,p=2\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$`).MatchString(u.Hash) {
			t.Errorf("hash %s", u.Hash)
		}
		hashes = append(hashes, u.Hash)
	}
	if hashes[0] == hashes[1] {
		t.Error("two accounts with the same password have the same hash")
	}
	if said := fmt.Sprint(w.lines); strings.Contains(said, password) || strings.Contains(said, "argon2") {
		t.Errorf("the ledger has a password or its hash: %s", said)
	}
}

func TestAccountsThatAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add(t, accounts.Account{Name: "wang", Role: accounts.Officer, Officer: "012345"})
	for _, a := range []accounts.Account{
		{Name: "王芳", Role: accounts.Admin}, {Name: "", Role: accounts.Admin}, {Name: "oidc/li", Role: accounts.Admin}, {Name: "li", Role: "root"}, {Name: "li"},
		{Name: "li", Role: accounts.Officer}, {Name: "li", Role: accounts.Admin, Officer: "012345"}, {Name: "wang", Role: accounts.Admin},
	} {
		if err := w.Add(t.Context(), a, password, "uid 0"); err == nil {
			t.Errorf("%+v was made", a)
		}
	}
	if n := w.count("user.added"); n != 1 {
		t.Errorf("%d accounts are in the ledger", n)
	}
}

// What the ledger can't have does not happen.
func TestTheLedgerHasEveryChangeBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add(t, accounts.Account{Name: "li", Role: accounts.Auditor})
	before, err := w.journal.Users(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.broken = errors.New("disk full")
	for what, err := range map[string]error{
		"add":      w.Add(t.Context(), accounts.Account{Name: "it", Role: accounts.ITStaff}, password, "uid 0"),
		"password": w.SetPassword(t.Context(), "li", "another long password", "uid 0"),
		"disable":  w.Disable(t.Context(), "li", "uid 0"),
	} {
		if !errors.Is(err, w.broken) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, password := range []string{password, "wrong wrong wrong"} {
		if a, err := w.Login(t.Context(), "li", password, "10.0.0.9"); !errors.Is(err, w.broken) {
			t.Errorf("login: %v, %v", a, err)
		}
		w.now = w.now.Add(time.Hour)
	}
	after, err := w.journal.Users(t.Context())
	if err != nil || !reflect.DeepEqual(after, before) {
		t.Errorf("%v\nbefore: %v\nafter: %v", err, before, after)
	}
	w.broken = nil
	if err := w.Disable(t.Context(), "li", "uid 0"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Login(t.Context(), "li", password, "10.0.0.9"); !errors.Is(err, accounts.ErrWrong) {
		t.Errorf("a disabled account is let in: %v", err)
	}
	if err := w.SetPassword(t.Context(), "li", password, "uid 0"); !errors.Is(err, accounts.ErrRefused) {
		t.Errorf("a disabled account got a password: %v", err)
	}
	if err := w.Add(t.Context(), accounts.Account{Name: "li", Role: accounts.Admin}, password, "uid 0"); !errors.Is(err, journal.ErrTaken) {
		t.Errorf("the name of a disabled account was given again: %v", err)
	}
}

// guess tries a wrong password as soon as it is looked at, and gives how long each try
// had to wait.
func (w *world) guess(t *testing.T, name, address string, tries int) (waits []time.Duration) {
	t.Helper()
	for range tries {
		if _, err := w.Login(t.Context(), name, "wrong wrong wrong", address); !errors.Is(err, accounts.ErrWrong) {
			t.Fatalf("a guess: %v", err)
		}
		var soon accounts.TooSoon
		if _, err := w.Login(t.Context(), name, password, address); !errors.As(err, &soon) {
			t.Fatalf("right after it, with the right password: %v", err)
		}
		waits = append(waits, soon.Wait)
		w.now = w.now.Add(soon.Wait)
	}
	return waits
}

func TestGuessingIsSlow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add(t, accounts.Account{Name: "li", Role: accounts.Auditor})
	var want []time.Duration
	for _, s := range []int{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300} {
		want = append(want, time.Duration(s)*time.Second)
	}
	known := w.guess(t, "li", "10.0.0.1", len(want))
	unknown := w.guess(t, "zhao", "10.0.0.2", 4)
	if !reflect.DeepEqual(known, want) || !reflect.DeepEqual(unknown, want[:4]) {
		t.Errorf("waits of an account: %v\nof none: %v\nwant: %v", known, unknown, want)
	}
	// Each wrong one is in the ledger, and that somebody was too soon once for each.
	if n, m := w.count("auth.login_failed"), w.count("auth.locked"); n != len(want)+4 || m != len(want)+4 {
		t.Errorf("the ledger has %d failures and %d that were too soon", n, m)
	}
	// Who comes again and again does not fill it.
	w.guess(t, "li", "10.0.0.1", 1)
	if _, err := w.Login(t.Context(), "li", "wrong wrong wrong", "10.0.0.1"); !errors.Is(err, accounts.ErrWrong) {
		t.Fatal(err)
	}
	before := w.count("auth.locked")
	for range 50 {
		if _, err := w.Login(t.Context(), "li", password, "10.0.0.1"); err == nil {
			t.Fatal("let in too soon")
		}
	}
	if n := w.count("auth.locked") - before; n != 1 {
		t.Errorf("%d lines for one wait", n)
	}
	// The time over, the right one is let in, and what was counted is forgotten.
	w.now = w.now.Add(5 * time.Minute)
	if _, err := w.Login(t.Context(), "li", password, "10.0.0.8"); err != nil {
		t.Error(err)
	}
	if waits := w.guess(t, "li", "10.0.0.8", 1); waits[0] != time.Second {
		t.Errorf("after a login a wrong one costs %v", waits[0])
	}
}

func TestAnAddressIsSlowWhateverTheNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add(t, accounts.Account{Name: "li", Role: accounts.Auditor})
	for i, want := range []time.Duration{1, 2, 4, 8} {
		if waits := w.guess(t, fmt.Sprint("name", i), "10.0.0.1", 1); waits[0] != want*time.Second {
			t.Errorf("try %d waits %v", i, waits[0])
		}
	}
	// Who has an account does not get rid of it all by using it.
	if _, err := w.Login(t.Context(), "li", password, "10.0.0.1"); err != nil {
		t.Fatal(err)
	}
	if waits := w.guess(t, "name9", "10.0.0.1", 1); waits[0] != 8*time.Second {
		t.Errorf("after a login of his own the address waits %v", waits[0])
	}
}

// Whoever has an address of IPv6 has all of its network.
func TestANetworkIsOneAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.guess(t, "name1", "2001:db8::1", 1)
	if waits := w.guess(t, "name2", "2001:db8::ffff:2", 1); waits[0] != 2*time.Second {
		t.Errorf("another address of the network waits %v", waits[0])
	}
	if waits := w.guess(t, "name3", "2001:db8:0:1::1", 1); waits[0] != time.Second {
		t.Errorf("another network waits %v", waits[0])
	}
}

// Many tries at once are as slow as one after the other.
func TestGuessesAtOnceAreOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add(t, accounts.Account{Name: "li", Role: accounts.Auditor})
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := w.Login(t.Context(), "li", "wrong wrong wrong", "10.0.0.1"); err == nil {
				t.Error("let in")
			}
		})
	}
	all.Wait()
	if n := w.count("auth.login_failed"); n != 1 {
		t.Errorf("%d of 20 tries at once were looked at", n)
	}
}

// People type a password where the name belongs: it must not be in the ledger for good.
func TestTheLedgerHasNoNamesThatNobodyHas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add(t, accounts.Account{Name: "li", Role: accounts.Auditor})
	for name, shown := range map[string]bool{"li": true, "my secret passphrase": false, "\xff\xfe\xfd": false} {
		if _, err := w.Login(t.Context(), name, "wrong wrong wrong", "10.0.0."+fmt.Sprint(len(name))); !errors.Is(err, accounts.ErrWrong) {
			t.Fatal(err)
		}
		e := w.lines[len(w.lines)-1]
		if e.Event != "auth.login_failed" || (e.Detail["account"] == name) != shown || !shown && strings.Contains(fmt.Sprint(e), name) {
			t.Errorf("for %q the ledger has %+v", name, e)
		}
		e.Station, e.Time = "TEST-01", time.Now()
		if _, err := e.Encode(); err != nil {
			t.Errorf("for %q: %v", name, err)
		}
	}
}

func TestWhoMaySeeWhat(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		account accounts.Account
		officer string
		may     bool
	}{
		{accounts.Account{Role: accounts.Officer, Officer: "012345"}, "012345", true},
		{accounts.Account{Role: accounts.Officer, Officer: "012345"}, "067890", false},
		{accounts.Account{Role: accounts.Officer, Officer: "012345"}, "", false},
		{accounts.Account{Role: accounts.Officer}, "", false},
		{accounts.Account{Role: accounts.Auditor}, "067890", true},
		{accounts.Account{Role: accounts.Admin}, "", true},
		{accounts.Account{Role: accounts.ITStaff}, "067890", false},
		{accounts.Account{}, "", false},
	} {
		if c.account.MaySee(c.officer) != c.may {
			t.Errorf("%+v and a session of %q: may is %v", c.account, c.officer, !c.may)
		}
	}
}
