package metrics

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
)

const (
	// readyFor and countsFor are how long an answer of the store and of the journal
	// counts, however often somebody asks.
	readyFor  = 10 * time.Second
	countsFor = 30 * time.Second
	// askFor bounds one question. What has not answered by then is not ready.
	askFor = 5 * time.Second
)

// Sources are asked when somebody looks, and not more often than is good for them.
type Sources struct {
	Ready  func(context.Context) []ingest.Check
	Counts func(context.Context) (journal.Counts, error)
	// Audit is what the last look at the bucket has found; the zero time: there was none.
	Audit func() ([]storage.Finding, time.Time)
	Clock func() device.StationClock
	// Behind is how far the station's clock is behind the latest time that it has seen.
	Behind func() time.Duration
	// CertificateEnds is when the console's certificate ends; the zero time: it has none,
	// or that is not known.
	CertificateEnds func() time.Time
	// Volumes give the room on the station's disks in bytes, by their use.
	Volumes map[string]func() (free, total int64, err error)
	// Room is what is left in the store, and how fast it fills.
	Room func(context.Context) (ingest.Room, error)
}

// sources is the collector over them. What can't be found out is left out: an absent
// metric is unknown, a zero would be a statement.
type sources struct {
	Sources
	ready  cached[[]ingest.Check]
	counts cached[*journal.Counts]
	days   cached[*int]
}

var (
	readyDesc       = desc("ready", "1 if this is as it must be for recorders to be taken in; see /readyz.", "check")
	sessionsDesc    = desc("sessions", "Sessions in the journal, by what is durable of them.", "state")
	expiredDesc     = desc("retention_expired_sessions", "Sessions whose lock has run out and whose footage is there still.")
	holdsDesc       = desc("holds", "Holds that keep footage.")
	quarantinedDesc = desc("quarantined_objects", "Objects in the store that are known not to be what was sent to them.")
	readAgainDesc   = desc("verify_last_success_timestamp_seconds", "When a stored session was last read again as a whole and all of it was right. Not there before the first time.")
	findingsDesc    = desc("bucket_findings", "What the last look at the bucket's settings has found. Not there before the first.", "severity")
	syncedDesc      = desc("station_clock_synced", "1 if a time service keeps the station's clock.")
	behindDesc      = desc("station_clock_behind_seconds", "How far the station's clock is behind the latest time that it has seen.")
	certificateDesc = desc("console_certificate_not_after_timestamp_seconds", "When browsers stop to trust the certificate of the console. Not there where it has none.")
	freeDesc        = desc("store_free_bytes", "Room that is left on a disk of this machine.", "volume")
	daysDesc        = desc("store_days_left", "Days that the room in the store lasts, as fast as it has filled in the last thirty. Not there where that is not known.", "volume")
	sizeDesc        = desc("store_size_bytes", "Size of the file system of a disk of this machine.", "volume")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("ingestd_"+name, help, labels, nil)
}

// Describe implements prometheus.Collector.
func (s *sources) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{readyDesc, sessionsDesc, expiredDesc, holdsDesc, quarantinedDesc, readAgainDesc, findingsDesc, syncedDesc, behindDesc, certificateDesc, freeDesc, sizeDesc, daysDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (s *sources) Collect(ch chan<- prometheus.Metric) {
	put := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	for _, c := range s.checks() {
		put(readyDesc, oneIf(c.Ready), c.Name)
	}
	if c := s.counted(); c != nil {
		for state, n := range c.Sessions {
			put(sessionsDesc, float64(n), string(state))
		}
		put(expiredDesc, float64(c.Expired))
		put(holdsDesc, float64(c.Holds))
		put(quarantinedDesc, float64(c.Quarantined))
		if !c.LastGoodScrub.IsZero() {
			put(readAgainDesc, float64(c.LastGoodScrub.Unix()))
		}
	}
	if findings, at := s.Audit(); !at.IsZero() {
		count := map[storage.Severity]int{storage.SeverityError: 0, storage.SeverityWarning: 0}
		for _, f := range findings {
			if _, counts := count[f.Severity]; counts {
				count[f.Severity]++
			}
		}
		for severity, n := range count {
			put(findingsDesc, float64(n), string(severity))
		}
	}
	if days := s.daysLeft(); days != nil {
		put(daysDesc, float64(*days), "store")
	}
	put(syncedDesc, oneIf(s.Clock().Synchronised))
	put(behindDesc, s.Behind().Seconds())
	if ends := s.CertificateEnds(); !ends.IsZero() {
		put(certificateDesc, float64(ends.Unix()))
	}
	for name, room := range s.Volumes {
		if free, total, err := room(); err == nil {
			put(freeDesc, float64(free), name)
			put(sizeDesc, float64(total), name)
		}
	}
}

// daysLeft is nil where it can't be told.
func (s *sources) daysLeft() *int {
	return s.days.get(countsFor, func(ctx context.Context) *int {
		room, err := s.Room(ctx)
		days, known := room.Days()
		if err != nil || !known {
			return nil
		}
		return &days
	})
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

func (s *sources) checks() []ingest.Check {
	return s.ready.get(readyFor, func(ctx context.Context) []ingest.Check { return s.Ready(ctx) })
}

// counted is nil where the journal can't be read, which Ready tells.
func (s *sources) counted() *journal.Counts {
	return s.counts.get(countsFor, func(ctx context.Context) *journal.Counts {
		c, err := s.Counts(ctx)
		if err != nil {
			return nil
		}
		return &c
	})
}

// cached keeps an answer for a while. Of many who ask at once one gets it for all.
type cached[T any] struct {
	mu     sync.Mutex
	at     time.Time // guarded by mu
	answer T         // guarded by mu
}

func (c *cached[T]) get(good time.Duration, ask func(context.Context) T) T {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.at.IsZero() && time.Since(c.at) < good {
		return c.answer
	}
	ctx, cancel := context.WithTimeout(context.Background(), askFor)
	defer cancel()
	c.answer = ask(ctx)
	c.at = time.Now()
	return c.answer
}
