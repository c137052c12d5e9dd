//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/scripts/e2e.d/wire"
)

// machine is the one running guest. Everything in it is lost with it.
type machine struct {
	dir    string // sockets, logs and images, on the host
	qmp    *qmp
	agent  net.Conn
	ended  chan struct{} // closed when QEMU has ended
	number int           // makes names unique

	writing sync.Mutex // of requests
	mu      sync.Mutex
	last    int64                       // guarded by mu; ID of the last request
	waiting map[int64]chan wire.Message // guarded by mu
	events  []wire.Event                // guarded by mu; all since the start
	changed chan struct{}               // guarded by mu; closed at each event, and made anew
}

// boot starts the machine and waits for its agent.
func boot(t *testing.T) *machine {
	t.Helper()
	kernel, initramfs := os.Getenv("BODYWORN_E2E_KERNEL"), os.Getenv("BODYWORN_E2E_INITRAMFS")
	if kernel == "" || initramfs == "" {
		t.Fatal("these tests are started by scripts/e2e.d/run, which makes their machine")
	}
	dir, err := os.MkdirTemp("", "e2e") // short: the path of a socket has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // of the size of the images; nothing else needs them
	m := &machine{dir: dir, ended: make(chan struct{}), waiting: map[int64]chan wire.Message{}, changed: make(chan struct{})}
	m.start(t, kernel, initramfs)
	monitor, err := m.dial("qmp")
	if err == nil {
		m.qmp, err = newQMP(monitor)
	}
	if err == nil {
		m.agent, err = m.dial("agent")
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, m.serial())
	}
	go m.listen()
	m.wait(t, 0, "the agent to be ready", func(e wire.Event) bool { return e.Kind == wire.Ready })
	return m
}

func (m *machine) start(t *testing.T, kernel, initramfs string) {
	// Emulated, never KVM: where /dev/kvm exists it need not work. The memory for
	// translated code comes on top of the machine's.
	cmd := exec.Command("qemu-system-x86_64",
		"-machine", "q35", "-accel", "tcg,thread=multi,tb-size=192", "-cpu", "max", "-m", "576",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-serial", "file:"+filepath.Join(m.dir, "serial"),
		"-qmp", "unix:"+filepath.Join(m.dir, "qmp")+",server=on,wait=off",
		"-device", "virtio-serial-pci",
		"-chardev", "socket,id=agent,path="+filepath.Join(m.dir, "agent")+",server=on,wait=off",
		"-device", "virtserialport,chardev=agent,name=agent",
		"-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net",
		"-device", "qemu-xhci,id=xhci,p2=15,p3=15", "-device", "qemu-xhci,id=more,p2=15,p3=15",
		"-kernel", kernel, "-initrd", initramfs,
		"-append", "console=ttyS0 panic=-1 mitigations=off loglevel=6 usb_storage.delay_use=0")
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		// The kernel sends the signal when the thread that started QEMU ends: this
		// one lives as long as QEMU.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // killed below, or told by ended
			close(m.ended)
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-m.ended
		if t.Failed() {
			t.Logf("QEMU said: %s", output.String())
		}
	})
}

func (m *machine) dial(name string) (net.Conn, error) {
	path := filepath.Join(m.dir, name)
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("unix", path)
		if err == nil {
			return conn, nil
		}
		select {
		case <-m.ended:
			return nil, fmt.Errorf("QEMU has ended at once: %w", err)
		default:
		}
		if time.Now().After(end) {
			return nil, err
		}
	}
}

// serial is what the kernel has written to its console.
func (m *machine) serial() string {
	data, err := os.ReadFile(filepath.Join(m.dir, "serial"))
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// listen takes what the agent sends, until QEMU ends.
func (m *machine) listen() {
	messages := json.NewDecoder(m.agent)
	for {
		var message wire.Message
		err := messages.Decode(&message)
		m.mu.Lock()
		switch {
		case err != nil:
			for _, w := range m.waiting {
				w <- wire.Message{Err: "the machine has ended: " + err.Error()}
			}
			m.waiting = nil
			m.mu.Unlock()
			return
		case message.Event != nil:
			m.events = append(m.events, *message.Event)
			close(m.changed)
			m.changed = make(chan struct{})
		default:
			if w := m.waiting[message.ID]; w != nil {
				delete(m.waiting, message.ID)
				w <- message
			}
		}
		m.mu.Unlock()
	}
}

// ask sends a request and decodes what is answered into value, if not nil.
func (m *machine) ask(op string, args, value any) error {
	raw, err := json.Marshal(args)
	if err != nil {
		return err
	}
	answer := make(chan wire.Message, 1)
	m.mu.Lock()
	if m.waiting == nil {
		m.mu.Unlock()
		return errors.New("the machine has ended")
	}
	m.last++
	request := wire.Request{ID: m.last, Op: op, Args: raw}
	m.waiting[request.ID] = answer
	m.mu.Unlock()
	line, err := json.Marshal(request)
	if err != nil {
		return err
	}
	m.writing.Lock()
	_, err = m.agent.Write(append(line, '\n'))
	m.writing.Unlock()
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	select {
	case message := <-answer:
		if message.Err != "" {
			return errors.New(message.Err)
		}
		if value == nil {
			return nil
		}
		return json.Unmarshal(message.Value, value)
	case <-time.After(patience):
		return fmt.Errorf("%s: no answer from the machine", op)
	}
}

func (m *machine) must(t testing.TB, op string, args, value any) {
	t.Helper()
	if err := m.ask(op, args, value); err != nil {
		t.Fatal(err)
	}
}

// run runs a program in the machine, which must succeed.
func (m *machine) run(t testing.TB, args ...string) string {
	t.Helper()
	var ran wire.Ran
	m.must(t, "exec", wire.Exec{Args: args, Within: patience}, &ran)
	if ran.Code != 0 {
		t.Fatalf("%q in the machine: exit status %d: %s", args, ran.Code, ran.Out)
	}
	return strings.TrimSpace(string(ran.Out))
}

// now is the number of events so far: where to begin to look for later ones.
func (m *machine) now() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.events)
}

// since are the events from a number on, and a channel that is closed at the next.
func (m *machine) since(from int) ([]wire.Event, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.events[from:], m.changed
}

// wait gives the first event from a number on that is as wished.
func (m *machine) wait(t testing.TB, from int, what string, wished func(wire.Event) bool) wire.Event {
	t.Helper()
	timeout := time.After(patience)
	for {
		events, changed := m.since(from)
		for _, e := range events {
			if wished(e) {
				return e
			}
		}
		from += len(events)
		select {
		case <-changed:
		case <-m.ended:
			t.Fatalf("the machine ended while waiting for %s\n%s", what, m.serial())
		case <-timeout:
			t.Fatalf("waited %s for %s", patience, what)
		}
	}
}

// poll waits until a condition holds that has no event of its own.
func (m *machine) poll(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %s for %s", patience, what)
		}
	}
}

// unique makes a name that was not used before in this machine.
func (m *machine) unique(name string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.number++
	return fmt.Sprintf("%s%d", name, m.number)
}
