package console_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/ingest/accounts"
	"github.com/bodyworn/ingestd/ingest/console"
)

// An order that takes longer than a browser waits goes on to its end, whether the browser
// has stayed or gone; what goes wrong then is told to whoever looks after the station; and
// the console does not end before its orders have.
func TestAnOrderGoesOnWithoutItsBrowser(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.console.Patience(20 * time.Millisecond)
	goOn, begun, ended := make(chan error), make(chan struct{}, 1), make(chan error, 1)
	w.console.Add(console.Page{
		Route: "POST /admin/order", Name: "holds", Roles: []accounts.Role{accounts.Admin},
		Serve: func(v *console.Visit) error {
			done, err := v.CarryOut(func(ctx context.Context) error {
				begun <- struct{}{}
				select {
				case err := <-goOn:
					ended <- ctx.Err()
					return err
				case <-ctx.Done():
					ended <- ctx.Err()
					return ctx.Err()
				}
			})
			if err == nil && !done {
				v.Writer().WriteHeader(http.StatusAccepted)
			}
			return err
		},
	})
	w.server.Config.Handler = w.console.Handler()
	b := w.login("wulan")
	if a := b.post("/admin/order", url.Values{}); a.status != http.StatusAccepted {
		t.Fatalf("an order that takes long: %d\n%s", a.status, a.body)
	}
	<-begun
	goOn <- nil
	if err := <-ended; err != nil {
		t.Errorf("it was cut off: %v", err)
	}

	w.console.Patience(time.Minute)
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		res, err := b.client.Do(b.request(http.MethodPost, "/admin/order", url.Values{}).WithContext(ctx))
		if err == nil {
			_ = res.Body.Close()
		}
		left <- err
	}()
	<-begun
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the browser: %v", err)
	}
	goOn <- errors.New("the store is full")
	if err := <-ended; err != nil {
		t.Errorf("it was cut off with its browser: %v", err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		w.mu.Lock()
		told := false
		for _, e := range w.events {
			told = told || e.Name == "console.trouble" && e.Err != nil && strings.Contains(e.Err.Error(), "the store is full")
		}
		w.mu.Unlock()
		if told {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nobody is told that the order has failed")
		}
	}

	w.console.Patience(20 * time.Millisecond)
	b.post("/admin/order", url.Values{})
	<-begun
	over, end := context.WithCancel(t.Context())
	end()
	w.console.Run(over)
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("at the end of the console: %v", err)
		}
	default:
		t.Error("the console has ended, and an order goes on")
	}
}
