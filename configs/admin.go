package configs

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// consoleKey is the systemd credential with the key of the console's certificate.
const consoleKey = "console-key"

// ConsoleSecrets are those of the console, which are not in Config.
type ConsoleSecrets struct {
	KeyPEM       []byte // of the certificate; nil: no TLS
	ClientSecret string // of the OpenID client; empty: none
}

// ReadConsoleSecrets reads them. The error is an *Error and never holds a part of a file.
func ReadConsoleSecrets(cfg *Config) (s ConsoleSecrets, err error) {
	fail := func(key string, err error) (ConsoleSecrets, error) {
		from := cfg.origin(key)
		return ConsoleSecrets{}, &Error{File: cfg.file, Problems: []Problem{{Key: key, Line: from.line, Source: from.source, Text: err.Error(), cause: err}}}
	}
	a := cfg.Admin
	if a.TLS.CertFile != "" {
		path := a.TLS.KeyFile
		if path == "" {
			path = filepath.Join(os.Getenv("CREDENTIALS_DIRECTORY"), consoleKey)
		}
		if s.KeyPEM, err = readClosed(path); err != nil {
			return fail("admin.tls.key_file", err)
		}
	}
	if a.OIDC.Issuer != "" && a.OIDC.ClientSecretFile != "" {
		text, err := readClosed(a.OIDC.ClientSecretFile)
		if err == nil && strings.TrimSpace(string(text)) == "" {
			err = fmt.Errorf("%s is empty", a.OIDC.ClientSecretFile)
		}
		if err != nil {
			return fail("admin.oidc.client_secret_file", err)
		}
		s.ClientSecret = strings.TrimSpace(string(text))
	}
	return s, nil
}

// consoleName is what a browser may call the console by.
var consoleName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)

func (k *checker) admin() {
	a := k.cfg.Admin
	if a.TLS.KeyFile != "" && a.TLS.CertFile == "" {
		k.fail("admin.tls.cert_file", "is required with admin.tls.key_file")
	}
	if a.TLS.CertFile != "" && a.TLS.KeyFile == "" && os.Getenv("CREDENTIALS_DIRECTORY") == "" {
		k.fail("admin.tls.key_file", "is empty and there is no systemd credential %s: name the file with the key of the certificate", consoleKey)
	}
	if n := len(a.AllowedHosts); n > maxSources {
		k.fail("admin.allowed_hosts", tooManyText, maxSources, n)
	}
	for i, host := range a.AllowedHosts {
		if !consoleName.MatchString(host) && net.ParseIP(host) == nil {
			k.fail(entry("admin.allowed_hosts", i), "must be a name such as cjz.example.lan, in lower case, without https:// and port, not %s", quoted(host))
		}
	}
	k.oidc()
	if a.Listen == "" {
		return
	}
	host, port, err := net.SplitHostPort(a.Listen)
	number, portErr := strconv.Atoi(port)
	switch {
	case err != nil || portErr != nil || number < 1 || number > 65535 || host != "localhost" && host != "" && net.ParseIP(host) == nil:
		k.fail("admin.listen", "must be an address of this machine and a port, such as 127.0.0.1:8443, not %s", quoted(a.Listen))
	case isLoopback(host):
	case a.TLS.CertFile == "" && !a.BehindProxy:
		k.fail("admin.listen", "can be reached from the network, and there is neither admin.tls nor admin.behind_proxy: passwords and footage would be readable there (第十二条)")
	case len(a.AllowedHosts) == 0:
		k.fail("admin.allowed_hosts", "is required while admin.listen is no loopback address: the name that browsers know the console by")
	}
}

func (k *checker) oidc() {
	o := k.cfg.Admin.OIDC
	if o.Issuer == "" {
		return
	}
	u, err := url.Parse(o.Issuer)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		k.fail("admin.oidc.issuer", "must be an address such as https://login.example.lan/realms/bureau")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		k.fail("admin.oidc.issuer", "must be https (第十二条); only a provider on this machine may do without")
	}
	for _, required := range []struct{ key, value string }{
		{"client_id", o.ClientID}, {"name", o.Name}, {"name_claim", o.NameClaim}, {"officer_claim", o.OfficerClaim}, {"role_claim", o.RoleClaim},
	} {
		if required.value == "" || utf8.RuneCountInString(required.value) > maxName {
			k.fail("admin.oidc."+required.key, "is required while admin.oidc.issuer is set, at most %d characters", maxName)
		}
	}
	switch n := len(o.Roles); {
	case n == 0:
		k.fail("admin.oidc.roles", "is required while admin.oidc.issuer is set: nobody would be let in")
	case n > maxSources:
		k.fail("admin.oidc.roles", tooManyText, maxSources, n)
	}
	for i, r := range o.Roles {
		key := entry("admin.oidc.roles", i) + ".value"
		if r.Value == "" {
			k.fail(key, "is required: a value of the claim %s", o.RoleClaim)
		}
		if j := slices.IndexFunc(o.Roles, func(other OIDCRole) bool { return other.Value == r.Value }); j < i {
			k.fail(key, "is that of %s too", entry("admin.oidc.roles", j))
		}
	}
}
