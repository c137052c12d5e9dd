//go:build faults

package faults

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/minio/minio-go/v7"

	"github.com/bodyworn/ingestd/storage"
)

// place is one case: a station in a folder of its own, a card, and a store.
type place struct {
	t      *testing.T
	k      *kind
	name   string
	random *rand.Rand
	dir    string
	id     string // of the station: begins all its keys
	// server is where the footage goes; empty: the embedded store.
	server storage.Config
	client *minio.Client // plain, straight to the server
	// once: no content may be stored twice.
	once bool
	// unlocked: the fault of the case is an object without its lock; it is looked
	// over until it is mended.
	unlocked bool

	log        lockedBuffer
	started    int
	violations int
	last       ran // of the last run that was to take the card in
	claims     []claim

	holding sync.Mutex
	ever    map[string]bool   // guarded by holding; SHA-256 of all that ever was on the card, in hex
	now     map[string]string // guarded by holding while a process runs; path on the card to SHA-256, as it is
	// taken is now at the end of the last process that worked on a session, by the
	// session's id; guarded by holding.
	taken map[string]map[string]string
}

// claim is a "safe to undock" and the card of which it was said.
type claim struct {
	by   string
	card map[string]string
}

// station makes the folder and its settings. A server whose endpoint is empty is
// the embedded store.
func (p *place) station(server storage.Config, client *minio.Client) {
	p.t.Helper()
	dir, err := os.MkdirTemp("", "p") // short: the path of a socket has 107 bytes
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = os.RemoveAll(dir) }) // the caller's TMPDIR goes as a whole
	p.dir, p.server, p.client = dir, server, client
	p.id = fmt.Sprintf("F-%d", places.Add(1)) // in one bucket with the others
	p.ever, p.now, p.taken = map[string]bool{}, map[string]string{}, map[string]map[string]string{}
	config := `
station: {id: ` + p.id + `}
state_dir: state
ingest: {settle: 20ms}
board: {listen: ""}
log: {format: json}
metrics: {listen: ""}
sources:
  - {path: drop, kind: folder}
storage:
  part_size: 5MiB
  buffer_memory: 32MiB
`
	if server.Endpoint == "" {
		config += "  embedded: {root: store}\n"
	} else {
		config += fmt.Sprintf("  kind: s3\n  bucket: %s\n  s3: {endpoint: \"%s\", tls: false, credentials_file: keys}\n", server.Bucket, server.Endpoint)
		p.write("keys", []byte(fmt.Sprintf("access_key: %s\nsecret_key: %s\n", server.AccessKey, server.SecretKey)))
	}
	p.write("ingestd.yaml", []byte(config))
	if err := errors.Join(os.Mkdir(p.path("drop"), 0o700), os.Mkdir(p.path("state"), 0o700)); err != nil {
		p.t.Fatal(err)
	}
}

// places numbers the stations.
var places atomic.Int64

func (p *place) path(name string) string { return filepath.Join(p.dir, name) }

func (p *place) write(name string, content []byte) {
	p.t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(p.path(name)), 0o700), os.WriteFile(p.path(name), content, 0o600)); err != nil {
		p.t.Fatal(err)
	}
}

// cardDir is where the folder source of the daemon sees a card.
const cardDir = "drop/R1"

// identity is what the card tells of its recorder.
const identity = "[ZFY]\r\nDevNo=R1\r\nPolNo=052507\r\n"

// content is n random bytes: no two files are the same.
func (p *place) content(n int) []byte {
	body := make([]byte, n)
	for at := 0; at < n; at += 8 {
		x := p.random.Uint64()
		for i := at; i < min(at+8, n); i++ {
			body[i] = byte(x >> (8 * (i - at)))
		}
	}
	return body
}

// card writes the usual card: small files, an empty one, a long name, one in
// three parts. It returns what is on it.
func (p *place) card(at string) map[string][]byte {
	p.t.Helper()
	files := map[string][]byte{
		"Param.ini":                   []byte(identity),
		"DCIM/100/执法_052507_0001.mp4": p.content(3000 + p.random.IntN(100_000)),
		"DCIM/100/b.jpg":              p.content(1 + p.random.IntN(2000)),
		"DCIM/100/empty.txt":          {},
		"DCIM/100/long.mp4":           p.content(10<<20 + 1 + p.random.IntN(4<<20)),
		"LOG/a.log":                   p.content(5 << 20), // exactly one part
	}
	for name, body := range files {
		if at != "" {
			p.write(filepath.Join(at, name), body)
		}
		p.holds(name, body)
	}
	return files
}

// holds says what the card has under a path, from now on.
func (p *place) holds(path string, body []byte) {
	sum := hexSum(body)
	p.holding.Lock() // a card may change while it is read
	defer p.holding.Unlock()
	p.now[path], p.ever[sum] = sum, true
	p.k.count(counts{files: 1, bytes: int64(len(body))})
}

// more adds a file to the card.
func (p *place) more(path string, size int) {
	p.t.Helper()
	body := p.content(size)
	p.write(filepath.Join(cardDir, path), body)
	p.holds(path, body)
}

func hexSum(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// untouched makes sure that nobody has written to the card.
func (p *place) untouched(dir string) {
	seen := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		seen[name] = hexSum(body)
		return err
	})
	if err != nil {
		p.violate("the card can't be read any more: %v", err)
	}
	for path, sum := range p.now {
		if seen[path] != sum {
			p.violate("the card was changed: %s", path)
		}
	}
	if len(seen) != len(p.now) {
		p.violate("the card has %d files now, %d were put there", len(seen), len(p.now))
	}
}

// lockedBuffer takes the output of several processes.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Clone(b.text.String())
}
