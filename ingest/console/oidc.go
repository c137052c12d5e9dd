package console

import "net/http"

// Provider is an OpenID provider whose accounts are let in.
type Provider struct {
	Name string
}

type oidcLogin struct{ Provider }

func newOIDCLogin(p Provider) *oidcLogin { return &oidcLogin{p} }

func (c *Console) oidcBegin(w http.ResponseWriter, r *http.Request) {}
func (c *Console) oidcBack(w http.ResponseWriter, r *http.Request)  {}
