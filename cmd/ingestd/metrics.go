package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/bodyworn/ingestd/configs"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/metrics"
)

const (
	// listenAgain is when a port that was taken is tried again.
	listenAgain = 30 * time.Second
	// slowClient bounds how long a request or its answer may take on its way.
	slowClient = 30 * time.Second
	maxHeader  = 16 << 10
)

func newMetrics(c *configs.Config) *metrics.Metrics {
	var slots []string
	for _, s := range c.USB.Slots {
		slots = append(slots, s.Name)
	}
	for _, s := range c.Sources {
		slots = append(slots, s.Slot)
	}
	return metrics.New(metrics.Build{Version: release, Commit: commit()}, slots)
}

// serveMetrics serves what monitoring asks until ctx ends; the stop that it returns
// waits for its end. Nothing that hinders it hinders the taking in of recorders.
func (r *running) serveMetrics(ctx context.Context) (stop func()) {
	listen := r.workplace.cfg.Metrics.Listen
	if listen == "" {
		return func() {}
	}
	server := &http.Server{
		Handler:           r.metrics.Handler(r.sources()),
		ReadHeaderTimeout: slowClient, ReadTimeout: slowClient, WriteTimeout: slowClient, IdleTimeout: slowClient, MaxHeaderBytes: maxHeader,
		ErrorLog: log.New(*r.log.Load(), "", 0), // one line of JSON each, as all of the log
	}
	ctx, cancel := context.WithCancel(ctx)
	var ended sync.WaitGroup
	ended.Go(func() {
		<-ctx.Done()
		_ = server.Close() // whoever still reads will ask the next one
	})
	ended.Go(func() {
		for told := false; ctx.Err() == nil; {
			err := listenAndServe(ctx, server, listen)
			if ctx.Err() != nil {
				return
			}
			if !told {
				told = true
				r.emit(ingest.Event{Name: "metrics.trouble", Level: ingest.Alarm, Err: err,
					Message: "monitoring can't ask this station; recorders are taken in all the same; it is tried again"})
			}
			select {
			case <-time.After(listenAgain):
			case <-ctx.Done():
			}
		}
	})
	return func() {
		cancel()
		ended.Wait()
	}
}

func listenAndServe(ctx context.Context, server *http.Server, address string) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("metrics.listen: %w", err)
	}
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics on %s: %w", address, err)
	}
	return nil
}

// sources is what monitoring may ask of the station.
func (r *running) sources() metrics.Sources {
	w := r.workplace
	volumes := map[string]func() (free, total int64, err error){
		"state": func() (int64, int64, error) { return spaceOf(w.cfg.StateDir) },
	}
	if w.store != nil {
		volumes["store"] = w.storeSpace
	}
	if dir := w.cfg.Staging.Dir; dir != "" {
		volumes["staging"] = func() (int64, int64, error) { return spaceOf(dir) }
	}
	return metrics.Sources{
		Ready: r.station.Ready, Counts: w.journal.Counts, Audit: r.station.LastAudit,
		Clock: r.station.Clock, Behind: w.journal.ClockFellBack, CertificateEnds: r.certificateEnds, Volumes: volumes, Room: r.station.Room,
	}
}
