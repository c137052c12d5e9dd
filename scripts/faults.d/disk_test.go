//go:build faults

package faults

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/bodyworn/ingestd/storage/storetest"
)

// disk is a file system of its own, ext4 on a file, that can fail as after an
// error of the disk: from one moment to the next it is read-only, and what was not
// synced is lost.
type disk struct {
	p     *place
	image string
	point string
}

// newDisk makes one and moves a folder of the place onto it; nil where this
// machine can't.
func (p *place) newDisk(folder, size string) *disk {
	p.t.Helper()
	d := &disk{p, p.path(folder + ".img"), p.path(folder)}
	err := exec.Command("truncate", "-s", size, d.image).Run()
	if err == nil {
		err = errors.Join(exec.Command("mkfs.ext4", "-q", "-F", "-I", "512", d.image).Run(), os.MkdirAll(d.point, 0o700))
	}
	if err == nil {
		err = d.mount()
	}
	if err != nil {
		p.k.note("SKIPPED: %s: no ext4 can be mounted here: %v", p.name, err)
		return nil
	}
	p.t.Cleanup(func() { _ = syscall.Unmount(d.point, syscall.MNT_DETACH) }) // it may be gone
	if err := os.Remove(d.point + "/lost+found"); err != nil {
		p.t.Fatal(err)
	}
	return d
}

func (d *disk) mount() error { return exec.Command("mount", "-o", "loop", d.image, d.point).Run() }

// fail ends all writing, as the kernel does after an error.
func (d *disk) fail() error { return exec.Command("mount", "-o", "remount,abort", d.point).Run() }

// repair mounts the disk again, as after a restart of the machine.
func (d *disk) repair() error {
	var err error
	for range 500 { // who has it open may just be ending
		if err = syscall.Unmount(d.point, 0); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		return err
	}
	// 1: errors were found and corrected, as they must be after an abort.
	var exit *exec.ExitError
	if err := exec.Command("e2fsck", "-f", "-y", d.image).Run(); err != nil && (!errors.As(err, &exit) || exit.ExitCode() > 1) {
		return err
	}
	return d.mount()
}

// diskFails has the disk of the journal, or of the embedded store, fail in the
// middle of the work.
func diskFails(folder string) func(*place, *storetest.Server) {
	return func(p *place, s *storetest.Server) {
		if folder == "store" {
			p.embedded()
		} else {
			p.onMinIO(s)
		}
		d := p.newDisk(folder, map[string]string{"store": "200M", "state": "24M"}[folder])
		if d == nil {
			return
		}
		p.prepare()
		// What the case itself has put there must not be what is lost.
		if out, err := exec.Command("sync", "-f", d.point).CombinedOutput(); err != nil {
			p.t.Fatalf("sync %s: %v\n%s", d.point, err, out)
		}
		p.card(cardDir)
		pr := p.start(nil, "ingest", "-o", "json", p.path(cardDir))
		pr.until(func() bool { return folder == "state" || p.storePID() != 0 })
		time.Sleep(time.Duration(p.random.IntN(300)) * time.Millisecond)
		if err := d.fail(); err != nil {
			p.t.Fatalf("make the disk fail: %v", err)
		}
		p.k.count(counts{faults: 1})
		// A store that can't write is waited for; nobody does that here.
		pr.until(func() bool { return pr.saw("storage.unavailable") })
		pr.signal(syscall.SIGTERM)
		if r := pr.wait(); r.signal != 0 {
			p.violate("a failed disk ended it by signal %d", r.signal)
		}
		if err := p.awaitNoStore(); err != nil {
			p.violate("%v", err)
		}
		if err := d.repair(); err != nil {
			p.t.Fatalf("mount the failed disk again: %v", err)
		}
		p.judge(false)
		p.resume(false)
		p.judge(true)
	}
}
