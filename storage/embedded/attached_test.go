package embedded

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
)

func mustEnd(t *testing.T, s *Store) {
	t.Helper()
	select {
	case <-s.Done():
	case <-within(t).Done():
		t.Fatal("nobody is told that the store has ended")
	}
}

// Whoever is attached learns at once that the store has ended, by Close of its
// owner or by the owner's death.
func TestAttachedStoresTellOfTheirEnd(t *testing.T) {
	root := t.TempDir()
	owner, guest := open(t, root), open(t, root)
	if guest.Started() || guest.Err() != nil {
		t.Fatalf("started %v, %v", guest.Started(), guest.Err())
	}
	select {
	case <-guest.Done():
		t.Fatal("a running store is called ended")
	default:
	}
	if err := owner.Close(); err != nil {
		t.Fatal(err)
	}
	mustEnd(t, guest)
	if err := guest.Err(); err == nil || !strings.Contains(err.Error(), root) {
		t.Errorf("the guest is told %v", err)
	}

	process := exec.Command(os.Args[0], roleOwner, root)
	out, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("open\n"))); err != nil {
		t.Fatal(err)
	}
	next := open(t, root)
	if err := process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = process.Wait() // it was killed
	mustEnd(t, next)
	if next.Started() || next.Err() == nil {
		t.Errorf("started %v, %v", next.Started(), next.Err())
	}
}

func TestCloseOfAGuestIsNoEndOfTheStore(t *testing.T) {
	root := t.TempDir()
	owner, guest := open(t, root), open(t, root)
	if err := guest.Close(); err != nil {
		t.Fatal(err)
	}
	mustEnd(t, guest)
	if guest.Err() != nil || owner.Err() != nil {
		t.Errorf("%v, %v", guest.Err(), owner.Err())
	}
}

// A store that is ending has no room for another: who comes now waits for its end
// and gets one that lasts.
func TestAStoreThatIsEndingIsNotAttachedTo(t *testing.T) {
	s, c := openVault(t)
	data := footage(2, 1<<20)
	body, feed := io.Pipe()
	stored := make(chan error, 1)
	go func() {
		_, err := c.Client.PutObject(t.Context(), bucket, "slow", body, int64(len(data)), minio.PutObjectOptions{DisableContentSha256: true})
		stored <- err
	}()
	if _, err := feed.Write(data[:len(data)/2]); err != nil { // returns when the request has taken it
		t.Fatal(err)
	}
	closed, opened := make(chan error, 1), make(chan *Store, 1)
	go func() { closed <- s.Close() }()
	eventually(t, "the store to begin its end", func() bool { return s.answers(t.Context()) == 0 })
	go func() {
		next, err := Open(within(t), options(s.root.path))
		if err != nil {
			t.Error(err)
		}
		opened <- next
	}()
	if _, err := feed.Write(data[len(data)/2:]); err != nil {
		t.Fatal(err)
	}
	feed.Close()
	if err := <-stored; err != nil {
		t.Errorf("the upload was cut: %v", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	next := <-opened
	if next == nil {
		t.FailNow()
	}
	defer next.Close()
	if !next.Started() {
		t.Error("it is attached to the store that has ended")
	}
	checkWholeAndLocked(t, client(t, next), "slow", "", data)
}
