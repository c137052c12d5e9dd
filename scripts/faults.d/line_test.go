//go:build faults

package faults

import (
	"bytes"
	"context"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/minio/minio-go/v7/pkg/signer"

	"github.com/bodyworn/ingestd/storage/storetest"
)

var quiet = log.New(io.Discard, "", 0)

// behindALine is a place whose station reaches its server through l.
func (p *place) behindALine(s *storetest.Server) *line {
	p.t.Helper()
	c := p.k.s.minio
	l := p.newLine(c.Endpoint)
	c.Endpoint = l.addr
	p.station(c, s.Client())
	p.prepare()
	p.card(cardDir)
	return l
}

// lineFaults puts a bad line, or a bad server, between the station and MinIO.
func lineFaults(k *kind, s *storetest.Server) {
	for name, run := range map[string]func(p *place, l *line){
		"request-cut":   requestCut,
		"answer-cut":    answerCut,
		"slow-down":     slowDown,
		"answers-lost":  answersLost,
		"flip-request":  func(p *place, l *line) { flipRequests(p, l, 1, 0) },
		"flip-requests": func(p *place, l *line) { flipRequests(p, l, 1000, 3) },
		"flip-answer":   func(p *place, l *line) { flipAnswers(p, l, 1, "/long.mp4", 0) },
		"flip-object":   func(p *place, l *line) { flipAnswers(p, l, 1000, "/long.mp4", 0) },
		"flip-answers":  func(p *place, l *line) { flipAnswers(p, l, 1000, "", 3) },
		"latency":       func(p *place, l *line) { p.endsBehind(l, rules{delay: 15 * time.Millisecond}, 0) },
		"narrow":        func(p *place, l *line) { p.endsBehind(l, rules{bandwidth: 16 << 20}, 0) },
		"outage":        outage,
		"away-stopped":  awayStopped,
		"bad-key":       refusing(http.StatusForbidden, "InvalidAccessKeyId"),
		"expired":       refusing(http.StatusForbidden, "ExpiredToken"),
		"skewed":        refusing(http.StatusForbidden, "RequestTimeTooSkewed"),
		"no-bucket":     refusing(http.StatusNotFound, "NoSuchBucket"),
		"full":          refusing(http.StatusInsufficientStorage, "XMinioStorageFull"),
		"complete-cut":  completeCut,
		"parts-lost":    partsLost,
		"lock-hidden":   lockHidden,
		"lock-dropped":  lockDropped,
	} {
		k.each(name, func(p *place) {
			l := p.behindALine(s)
			run(p, l)
			l.set(rules{})
			p.judge(true)
			p.untouched(p.path(cardDir))
		})
	}
	k.each("bucket-removed", bucketRemoved)
}

// bucketRemoved: somebody at the server throws the bucket away in the middle of a
// session, with what was verified already. A new one of the same name is not the
// bucket that the station knows; in one of another name all is stored again.
func bucketRemoved(p *place) {
	s := storetest.MinIO(p.t, false)
	c := s.Config()
	l := p.newLine(c.Endpoint)
	c.Endpoint = l.addr
	p.station(c, s.Client())
	p.prepare()
	p.card(cardDir)
	after := 8 + p.random.IntN(4) // some small files are done by then
	l.set(rules{refuse: func(r *http.Request) (int, string) {
		if !isFootage(r.URL.Path) {
			return 0, ""
		}
		if after--; after == 0 {
			l.met++
			if err := s.DropBucket(c.Bucket); err != nil {
				p.violate("the case can't be run: %v", err)
			}
		}
		return 0, ""
	}})
	if r := p.ingest(nil); r.code == 0 {
		p.violate("the bucket was removed and ingest ended with 0")
	}
	l.set(rules{})
	p.k.count(counts{faults: l.met})
	if r := p.ingest(nil); r.code != 1 || !strings.Contains(r.errs, "marker") {
		p.violate("a bucket that is not the station's any more: exit %d\n%s", r.code, r.errs)
	}
	settings, err := os.ReadFile(p.path("ingestd.yaml"))
	if err != nil {
		p.t.Fatal(err)
	}
	another := s.Config().Bucket
	p.write("ingestd.yaml", bytes.ReplaceAll(settings, []byte(c.Bucket), []byte(another)))
	p.server.Bucket = another
	p.resume(false)
	p.judge(true)
	p.untouched(p.path(cardDir))
}

// endsBehind runs ingest with these rules; the fault counts where it was met.
func (p *place) endsBehind(l *line, r rules, codes ...int) ran {
	p.t.Helper()
	l.set(r)
	got := p.ingest(nil)
	l.set(rules{}) // and with it, nothing else touches what the rules share
	ok := false
	for _, code := range codes {
		ok = ok || got.code == code
	}
	if !ok {
		p.violate("ingest behind the bad line ended with %d, expected was one of %v", got.code, codes)
	}
	if l.met == 0 && r.delay == 0 && r.bandwidth == 0 {
		p.violate("the case shows nothing: its fault was never met")
	}
	p.k.count(counts{faults: max(1, l.met)})
	p.judge(false)
	return got
}

// mended runs ingest without a fault, which must end safe.
func (p *place) mended(l *line) {
	p.t.Helper()
	l.set(rules{})
	p.resume(false)
}

// requestCut resets the connection in the middle of a body, some times.
func requestCut(p *place, l *line) {
	left := 1 + p.random.IntN(3)
	at := int64(p.random.IntN(900))
	p.endsBehind(l, rules{request: func(r *http.Request) {
		if footagePut(r) && left > 0 && r.ContentLength > 1000 {
			left--
			l.met++
			r.Body = &cutting{r.Body, at}
		}
	}}, 0)
}

func answerCut(p *place, l *line) {
	left := 1 + p.random.IntN(3)
	p.endsBehind(l, rules{answer: func(r *http.Response) error {
		if r.Request.Method == http.MethodGet && isFootage(r.Request.URL.Path) && left > 0 && r.ContentLength > 1000 {
			left--
			l.met++
			r.Body = &cutting{r.Body, r.ContentLength / 2}
		}
		return nil
	}}, 0)
}

func slowDown(p *place, l *line) {
	after, left := p.random.IntN(10), 1+p.random.IntN(9)
	p.endsBehind(l, rules{refuse: func(r *http.Request) (int, string) {
		if after--; isFootage(r.URL.Path) && after < 0 && left > 0 {
			left--
			l.met++
			return http.StatusServiceUnavailable, "SlowDown"
		}
		return 0, ""
	}}, 0)
}

// answersLost: everything is done, and each first answer says that it was not.
func answersLost(p *place, l *line) {
	lost := map[string]bool{}
	p.endsBehind(l, rules{answer: func(r *http.Response) error {
		request := r.Request.Method + r.Request.URL.Path + r.Request.URL.RawQuery
		if r.Request.Method != http.MethodPut && !complete(r.Request) || lost[request] {
			return nil
		}
		lost[request] = true
		l.met++
		_ = r.Body.Close() // what it says is to be lost
		r.StatusCode, r.Status = http.StatusInternalServerError, ""
		body := []byte(`<Error><Code>InternalError</Code><Message>by the fault test</Message></Error>`)
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		r.Header = http.Header{"Content-Type": {"application/xml"}, "Date": r.Header["Date"]}
		return nil
	}}, 0)
}

// flipRequests changes a byte on the way to the server, of so many requests of
// one file: the server refuses them. A line that always does ends with the file
// not stored.
func flipRequests(p *place, l *line, times, code int) {
	p.endsBehind(l, rules{request: func(r *http.Request) {
		if footagePut(r) && l.met < times && r.ContentLength >= 1<<20 && isLong(r) {
			l.met++
			r.Body = &flipping{r.Body, r.ContentLength / 3}
		}
	}}, code)
	if code != 0 {
		p.mended(l)
	}
}

// flipAnswers changes a byte on the way back, of so many answers. What comes back
// changed is not to be believed: it is read once more, then stored once more under
// another name; where that too comes back changed it is not stored.
func flipAnswers(p *place, l *line, times int, name string, code int) {
	p.once = times == 1
	p.endsBehind(l, rules{answer: func(r *http.Response) error {
		path := r.Request.URL.Path
		if r.Request.Method == http.MethodGet && isFootage(path) && strings.HasSuffix(path, name) && l.met < times && r.ContentLength > 0 {
			l.met++
			r.Body = &flipping{r.Body, r.ContentLength / 2}
		}
		return nil
	}}, code)
	if code != 0 {
		p.mended(l)
	}
}

func isLong(r *http.Request) bool {
	return isFootage(r.URL.Path) && strings.HasSuffix(r.URL.Path, "/long.mp4")
}

// outage: connections are refused for a while in the middle of the work.
func outage(p *place, l *line) {
	after := 3 + p.random.IntN(12)
	done := make(chan struct{})
	started := false
	l.set(rules{refuse: func(*http.Request) (int, string) {
		if after--; after < 0 && !started {
			started = true
			l.met++
			go func() {
				defer close(done)
				l.down()
				time.Sleep(1500 * time.Millisecond)
				if err := l.up(l.addr); err != nil {
					p.k.note("outage: %v", err)
				}
			}()
		}
		return 0, ""
	}})
	r := p.ingest(nil)
	if started {
		<-done
	}
	p.k.count(counts{faults: l.met})
	if r.code != 0 {
		p.violate("ingest ended with %d after an outage of a second or two", r.code)
	}
}

// awayStopped: the store stays away; the station waits and can be stopped.
func awayStopped(p *place, l *line) {
	after := p.random.IntN(15)
	l.set(rules{refuse: func(*http.Request) (int, string) {
		if after--; after < 0 {
			l.met++
			return http.StatusServiceUnavailable, "ServiceUnavailable"
		}
		return 0, ""
	}})
	pr := p.start(nil, "ingest", "-o", "json", p.path(cardDir))
	pr.until(func() bool { return pr.saw("storage.unavailable") })
	pr.signal(syscall.SIGTERM)
	p.k.count(counts{faults: 1})
	if r := pr.wait(); r.code == 0 || r.signal != 0 {
		p.violate("a station that waits for its store and is stopped ended with %d, signal %d", r.code, r.signal)
	}
	l.set(rules{})
	p.judge(false)
	p.mended(l)
}

// refusing is a server that refuses footage from some request on, for good.
func refusing(status int, code string) func(p *place, l *line) {
	return func(p *place, l *line) {
		after := p.random.IntN(12)
		p.endsBehind(l, rules{refuse: func(r *http.Request) (int, string) {
			if after--; after < 0 && isFootage(r.URL.Path) {
				l.met++
				return status, code
			}
			return 0, ""
		}}, 1, 3)
		p.mended(l)
	}
}

// completeCut: the connection is lost while the server puts the parts together.
func completeCut(p *place, l *line) {
	left := 1 + p.random.IntN(3)
	p.endsBehind(l, rules{request: func(r *http.Request) {
		if complete(r) && left > 0 {
			left--
			l.met++
			ctx, cancel := context.WithCancel(r.Context())
			time.AfterFunc(time.Duration(p.random.IntN(15_000))*time.Microsecond, cancel)
			*r = *r.WithContext(ctx)
		}
	}}, 0)
}

// partsLost: the server has lost a part of an upload, and says so for good when it
// is to be put together. The recorder still has the file.
func partsLost(p *place, l *line) {
	upload := ""
	p.endsBehind(l, rules{refuse: func(r *http.Request) (int, string) {
		if id := r.URL.Query().Get("uploadId"); complete(r) && (upload == "" || id == upload) {
			upload = id
			l.met++
			return http.StatusBadRequest, "InvalidPart"
		}
		return 0, ""
	}}, 0, 1, 3)
	// Still lost, when the card is docked again.
	if p.last.code != 0 {
		l.set(rules{refuse: func(r *http.Request) (int, string) {
			if complete(r) && r.URL.Query().Get("uploadId") == upload {
				return http.StatusBadRequest, "InvalidPart"
			}
			return 0, ""
		}})
		p.resume(false)
	}
}

// lockHidden: the server has locked the object and does not show it.
func lockHidden(p *place, l *line) {
	p.endsBehind(l, rules{answer: func(r *http.Response) error {
		if r.Request.Method == http.MethodHead && isFootage(r.Request.URL.Path) {
			l.met++
			r.Header.Del("X-Amz-Object-Lock-Mode")
			r.Header.Del("X-Amz-Object-Lock-Retain-Until-Date")
		}
		return nil
	}}, 1)
	p.mended(l)
}

// lockDropped: the server stores the object and forgets the lock.
func lockDropped(p *place, l *line) {
	p.unlocked = true
	p.endsBehind(l, rules{request: func(r *http.Request) {
		if r.Header.Get("X-Amz-Object-Lock-Mode") == "" || !isFootage(r.URL.Path) {
			return
		}
		l.met++
		for _, name := range []string{"X-Amz-Object-Lock-Mode", "X-Amz-Object-Lock-Retain-Until-Date", "Authorization"} {
			r.Header.Del(name)
		}
		*r = *signer.SignV4(*r, p.server.AccessKey, p.server.SecretKey, "", p.server.Region)
	}}, 1)
	// An upload that was begun without its lock is found out when it is completed,
	// which ends that try too. The next one, for which the daemon needs nobody, finds
	// the object and locks it.
	if again := p.ingest(nil); again.code != 0 && again.code != 1 {
		p.violate("ingest after the lock was dropped ended with %d", again.code)
	}
	p.unlocked = false
	p.mended(l)
}
