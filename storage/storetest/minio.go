package storetest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/storage"
)

// MinIO starts a real MinIO server on loopback, over http or over TLS with an
// authority of the test's own. The binary is $BODYWORN_MINIO or the one that
// scripts/test has built; without it the test is skipped and says so.
func MinIO(t testing.TB, secure bool) *Server {
	t.Helper()
	p := &minioProcess{t: t, binary: minioBinary(t), data: t.TempDir(), certs: t.TempDir()}
	p.config = storage.Config{AccessKey: rand.Text(), SecretKey: rand.Text(), TLS: secure}
	s := &Server{Name: "minio", kill: p.kill, dropBucket: p.dropBucket}
	if secure {
		s.Name = "minio-tls"
		p.config.CAFile = writeCertificates(t, p.certs)
	}
	t.Cleanup(p.kill)
	// A port that was free a moment ago may be gone.
	var err error
	for range 3 {
		p.config.Endpoint = freePort(t)
		if err = p.start(); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	s.config = p.config
	s.start = func(t testing.TB) {
		t.Helper()
		if err := p.start(); err != nil {
			t.Fatal(err)
		}
	}
	s.connect(t)
	return s
}

// dropBucket removes the folders of a bucket: what is in it and what is known of it.
func (p *minioProcess) dropBucket(bucket string) error {
	return errors.Join(os.RemoveAll(filepath.Join(p.data, bucket)),
		os.RemoveAll(filepath.Join(p.data, ".minio.sys", "buckets", bucket)))
}

func minioBinary(t testing.TB) string {
	t.Helper()
	binary := os.Getenv("BODYWORN_MINIO")
	if binary == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		binary = filepath.Join(cache, "ingestd-tools", "minio")
	}
	if _, err := os.Stat(binary); err != nil {
		t.Skipf("MinIO is not there (%v): scripts/test builds it", err)
	}
	return binary
}

// minioProcess is one server over its restarts.
type minioProcess struct {
	t      testing.TB // the test that owns it; its output goes there
	binary string
	config storage.Config
	data   string
	certs  string
	cmd    *exec.Cmd
	exited chan struct{} // closed when cmd has ended
}

func (p *minioProcess) start() error {
	cmd := exec.Command(p.binary, "server", "--quiet", "--address", p.config.Endpoint, "--certs-dir", p.certs, p.data)
	// Nothing of the user's own MinIO settings, no console, no look for updates.
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + p.certs, "TMPDIR=" + os.TempDir(),
		"MINIO_ROOT_USER=" + p.config.AccessKey, "MINIO_ROOT_PASSWORD=" + p.config.SecretKey,
		"MINIO_BROWSER=off", "MINIO_UPDATE=off",
	}
	cmd.Stdout, cmd.Stderr = p.t.Output(), p.t.Output()
	// A test that panics runs no cleanup.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start MinIO: %w", err)
	}
	exited := make(chan struct{})
	p.cmd, p.exited = cmd, exited
	go func() { // ends with the process, which kill ends
		_ = cmd.Wait() // killed
		close(exited)
	}()
	return p.waitReady()
}

func (p *minioProcess) waitReady() error {
	ctx, cancel := context.WithTimeout(p.t.Context(), startWithin)
	defer cancel()
	transport := dial(p.t, p.config)
	defer transport.CloseIdleConnections()
	scheme := "http://"
	if p.config.TLS {
		scheme = "https://"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+p.config.Endpoint+"/minio/health/cluster", nil)
	if err != nil {
		return err
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		answer, err := transport.RoundTrip(request)
		if err == nil {
			_ = answer.Body.Close() // nothing in it
			if answer.StatusCode == http.StatusOK {
				return nil
			}
			err = fmt.Errorf("it answers %s", answer.Status)
		}
		select {
		case <-p.exited:
			return fmt.Errorf("MinIO has ended: %s", p.cmd.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("MinIO is not ready after %s: %w", startWithin, err)
		case <-tick.C:
		}
	}
}

func (p *minioProcess) kill() {
	if p.exited == nil {
		return
	}
	_ = p.cmd.Process.Kill() // it may be gone already
	<-p.exited
}

// freePort is below the range from which the kernel gives ports to outgoing
// connections: one of those could take the port while the server is killed.
func freePort(t testing.TB) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+mathrand.IntN(12000)))
		if err != nil {
			continue
		}
		addr := l.Addr().String()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return addr
	}
	t.Fatal("no port is free")
	return ""
}
