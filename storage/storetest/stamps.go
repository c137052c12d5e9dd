package storetest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// StampAuthority is a time-stamping authority on this machine (RFC 3161). Its
// certificates and answers are made by openssl.
type StampAuthority struct {
	URL    string
	CAFile string

	t   testing.TB
	dir string

	mu     sync.Mutex // one answer at a time: openssl counts serials in a file
	asked  int        // guarded by mu
	answer func(w http.ResponseWriter, query []byte, reply func(query []byte) []byte)
}

// StampOptions are how an authority signs. Empty: EC and SHA-256.
type StampOptions struct {
	Key     string // as openssl's -newkey
	Digest  string // that is signed over
	NamedBy string // the digest by which it names its certificate
}

// NewStampAuthority starts one that ends with the test.
func NewStampAuthority(t testing.TB, o StampOptions) *StampAuthority {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	or := func(text, otherwise string) string {
		if text == "" {
			return otherwise
		}
		return text
	}
	a := &StampAuthority{t: t, dir: t.TempDir()}
	a.CAFile = filepath.Join(a.dir, "ca.pem")
	newKey := append([]string{"-nodes", "-newkey"}, strings.Fields(or(o.Key, "ec -pkeyopt ec_paramgen_curve:P-256"))...)
	a.openssl(append([]string{"req", "-x509", "-subj", "/CN=test authority", "-days", "30", "-keyout", "ca.key", "-out", "ca.pem",
		"-addext", "keyUsage=critical,keyCertSign"}, newKey...)...)
	a.openssl(append([]string{"req", "-subj", "/CN=test stamps", "-keyout", "tsa.key", "-out", "tsa.csr"}, newKey...)...)
	a.write("extensions", "keyUsage=critical,digitalSignature\nextendedKeyUsage=critical,timeStamping\n")
	a.openssl("x509", "-req", "-in", "tsa.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30", "-extfile", "extensions", "-out", "tsa.pem")
	a.write("serial", "01\n")
	a.write("tsa.conf", fmt.Sprintf(`[tsa]
default_tsa = here
[here]
serial = serial
signer_cert = tsa.pem
certs = ca.pem
signer_key = tsa.key
signer_digest = %s
default_policy = 1.2.3.4.1
digests = sha256, sha384
accuracy = secs:1
ess_cert_id_alg = %s
`, or(o.Digest, "sha256"), or(o.NamedBy, "sha256")))
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	a.URL = server.URL
	return a
}

// Answer has requests answered by f, which gets an honest reply to any query from
// reply; nil: honestly.
func (a *StampAuthority) Answer(f func(w http.ResponseWriter, query []byte, reply func(query []byte) []byte)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = f
}

// Asked counts the requests.
func (a *StampAuthority) Asked() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

func (a *StampAuthority) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query, err := io.ReadAll(r.Body)
	if err != nil {
		return // the one who asks is gone
	}
	a.mu.Lock()
	a.asked++
	answer := a.answer
	a.mu.Unlock()
	if answer != nil {
		answer(w, query, a.Reply)
		return
	}
	w.Header().Set("Content-Type", "application/timestamp-reply")
	_, _ = w.Write(a.Reply(query))
}

// Reply is the honest answer to a query.
func (a *StampAuthority) Reply(query []byte) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.write("query", string(query))
	a.openssl("ts", "-reply", "-config", "tsa.conf", "-queryfile", "query", "-out", "reply")
	reply, err := os.ReadFile(filepath.Join(a.dir, "reply"))
	if err != nil {
		a.t.Error(err)
	}
	return reply
}

// Verify has openssl check a stamp over data, as somebody without this program would.
func (a *StampAuthority) Verify(stamp, data []byte) error {
	dir := a.t.TempDir()
	for name, body := range map[string][]byte{"stamp": stamp, "data": data} {
		if err := os.WriteFile(filepath.Join(dir, name), body, 0o600); err != nil {
			return err
		}
	}
	out, err := exec.CommandContext(a.t.Context(), "openssl", "ts", "-verify", "-in", filepath.Join(dir, "stamp"), "-data", filepath.Join(dir, "data"), "-CAfile", a.CAFile).CombinedOutput()
	if err != nil {
		return fmt.Errorf("openssl ts -verify: %w\n%s", err, out)
	}
	return nil
}

func (a *StampAuthority) write(name, content string) {
	if err := os.WriteFile(filepath.Join(a.dir, name), []byte(content), 0o600); err != nil {
		a.t.Error(err)
	}
}

func (a *StampAuthority) openssl(args ...string) {
	cmd := exec.Command("openssl", args...)
	cmd.Dir = a.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		a.t.Errorf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}
