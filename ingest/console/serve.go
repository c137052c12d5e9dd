package console

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
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
		l = tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*c.Certificate}, NextProtos: []string{"h2", "http/1.1"}})
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

func (c *Console) server() *http.Server {
	return &http.Server{
		Handler: c.handler, ReadHeaderTimeout: headerWithin, ReadTimeout: requestWithin, WriteTimeout: answerWithin, IdleTimeout: keptAlive, MaxHeaderBytes: maxHeader,
		// What strangers send must not fill the log.
		ErrorLog: log.New(io.Discard, "", 0),
	}
}

// seconds is a time in the form of Retry-After, rounded up.
func seconds(d time.Duration) string { return strconv.Itoa(int((d + time.Second - 1) / time.Second)) }
