package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/bodyworn/ingestd/configs"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/accounts"
	"github.com/bodyworn/ingestd/ingest/console"
)

// providerWithin bounds a request to an OpenID provider: somebody waits at the login.
const providerWithin = 10 * time.Second

// keepConsole has the console served while ctx lasts. What is wrong with it is told,
// and keeps nothing else from working.
func (r *running) keepConsole(ctx context.Context) {
	c, err := r.newConsole()
	if err != nil {
		r.emit(ingest.Event{Name: "console.trouble", Level: ingest.Alarm, Err: err, Message: "the console can't be reached; ingest goes on: put it right and start ingestd again"})
		return
	}
	r.console.Store(c)
	c.Run(ctx)
}

// certificateEnds is zero where the console has no certificate.
func (r *running) certificateEnds() time.Time {
	c := r.console.Load()
	if c == nil {
		return time.Time{}
	}
	ends, err := c.CertificateEnds()
	if err != nil {
		return time.Time{} // one that can't be read serves nobody, and health says so
	}
	return ends
}

func (r *running) newConsole() (*console.Console, error) {
	w := r.workplace
	a := w.cfg.Admin
	o := console.Options{
		Station: r.station, Journal: w.journal, Evidence: w.evidence, Accounts: accounts.NewBook(w.journal, r.station.Record, nil), Footage: w.vault, Desk: r.consoleDesk, Retention: retentionFile{r}, HasProfile: hasProfile(w.cfg), Continuity: w.continuity, Software: "ingestd " + version(), Ports: portsOf(w.cfg), Attention: r.attention.All,
		Location: w.cfg.Station.Timezone, Name: w.cfg.Station.Name,
		Listen: a.Listen, BehindProxy: a.BehindProxy, AllowedHosts: a.AllowedHosts, Events: r.emit, Demo: w.rack != nil, Observe: func(s console.Served) { r.metrics.Request(s.Route, s.Method, s.Status, s.Took, s.Problem) },
	}
	secrets, err := configs.ReadConsoleSecrets(w.cfg)
	if err != nil {
		return nil, err
	}
	if secrets.KeyPEM != nil {
		if o.Certificate, err = certificate(w.cfg); err != nil {
			return nil, err
		}
		o.Renewed = func() (*tls.Certificate, error) { return certificate(w.cfg) }
	}
	if a.OIDC.Issuer != "" {
		if o.Provider, err = provider(a.OIDC, secrets.ClientSecret); err != nil {
			return nil, err
		}
	}
	return console.New(o)
}

// portsOf tells where each slot of the settings is.
func portsOf(cfg *configs.Config) map[string]string {
	ports := map[string]string{}
	for _, s := range cfg.Sources {
		ports[s.Slot] = s.Path
	}
	for _, s := range cfg.USB.Slots {
		ports[s.Name] = "USB " + s.Port
	}
	return ports
}

// certificate reads the console's, with its key, as they are now.
func certificate(cfg *configs.Config) (*tls.Certificate, error) {
	secrets, err := configs.ReadConsoleSecrets(cfg)
	if err != nil {
		return nil, err
	}
	cert, err := os.ReadFile(cfg.Admin.TLS.CertFile)
	if err != nil {
		return nil, fmt.Errorf("admin.tls.cert_file: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, secrets.KeyPEM)
	if err != nil {
		return nil, fmt.Errorf("admin.tls: certificate and key: %w", err)
	}
	return &pair, nil
}

func provider(o configs.OIDC, secret string) (*console.Provider, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("admin.oidc.ca_file: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("admin.oidc.ca_file: %s holds no certificate", o.CAFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	p := &console.Provider{
		Issuer: o.Issuer, Name: o.Name, ClientID: o.ClientID, ClientSecret: secret, Client: &http.Client{Transport: transport, Timeout: providerWithin},
		NameClaim: o.NameClaim, OfficerClaim: o.OfficerClaim, RoleClaim: o.RoleClaim,
	}
	for _, role := range o.Roles {
		p.Roles = append(p.Roles, console.RoleOf{Value: role.Value, Role: accounts.Role(role.Role)})
	}
	return p, nil
}
