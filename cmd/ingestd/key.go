package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage/stationkey"
)

func (a *app) keyCmd() *cobra.Command {
	return group("key", "The key that the station signs with", a.keyRotateCmd(), &cobra.Command{
		Use: "show", Short: "Show the station's key, as whoever checks its signatures needs it", Args: cobra.NoArgs,
		Long: `show prints the fingerprint and the public key, the list of the keys that are
trusted in the form of ssh-keygen (allowed_signers), and where the private key lies.
It never shows the private key. It may run beside the daemon.

Exit codes: 0 the key is as it must be · 3 it is not, and the daemon would not start,
or would sign what nobody trusts · 5 nothing was signed here yet.`,
		RunE: func(*cobra.Command, []string) error { return a.keyShow() },
	})
}

// keyJSON is the station's key for machines; the private half is never in it.
type keyJSON struct {
	Schema         string         `json:"schema"`
	Station        string         `json:"station"`
	Fingerprint    string         `json:"fingerprint"`
	PublicKey      string         `json:"public_key"`
	AllowedSigners string         `json:"allowed_signers"`
	PrivateKey     privateKeyJSON `json:"private_key"`
	Findings       []string       `json:"findings"`
}

type privateKeyJSON struct {
	Path  string `json:"path"`
	State string `json:"state"`
}

// The states of a private key.
const (
	keyPresent    = "present"
	keyAbsent     = "absent"
	keyUnreadable = "unreadable" // by who gives the command
	keyUnsound    = "unsound"    // the daemon would refuse it
)

var keyWords = map[string]string{
	keyPresent:    "it is there",
	keyAbsent:     "it is not there: the service has it as the systemd credential " + keyCredential + ", or it is lost",
	keyUnreadable: "you may not read it, so it was not compared",
	keyUnsound:    "IT IS NOT FIT FOR USE",
}

func (a *app) keyShow() (err error) {
	w, err := a.openJournal(journal.Share)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	signer, err := w.currentSigner()
	if err != nil {
		return err
	}
	k := keyJSON{
		Schema: "ingestd.key/1", Station: w.cfg.Station.ID, Fingerprint: signer.Fingerprint(),
		AllowedSigners: string(w.evidence.Ring.Format()), Findings: []string{},
	}
	if k.PublicKey, err = publicLine(signer); err != nil {
		return err
	}
	k.PrivateKey, k.Findings = w.lookAtPrivateKey(signer)
	if w.rotationCutOff() {
		k.Findings = append(k.Findings, rotationCutOff)
	}
	if a.output == "json" {
		err = printJSON(a.out, k)
	} else {
		a.printKey(w, k)
	}
	if err == nil && len(k.Findings) > 0 {
		err = exitError{exitFindings, fmt.Errorf("the station's key: %s", strings.Join(k.Findings, "; "))}
	}
	return err
}

func (a *app) printKey(w *workplace, k keyJSON) {
	fmt.Fprintf(a.out, "station 采集站        %s\nfingerprint 公钥指纹  %s\npublic key 公钥       %s\nprivate key 私钥      %s: %s\ntrusted keys          %s:\n\n%s\n",
		k.Station, k.Fingerprint, tame(k.PublicKey), shown(k.PrivateKey.Path), keyWords[k.PrivateKey.State],
		shown(filepath.Join(w.cfg.StateDir, ringName)), tame(k.AllowedSigners))
	if !a.quiet {
		fmt.Fprint(a.out, `请将公钥指纹抄写在纸上，存放于本机以外。
Write the fingerprint down on paper and keep it outside of this machine: whoever takes
the machine over can replace the key, the list and all that they say, but not the paper.
`)
	}
}

// lookAtPrivateKey tells where the private key lies, and what is wrong with it.
func (w *workplace) lookAtPrivateKey(signer stationkey.Signer) (privateKeyJSON, []string) {
	at := privateKeyJSON{Path: w.keyFile(), State: keyPresent}
	key, err := stationkey.Load(at.Path)
	switch {
	case errors.Is(err, stationkey.ErrNone):
		at.State = keyAbsent
	case errors.Is(err, fs.ErrPermission):
		at.State = keyUnreadable
	case err != nil:
		at.State = keyUnsound
		return at, []string{err.Error()}
	case !signer.Key.Equal(key.Public()):
		return at, []string{fmt.Sprintf("%s is the key %s, but the one that is trusted is %s: put the right one back; nobody trusts what the other signs",
			at.Path, key.Fingerprint(), signer.Fingerprint())}
	}
	return at, []string{}
}

// currentSigner is the station's key that has no end, from the list of those that are
// trusted. Who only checks needs no private key, and may not be allowed to read it.
func (w *workplace) currentSigner() (stationkey.Signer, error) {
	if err := w.openRing(); err != nil {
		return stationkey.Signer{}, err
	}
	var current []stationkey.Signer
	for _, s := range w.evidence.Ring.Signers() {
		if s.Principal == w.cfg.Station.ID && s.ValidBefore.IsZero() {
			current = append(current, s)
		}
	}
	path := filepath.Join(w.cfg.StateDir, ringName)
	switch len(current) {
	case 1:
		return current[0], nil
	case 0:
		return stationkey.Signer{}, exitError{exitNotFound, fmt.Errorf("%s names no key of station %s without an end: nothing was signed here yet, or the file was lost and must be put back from its backup", path, w.cfg.Station.ID)}
	}
	return stationkey.Signer{}, fmt.Errorf("%s names %d keys of station %s without an end, and a station signs with one: give valid-before to those that it signs with no more", path, len(current), w.cfg.Station.ID)
}

// publicLine is a public key as OpenSSH writes it, without a newline.
func publicLine(s stationkey.Signer) (string, error) {
	key, err := ssh.NewPublicKey(s.Key)
	if err != nil {
		return "", fmt.Errorf("public key of %s: %w", s.Principal, err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) + " " + s.Principal, nil
}

// readPublicLine reads a file with one public key, as `ingestd key show` prints it and
// the bucket has it.
func readPublicLine(path string) (ed25519.PublicKey, string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, "", fmt.Errorf("the station's public key: %w", err)
	}
	// With a name before it, the line is one of allowed_signers.
	ring, err := stationkey.ParseRing([]byte("station " + strings.TrimSpace(string(text))))
	if err == nil && len(ring.Signers()) != 1 {
		err = errors.New("it has more than one line")
	}
	if err != nil {
		return nil, "", usage(fmt.Errorf("%s is not the public key of a station, one line that begins with ssh-ed25519: %w", path, err))
	}
	s := ring.Signers()[0]
	return s.Key, s.Fingerprint(), nil
}
