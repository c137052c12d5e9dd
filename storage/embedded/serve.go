package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/gofiber/fiber/v3"
	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
	"github.com/versity/versitygw/s3api"
	"golang.org/x/sys/unix"
)

const (
	region     = "us-east-1"
	healthPath = "/healthz" // masks a bucket of that name
)

// Config says what Serve serves.
type Config struct {
	// Root is the store's folder; it is made if missing. It must lie on one file
	// system with user extended attributes (ext4, xfs, btrfs).
	Root string

	// Location is the station's time zone, in which the six months are counted.
	Location *time.Location

	// Lifeline, the child's stdin, ties the store to the process that started
	// it: Serve ends when it reads to the end, as it does even if that process
	// is killed. With a lifeline SIGINT, SIGTERM and SIGHUP are ignored: they
	// reach the whole group or cgroup, and the daemon must be able to finish its
	// session before it lets go of the store. Nil: only ctx ends Serve.
	Lifeline io.Reader
}

// Serve runs the store in this process until ctx ends or the lifeline is cut,
// then lets requests in flight finish (10 s at most) and returns nil.
//
// It takes the process over: working directory, umask and signals change. Call it from a process of its own, once.
// It returns ErrServed if another process has the root.
func Serve(ctx context.Context, cfg Config) error {
	if cfg.Location == nil {
		return errors.New("serve store: no time zone given; the six months are counted in the station's zone")
	}
	root, err := openRoot(cfg.Root)
	if err != nil {
		return err
	}
	defer root.close()
	if err := root.checkAttributes(); err != nil {
		return err
	}
	held, err := root.lock()
	if err != nil {
		return err
	}
	defer held.Close()
	keys, err := root.ensureCredentials()
	if err != nil {
		return err
	}
	if err := root.makeFolders(); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	signal.Ignore(unix.SIGPIPE) // stdout and stderr end with the parent
	if cfg.Lifeline != nil {
		signal.Ignore(unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
		go func() { // ends with the process at the latest
			_, _ = io.Copy(io.Discard, cfg.Lifeline)
			stop()
		}()
	}
	unix.Umask(0o077)
	backend, err := newGuard(root, cfg.Location)
	if err != nil {
		return err
	}
	if err := backend.recoverCrash(); err != nil {
		return err
	}
	err = embedgw.RunVersityGW(ctx, backend, &embedgw.Config{
		RootUserAccess:    keys.Access,
		RootUserSecret:    keys.Secret,
		IAMService:        auth.NewIAMServiceSingle(auth.Account{Access: keys.Access, Secret: keys.Secret, Role: auth.RoleAdmin}),
		Region:            region,
		Ports:             []string{root.socket()}, // a stale one is removed: we hold the lock
		SocketPerm:        "0600",
		MaxConnections:    1024,
		MaxRequests:       512,
		MultipartMaxParts: 10000,
		Quiet:             true,
		KeepAlive:         true,
		DisableACLs:       true,
		S3Options: []s3api.Option{
			s3api.WithRoute(fiber.MethodGet, healthPath, healthOf(ctx)),
			s3api.WithMiddleware("/", onlyS3),
		},
	})
	if err != nil {
		return fmt.Errorf("serve store %s: %w", root.path, err)
	}
	// What was acknowledged is durable already; this is for what was not.
	return backend.disk.commit()
}

// healthOf answers whoever wants to attach. A store that has begun to end serves
// what it has, and wants nobody new.
func healthOf(ctx context.Context) fiber.Handler {
	return func(c fiber.Ctx) error {
		if ctx.Err() != nil {
			return c.SendStatus(fiber.StatusServiceUnavailable)
		}
		return c.SendStatus(fiber.StatusOK)
	}
}

// onlyS3 closes versitygw's administration interface, which would share the
// socket: it speaks PATCH, S3 never does. Browsers' OPTIONS has no place either.
func onlyS3(c fiber.Ctx) error {
	switch c.Method() {
	case fiber.MethodGet, fiber.MethodHead, fiber.MethodPut, fiber.MethodPost, fiber.MethodDelete:
		return c.Next()
	}
	return c.SendStatus(fiber.StatusMethodNotAllowed)
}

func newGuard(root *rootDir, zone *time.Location) (*guard, error) {
	g := &guard{
		disk:     newDisk(root.dir),
		data:     root.join(dataName),
		versions: root.join(versionsName),
		zone:     zone,
	}
	g.attrs = attributes{disk: g.disk}
	opts := posix.PosixOpts{VersioningDir: g.versions, Concurrency: 256, ValidateBucketNames: true}
	opts.SetNewDirPerm(0o700)
	// Not 0400: the lock lives in extended attributes, and a daemon that is not
	// root may set those only on files that it may write.
	opts.SetNewFilePerm(0o600)
	stdout := os.Stdout
	os.Stdout = nil // versitygw announces itself there
	var err error
	g.posix, err = posix.New(g.data, g.attrs, opts) // changes the working directory
	os.Stdout = stdout
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", root.path, err)
	}
	return g, nil
}
