package console

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"golang.org/x/net/netutil"

	"github.com/bodyworn/ingestd/ingest"
)

// Bounds of a connection: a slow or a greedy client has its own, and takes nothing of
// the daemon's that ingest needs.
const (
	headerWithin   = 10 * time.Second
	requestWithin  = 30 * time.Second
	answerWithin   = 60 * time.Second // a page that plays footage moves it as it goes
	keptAlive      = 60 * time.Second
	maxHeader      = 16 << 10
	maxConnections = 256
	// againAfter is how long after a listener has failed it is tried again.
	againAfter = 30 * time.Second
)

// Run serves until ctx ends. Where it can't, a person is told, once for each cause, and
// it is tried again: nothing else of the daemon waits for it.
func (c *Console) Run(ctx context.Context) {
	defer c.orders.Wait() // their journal is closed after this
	defer c.end()
	told := ""
	for {
		err := c.Serve(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil && err.Error() != told {
			told = err.Error()
			c.emit(ingest.Event{Name: "console.trouble", Level: ingest.Alarm, Err: err, Message: "the console can't be reached; ingest goes on, and it is tried again"})
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(againAfter):
		}
	}
}

// Serve serves until ctx ends or the listener fails.
func (c *Console) Serve(ctx context.Context) error {
	var listen net.ListenConfig
	l, err := listen.Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("console: %w", err)
	}
	return c.ServeOn(ctx, l)
}

// ServeOn is Serve on a listener that is there, which it closes.
func (c *Console) ServeOn(ctx context.Context, l net.Listener) error {
	server := c.server()
	l = netutil.LimitListener(l, maxConnections)
	if c.Certificate != nil {
		l = tls.NewListener(l, &tls.Config{
			MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.pair.Load(), nil },
		})
		if c.Renewed != nil {
			renewing, stop := context.WithCancel(ctx)
			defer stop()
			go c.renew(renewing)
		}
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if server.Shutdown(ending) != nil {
			_ = server.Close() // who has not finished by now is cut off
		}
		close(stopped)
	})
	c.emit(ingest.Event{Name: "console.ready", Message: "the console listens on " + l.Addr().String()})
	err := server.Serve(l)
	if !stop() { // ctx has ended: wait for what is on its way
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("console: %w", err)
}

// renewEvery is how often the certificate is looked at.
const renewEvery = time.Minute

// renew takes a certificate that was renewed on the disk, until ctx ends. One that can't
// be used is told of once, and the one before stays.
func (c *Console) renew(ctx context.Context) {
	tick := time.NewTicker(c.renewEvery)
	defer tick.Stop()
	for told := ""; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		next, err := c.Renewed()
		switch {
		case err != nil && err.Error() != told:
			told = err.Error()
			c.emit(ingest.Event{Name: "console.certificate", Level: ingest.Alarm, Err: err, Message: "the new certificate of the console can't be used; the one before stays"})
		case err == nil && !slices.EqualFunc(next.Certificate, c.pair.Load().Certificate, bytes.Equal):
			c.pair.Store(next)
			told = ""
			c.emit(ingest.Event{Name: "console.certificate", Message: "the console has a new certificate"})
		}
	}
}

// CertificateEnds is when browsers stop to trust the certificate that is in use; zero:
// there is none.
func (c *Console) CertificateEnds() (time.Time, error) {
	pair := c.pair.Load()
	if pair == nil || len(pair.Certificate) == 0 {
		return time.Time{}, nil
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return time.Time{}, fmt.Errorf("console: its certificate: %w", err)
	}
	return leaf.NotAfter, nil
}

func (c *Console) server() *http.Server {
	return &http.Server{
		Handler: c.handler, ReadHeaderTimeout: headerWithin, ReadTimeout: requestWithin, WriteTimeout: answerWithin, IdleTimeout: keptAlive, MaxHeaderBytes: maxHeader,
		// What strangers send must not fill the log.
		ErrorLog: log.New(io.Discard, "", 0),
	}
}

// seconds is a time in the form of Retry-After, rounded up.
func seconds(d time.Duration) string { return strconv.Itoa(int((d + time.Second - 1) / time.Second)) }
