package console

import (
	"context"
	"time"
)

// Pages are the routes behind the login.
func (c *Console) Pages() []Page { return c.pages }

// Add serves one page more, for tests of the frame.
func (c *Console) Add(p Page) {
	c.pages = append(c.pages, p)
	c.handler = c.guarded(c.routes())
}

// MaxBody is how large a form may be.
const MaxBody = maxBody

// Said are the messages that one page may have another show.
var Said = said

// RenewEvery shortens the time between two looks at the certificate.
func (c *Console) RenewEvery(d time.Duration) { c.renewEvery = d }

// Patience shortens the wait for orders.
func (c *Console) Patience(d time.Duration) { c.patience = d }

// CarryOut is how pages give orders.
func (v *Visit) CarryOut(order func(context.Context) error) (done bool, err error) {
	return v.carryOut(order)
}
