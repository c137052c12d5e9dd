//go:build faults

package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// serveEmbedded starts the process of the embedded store alone and gives a plain
// client to its socket.
func (p *place) serveEmbedded() (*minio.Client, func(), error) {
	cmd := exec.Command(p.k.s.program, "store", "serve", "--root", p.path("store"), "--timezone", "Asia/Shanghai")
	cmd.Stdout, cmd.Stderr = &p.log, &p.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	lifeline, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := p.awaitNoStore(); err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it ends when its lifeline does
		close(ended)
	}()
	stop := func() {
		_ = lifeline.Close() // that is what ends it
		select {
		case <-ended:
		case <-time.After(patience):
			p.violate("the store does not end with its lifeline")
			_ = cmd.Process.Kill()
		}
	}
	client, err := p.embeddedClient(ended)
	if err != nil {
		stop()
		return nil, nil, err
	}
	return client, stop, nil
}

// awaitNoStore waits until the store of a killed daemon has noticed.
func (p *place) awaitNoStore() error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if p.storePID() == 0 {
			return nil
		}
	}
	return fmt.Errorf("the store of an ended daemon is still there after %s", patience)
}

func (p *place) embeddedClient(ended <-chan struct{}) (*minio.Client, error) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", p.path("store/s3.sock"))
	}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if conn, err := dial(context.Background(), "", ""); err == nil {
			_ = conn.Close() // it was to see whether the socket is served
			break
		}
		select {
		case <-ended:
			return nil, fmt.Errorf("the store has ended at once")
		case <-time.After(10 * time.Millisecond):
		}
	}
	body, err := os.ReadFile(p.path("store/credentials.json"))
	if err != nil {
		return nil, err
	}
	var keys struct {
		Access string `json:"access_key"`
		Secret string `json:"secret_key"`
	}
	if err := json.Unmarshal(body, &keys); err != nil {
		return nil, err
	}
	return minio.New("embedded.invalid:80", &minio.Options{
		Creds: credentials.NewStaticV4(keys.Access, keys.Secret, ""), Region: "us-east-1",
		BucketLookup: minio.BucketLookupPath, Transport: &http.Transport{DialContext: dial, DisableCompression: true},
	})
}
