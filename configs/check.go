package configs

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/bodyworn/ingestd/storage"
)

// Bounds of the numbers.
const (
	minPartSize = 5 * MiB // of S3, for every part but the last
	maxPartSize = 64 * MiB
	maxMonths   = 1200 // 36500 days is the longest lock of S3, and no lock can be undone
	maxParallel = 64
	maxSettle   = time.Hour
	maxStall    = 24 * time.Hour
	minScrub    = time.Minute
	maxScrub    = 10 * 365 * 24 * time.Hour
	maxSources  = 64
	maxName     = 200 // characters, for what is shown to people
)

const tooManyText = "must have at most %d entries, not %d"

// Validate checks a Config that was made or changed in code by the rules that
// Load applies, and reads the retention file that it names. The error is an *Error
// with every problem.
func (c *Config) Validate() error { return problemsError(c.file, check(c, nil)) }

// check is the one validator. It is silent about keys that earlier problems
// speak of already.
func check(c *Config, earlier []Problem) []Problem {
	k := &checker{cfg: c, earlier: earlier}
	k.texts()
	k.station()
	k.storage()
	k.s3()
	k.timestamp()
	k.retention()
	k.custody()
	k.ingest()
	k.scrub()
	k.sources()
	k.usb()
	k.condition()
	k.staging()
	k.board()
	k.metrics()
	k.admin()
	return k.problems
}

type checker struct {
	cfg      *Config
	earlier  []Problem
	problems []Problem
}

func (k *checker) fail(key, format string, args ...any) { k.failAs(nil, key, format, args...) }

// failAs reports a problem that errors.Is finds as cause.
func (k *checker) failAs(cause error, key, format string, args ...any) {
	for _, p := range slices.Concat(k.earlier, k.problems) {
		if p.Key == key || strings.HasPrefix(key, p.Key+".") {
			return
		}
	}
	from := k.cfg.origin(key)
	k.problems = append(k.problems, Problem{
		Key: key, Line: from.line, Source: from.source, Text: fmt.Sprintf(format, args...), cause: cause,
	})
}

// texts checks what holds for every setting of a kind, so that a Config made in
// code cannot hold what a file could not.
func (k *checker) texts() {
	for s := range settings(reflect.ValueOf(k.cfg).Elem()) {
		if s.field.Kind() != reflect.String {
			continue
		}
		text := s.field.String()
		c, isChoice := s.field.Interface().(choice)
		switch {
		case isChoice && text == "":
			k.fail(s.key, "is required: %s", strings.Join(c.choices(), " or "))
		case isChoice:
			if err := checkChoice(c, text); err != nil {
				k.fail(s.key, "%v", err)
			}
		case !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl):
			k.fail(s.key, "must not hold control characters or bytes that are not UTF-8")
		case s.path && text != "" && !filepath.IsAbs(text):
			k.fail(s.key, "must be an absolute path, not %s", quoted(text))
		}
	}
}

var stationID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

func (k *checker) station() {
	s := k.cfg.Station
	if !stationID.MatchString(s.ID) {
		k.fail("station.id", "must be 1 to 32 letters, digits, - or _, not %s: it begins every key in the store", quoted(s.ID))
	}
	// The store accepts short locks below this prefix; footage must never be
	// there.
	if s.ID+"/" == storage.SelfTestPrefix {
		k.fail("station.id", "is reserved for the self-test of the store; choose another")
	}
	if utf8.RuneCountInString(s.Name) > maxName {
		k.fail("station.name", "must not be longer than %d characters", maxName)
	}
	if s.Timezone == nil {
		k.fail("station.timezone", "is required, such as Asia/Shanghai")
	}
}

func (k *checker) custody() {
	c := k.cfg.Custody
	if n := len(c.Administrators); n > maxSources {
		k.fail("custody.administrators", tooManyText, maxSources, n)
		return
	}
	for i, name := range c.Administrators {
		key := entry("custody.administrators", i)
		if name == "" || utf8.RuneCountInString(name) > maxName {
			k.fail(key, "must be a uid or the name of a user, at most %d characters", maxName)
		}
		if j := slices.Index(c.Administrators, name); j < i {
			k.fail(key, "is %s once more", entry("custody.administrators", j))
		}
	}
	if c.TwoPersons && len(c.Administrators) == 1 {
		k.fail("custody.two_persons", "needs two administrators, and custody.administrators names one: nothing could ever be released")
	}
	if c.TwoPersons && c.Dispose == DisposeAutomatic {
		k.fail("custody.dispose", "is automatic, and custody.two_persons wants two persons to confirm, which the station is not: set it to manual")
	}
}

func (k *checker) storage() {
	c, s := k.cfg, k.cfg.Storage
	if c.StateDir == "" {
		k.fail("state_dir", "is required: the folder of the journal")
	}
	if text := bucketProblem(s.Bucket); text != "" {
		k.fail("storage.bucket", "%s, not %s", text, quoted(s.Bucket))
	}
	if s.Kind == StorageEmbedded {
		switch {
		case s.Embedded.Root == "":
			k.fail("storage.embedded.root", "is required while storage.kind is embedded")
		case c.StateDir != "" && contains(s.Embedded.Root, c.StateDir):
			k.fail("state_dir", "lies in storage.embedded.root (%s), where every folder is a bucket; choose a folder outside", s.Embedded.Root)
		}
	}
	if s.PartSize < minPartSize || s.PartSize > maxPartSize {
		k.fail("storage.part_size", "must be from %v to %v, not %v", minPartSize, maxPartSize, s.PartSize)
		return
	}
	if s.BufferMemory < 2*s.PartSize {
		k.fail("storage.buffer_memory", "must hold at least two parts of %v, not %v", s.PartSize, s.BufferMemory)
	}
}

var (
	bucketName     = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	bucketPrefixes = []string{"xn--", "sthree-", "amzn-s3-demo-"}
	bucketSuffixes = []string{"-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"}
)

// bucketProblem says which naming rule of S3 a bucket breaks, empty for none.
func bucketProblem(name string) string {
	if !bucketName.MatchString(name) {
		return "must be 3 to 63 lower-case letters, digits, dots and hyphens, with a letter or digit at both ends"
	}
	if strings.Contains(name, "..") || strings.Contains(name, ".-") || strings.Contains(name, "-.") {
		return "must have a letter or digit on both sides of a dot"
	}
	if addr, err := netip.ParseAddr(name); err == nil && addr.Is4() {
		return "must not look like an IP address"
	}
	for _, prefix := range bucketPrefixes {
		if strings.HasPrefix(name, prefix) {
			return "must not begin with " + prefix + ", which S3 reserves"
		}
	}
	for _, suffix := range bucketSuffixes {
		if strings.HasSuffix(name, suffix) {
			return "must not end with " + suffix + ", which S3 reserves"
		}
	}
	return ""
}

// s3 checks the settings of the other store whether or not it is in use, so
// that switching to it brings no surprise.
func (k *checker) s3() {
	s, used := k.cfg.Storage.S3, k.cfg.Storage.Kind == StorageS3
	if used && s.Endpoint == "" {
		k.fail("storage.s3.endpoint", "is required while storage.kind is s3: host:port, such as s3.example.org:443")
	}
	if s.Endpoint != "" {
		host, text := splitEndpoint(s.Endpoint)
		switch {
		case text != "":
			k.fail("storage.s3.endpoint", "%s", text)
		case !s.TLS && !isLoopback(host):
			k.fail("storage.s3.tls", "false would send footage unprotected to %s (第十二条): set it to true; only an endpoint on this machine may do without", host)
		}
	}
	if s.Region == "" || strings.ContainsFunc(s.Region, unicode.IsSpace) {
		k.fail("storage.s3.region", "must be a name without spaces, such as us-east-1")
	}
	if s.CAFile != "" && !s.TLS {
		k.fail("storage.s3.ca_file", "has no use while storage.s3.tls is false; remove one of the two")
	}
}

// splitEndpoint takes host:port apart; text says what is wrong with it. An
// endpoint with @ is not repeated: people put passwords before it.
func splitEndpoint(endpoint string) (host, text string) {
	const want = "must be host:port, such as s3.example.org:443"
	if strings.Contains(endpoint, "@") {
		return "", want + ", without a user before @: see storage.s3.credentials_file"
	}
	host, port, err := net.SplitHostPort(endpoint)
	number, portErr := strconv.Atoi(port)
	switch {
	case strings.Contains(endpoint, "://"):
		return "", want + ", without http:// or https:// (see storage.s3.tls)"
	case err != nil || host == "" || strings.ContainsAny(host, "/ ?#") || portErr != nil || number < 1 || number > 65535:
		return "", want + ", not " + quoted(endpoint)
	}
	return host, ""
}

func (k *checker) timestamp() {
	t := k.cfg.Timestamp
	if t.URL == "" {
		return
	}
	u, err := url.Parse(t.URL)
	switch {
	case err == nil && u.User != nil: // not repeated: it may hold a password
		k.fail("timestamp.url", "must not have a user before @")
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" || u.Fragment != "":
		k.fail("timestamp.url", "must be an address such as https://tsa.example.org/stamp")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		k.fail("timestamp.url", "must be https (第十二条); only an authority on this machine may do without")
	}
	if t.CAFile == "" {
		k.fail("timestamp.ca_file", "is required while timestamp.url is set: a stamp that can't be checked proves nothing")
	}
}

func (k *checker) metrics() {
	listen := k.cfg.Metrics.Listen
	if listen == "" {
		return
	}
	host, port, err := net.SplitHostPort(listen)
	number, portErr := strconv.Atoi(port)
	switch {
	case err != nil || portErr != nil || number < 1 || number > 65535:
		k.fail("metrics.listen", "must be host:port, such as 127.0.0.1:9790, not %s", quoted(listen))
	case !isLoopback(host):
		k.fail("metrics.listen", "must be on this machine, such as 127.0.0.1:9790, not %s: nobody has to log in there; let an agent on this machine pass it on", quoted(listen))
	}
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

func (k *checker) retention() {
	switch months := k.cfg.Retention.Months; {
	case months < storage.FloorMonths:
		k.failAs(ErrBelowFloor, "retention.months", "must be at least %d, not %d: footage is kept no less than six months (第十一条)", storage.FloorMonths, months)
	case months > maxMonths:
		k.fail("retention.months", "must be at most %d, not %d: a lock cannot be shortened afterwards", maxMonths, months)
	}
	k.policy()
}

func (k *checker) ingest() {
	if n := k.cfg.Ingest.Parallel; n < 1 || n > maxParallel {
		k.fail("ingest.parallel", "must be from 1 to %d, not %d", maxParallel, n)
	}
	if d := k.cfg.Ingest.Settle; d <= 0 || d > maxSettle {
		k.fail("ingest.settle", "must be above 0s and at most %v, not %v", maxSettle, d)
	}
	if d := k.cfg.Ingest.StallAfter; d != 0 && (d < time.Second || d > maxStall) {
		k.fail("ingest.stall_after", "must be 0s, which is never, or from 1s to %v, not %v", maxStall, d)
	}
}

func (k *checker) scrub() {
	s := k.cfg.Scrub
	if s.Every != 0 && (s.Every < minScrub || s.Every > maxScrub) {
		k.fail("scrub.every", "must be 0s, which is never, or from %v to %v, not %v", minScrub, maxScrub, s.Every)
	}
	if s.Bandwidth < MiB {
		k.fail("scrub.bandwidth", "must be at least %v for each second, not %v", MiB, s.Bandwidth)
	}
}

// sources checks that no file can be reached in two ways, or be our own.
func (k *checker) sources() {
	c := k.cfg
	if n := len(c.Sources); n > maxSources {
		k.fail("sources", tooManyText, maxSources, n)
		return
	}
	for i, s := range c.Sources {
		path, slot := entry("sources", i)+".path", entry("sources", i)+".slot"
		if utf8.RuneCountInString(s.Slot) > maxName {
			k.fail(slot, "must not be longer than %d characters", maxName)
		}
		if s.Path == "" {
			k.fail(path, "is required: the folder where recorders appear")
			continue
		}
		if c.StateDir != "" && contains(s.Path, c.StateDir) {
			k.fail(path, "holds state_dir (%s), which would be ingested; choose another folder", c.StateDir)
		}
		if root := c.Storage.Embedded.Root; c.Storage.Kind == StorageEmbedded && root != "" && overlap(s.Path, root) {
			k.fail(path, "lies in or around storage.embedded.root (%s), which would be ingested again; choose another folder", root)
		}
		for j, other := range c.Sources[:i] {
			if other.Path != "" && overlap(s.Path, other.Path) {
				k.fail(path, "lies in or around %s (%s): a recorder would be taken twice", entry("sources", j)+".path", other.Path)
			}
		}
	}
}

// usbPort is how the kernel names a socket: bus, then ports.
var usbPort = regexp.MustCompile(`^[0-9]{1,3}-[0-9]{1,3}(\.[0-9]{1,3}){0,6}$`)

func (k *checker) usb() {
	u := k.cfg.USB
	if n := len(u.Slots); n > maxSources {
		k.fail("usb.slots", tooManyText, maxSources, n)
		return
	}
	if u.Watch == WatchSlots && len(u.Slots) == 0 {
		k.fail("usb.slots", "is required while usb.watch is slots: run `ingestd slots learn`")
	}
	names, ports := map[string]int{}, map[string]int{}
	for i, s := range u.Slots {
		name, port := entry("usb.slots", i)+".name", entry("usb.slots", i)+".port"
		switch first, twice := names[s.Name]; {
		case s.Name == "" || utf8.RuneCountInString(s.Name) > maxName:
			k.fail(name, "is required: the name of the slot on the board, at most %d characters", maxName)
		case twice:
			k.fail(name, "is that of %s too", entry("usb.slots", first))
		}
		switch first, twice := ports[s.Port]; {
		case !usbPort.MatchString(s.Port):
			k.fail(port, "must be a path of ports such as 1-2.3, not %s: see `ingestd slots learn`", quoted(s.Port))
		case twice:
			k.fail(port, "is that of %s too", entry("usb.slots", first))
		}
		names[s.Name], ports[s.Port] = i, i
	}
}

func (k *checker) condition() {
	if d := k.cfg.Clock.WarnOver; d < time.Second || d > time.Hour {
		k.fail("clock.warn_over", "must be from 1s to 1h, not %v", d)
	}
	if n := k.cfg.PreUse.Battery; n < 0 || n > 100 {
		k.fail("preuse.battery", "must be from 0 to 100 percent, not %d", n)
	}
	if k.cfg.PreUse.Free < 0 {
		k.fail("preuse.free", "must not be negative")
	}
}

// staging makes sure that what is encrypted there lies with nothing else.
func (k *checker) staging() {
	s := k.cfg.Staging
	if s.Reserve < 0 {
		k.fail("staging.reserve", "must not be negative")
	}
	if s.Dir == "" {
		return
	}
	if root := k.cfg.Storage.Embedded.Root; k.cfg.Storage.Kind == StorageEmbedded && root != "" && overlap(s.Dir, root) {
		k.fail("staging.dir", "lies in or around storage.embedded.root (%s); choose a folder on another disk", root)
	}
	if s.KeyFile != "" && contains(s.Dir, s.KeyFile) {
		k.fail("staging.key_file", "lies in staging.dir, so that whoever has the disk has the key; choose a file elsewhere")
	}
	for i, source := range k.cfg.Sources {
		if source.Path != "" && overlap(s.Dir, source.Path) {
			k.fail("staging.dir", "lies in or around %s (%s): copies would be taken in as cards", entry("sources", i)+".path", source.Path)
		}
	}
}

// contains tells whether inner is outer or lies below it. Both are clean and
// absolute.
func contains(outer, inner string) bool {
	return strings.HasPrefix(inner+"/", strings.TrimSuffix(outer, "/")+"/")
}

func overlap(a, b string) bool { return contains(a, b) || contains(b, a) }
