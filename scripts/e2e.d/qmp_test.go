//go:build e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"
)

// patience bounds every wait. It is for a machine that hangs, never for one that
// is slow: nothing here takes a tenth of it.
const patience = 3 * time.Minute

// qmp is the monitor of QEMU (docs/interop/qmp-spec): it plugs and pulls.
type qmp struct {
	conn net.Conn

	calls   sync.Mutex // one command at a time
	answers chan answer
	mu      sync.Mutex
	deleted map[string]chan struct{} // guarded by mu; closed when the device is gone
}

type answer struct {
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	Event string `json:"event"`
	Data  struct {
		Device string `json:"device"`
	} `json:"data"`
}

func newQMP(conn net.Conn) (*qmp, error) {
	q := &qmp{conn: conn, answers: make(chan answer), deleted: map[string]chan struct{}{}}
	lines := bufio.NewReader(conn)
	if _, err := lines.ReadBytes('\n'); err != nil { // its greeting
		return nil, fmt.Errorf("greeting of QEMU's monitor: %w", err)
	}
	go func() { // ends with QEMU
		defer close(q.answers)
		for {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				return
			}
			var a answer
			if json.Unmarshal(line, &a) != nil {
				continue
			}
			if a.Event == "" {
				q.answers <- a
			} else if a.Event == "DEVICE_DELETED" && a.Data.Device != "" {
				close(q.gone(a.Data.Device))
			}
		}
	}()
	_, err := q.call("qmp_capabilities", nil)
	return q, err
}

// gone is the channel that is closed when the device has left. Names of devices
// are never used twice.
func (q *qmp) gone(device string) chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.deleted[device] == nil {
		q.deleted[device] = make(chan struct{})
	}
	return q.deleted[device]
}

type object = map[string]any

func (q *qmp) call(command string, arguments object) (json.RawMessage, error) {
	q.calls.Lock()
	defer q.calls.Unlock()
	request := object{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	line, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	if _, err := q.conn.Write(append(line, '\n')); err != nil {
		return nil, fmt.Errorf("%s: %w", command, err)
	}
	select {
	case a, ok := <-q.answers:
		if !ok {
			return nil, fmt.Errorf("%s: QEMU has ended", command)
		}
		if a.Error != nil {
			return nil, fmt.Errorf("%s: %s", command, a.Error.Desc)
		}
		return a.Return, nil
	case <-time.After(patience):
		return nil, fmt.Errorf("%s: no answer of QEMU", command)
	}
}

func (q *qmp) must(t testing.TB, command string, arguments object) {
	t.Helper()
	if _, err := q.call(command, arguments); err != nil {
		t.Fatal(err)
	}
}
