//go:build e2e

package e2e

import (
	"fmt"
	"testing"
	"time"
)

// stick is a recorder that shows itself as a USB disk.
type stick struct {
	Image      string  // on the host
	Serial     string  // iSerial
	Port       int     // of the controller, from 1
	Controller string  // xhci or more; empty: xhci
	BytesASec  int64   // slows it down, so that there is time to pull it; 0: not
	BadSectors []int64 // reading them fails, the disk stays
}

// plugged is one in its port.
type plugged struct {
	m            *machine
	device, node string
	throttle     string
	out          bool
}

// plug puts it in. It is writable for the machine: that nothing is written to it
// is for the daemon to keep and for the test to see.
func (m *machine) plug(t testing.TB, s stick) *plugged {
	t.Helper()
	p := &plugged{m: m, device: m.unique("stick"), node: m.unique("image")}
	var file any = object{"driver": "file", "filename": s.Image, "locking": "off"}
	if len(s.BadSectors) > 0 {
		var rules []object
		for _, sector := range s.BadSectors {
			rules = append(rules, object{"event": "none", "iotype": "read", "errno": 5, "sector": sector, "once": false, "immediately": false})
		}
		file = object{"driver": "blkdebug", "image": file, "inject-error": rules}
	}
	node := object{"driver": "raw", "node-name": p.node, "file": file}
	if s.BytesASec > 0 {
		p.throttle = m.unique("throttle")
		m.qmp.must(t, "object-add", object{"qom-type": "throttle-group", "id": p.throttle, "limits": object{"bps-total": s.BytesASec}})
		node = object{"driver": "throttle", "node-name": p.node, "throttle-group": p.throttle, "file": object{"driver": "raw", "file": file}}
	}
	m.qmp.must(t, "blockdev-add", node)
	controller := s.Controller
	if controller == "" {
		controller = "xhci"
	}
	m.qmp.must(t, "device_add", object{
		"driver": "usb-storage", "id": p.device, "drive": p.node, "serial": s.Serial, "removable": true,
		"bus": controller + ".0", "port": fmt.Sprint(s.Port),
	})
	t.Cleanup(func() { p.unplug(t) })
	return p
}

// unplug pulls it out, whatever is being done with it, and waits until QEMU has
// let go of its image. Once out it does nothing.
func (p *plugged) unplug(t testing.TB) {
	t.Helper()
	if p.out {
		return
	}
	p.out = true
	p.m.remove(t, p.device)
	// The node is in use until QEMU has finished what it was reading.
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if _, err = p.m.qmp.call("blockdev-del", object{"node-name": p.node}); err == nil {
			break
		}
	}
	if err != nil {
		t.Errorf("pulling %s: %v", p.device, err)
		return
	}
	if p.throttle != "" {
		if _, err := p.m.qmp.call("object-del", object{"id": p.throttle}); err != nil {
			t.Error(err)
		}
	}
}

// remove takes a device off the bus.
func (m *machine) remove(t testing.TB, device string) {
	t.Helper()
	if _, err := m.qmp.call("device_del", object{"id": device}); err != nil {
		t.Errorf("pulling %s: %v", device, err)
		return
	}
	select {
	case <-m.qmp.gone(device):
	case <-m.ended:
		t.Error("QEMU has ended")
	case <-time.After(patience):
		t.Errorf("pulling %s: QEMU does not let go of it", device)
	}
}
