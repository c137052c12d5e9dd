package console

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/bodyworn/ingestd/ingest/custody"
)

// orderPatience is how long a browser waits for an order. What takes longer goes on
// without it, and its page tells how far it is.
const orderPatience = 20 * time.Second

// desk is where the account gives orders about stored footage.
func (v *Visit) desk() (*custody.Desk, error) {
	if v.c.Desk == nil {
		return nil, v.noDesk()
	}
	d := v.c.Desk()
	d.Person, d.Actor = v.Account.Actor(), v.Account.Actor()
	return d, nil
}

func (v *Visit) noDesk() error {
	return Problem{Status: http.StatusServiceUnavailable, Code: "no_desk"}
}

// carryOut has an order carried out to its end, also where the browser goes away, and
// waits a while for it. What goes wrong after that is told to whoever looks after the
// station, and stands in the journal for the page.
func (v *Visit) carryOut(order func(context.Context) error) (done bool, err error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(v.Context()))
	stop := context.AfterFunc(v.c.life, cancel)
	ended := make(chan error, 1)
	v.c.orders.Go(func() {
		defer cancel()
		defer stop()
		ended <- order(ctx)
	})
	select {
	case err := <-ended:
		return true, err
	case <-time.After(v.c.patience):
	case <-v.Context().Done():
	}
	v.c.orders.Go(func() {
		if err := <-ended; err != nil {
			p := problemOf(err)
			p.Code = "order_failed"
			v.c.tell(p)
		}
	})
	return false, nil
}

// said are the messages that a page may show because another one has led to it.
var said = []string{"hold_added", "hold_released", "hold_asked", "hold_going_on", "plan_none", "plan_applied", "plan_asked", "plan_going_on", "plan_left", "retention_saved", "recorder_saved", "recorder_removed", "bucket_looked"}

// goTo leads to another page, which says what was done.
func (v *Visit) goTo(path, say string) error {
	if say != "" {
		path += "?" + url.Values{"said": {say}}.Encode()
	}
	http.Redirect(v.w, v.r, path, http.StatusSeeOther)
	return nil
}

// Said is what was done before this page, in words; empty: nothing.
func (v *Visit) Said() string {
	if say := v.r.URL.Query().Get("said"); v.r.Method == http.MethodGet && slices.Contains(said, say) {
		return v.T("said." + say)
	}
	return ""
}

// nothingMatches tells a query without a result from what is wrong.
func nothingMatches(err error) bool { return errors.Is(err, custody.ErrNothing) }
