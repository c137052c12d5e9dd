package ptp_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/ptp"
	"github.com/bodyworn/ingestd/device/simulator/gadget"
	"github.com/bodyworn/ingestd/device/simulator/ptpgadget"
	"github.com/bodyworn/ingestd/device/usb"
)

// answersOf records what a simulated recorder answers, as seeds.
func answersOf(f *testing.F, op uint16, params ...uint32) []byte {
	f.Helper()
	pipe := gadget.NewPipe(ptpgadget.New(ptpgadget.Recorder{
		Model: "RecSim 执法记录仪", Serial: "BWC0001", Battery: ptpgadget.Battery{Level: 61, Max: 100}, Stores: one(small()...), SessionOpen: true,
	}), 0)
	f.Cleanup(pipe.Unplug)
	command := binary.LittleEndian.AppendUint32(nil, uint32(12+4*len(params)))
	command = binary.LittleEndian.AppendUint16(command, ptp.ContainerCommand)
	command = binary.LittleEndian.AppendUint16(command, op)
	command = binary.LittleEndian.AppendUint32(command, 1)
	for _, p := range params {
		command = binary.LittleEndian.AppendUint32(command, p)
	}
	if err := pipe.Send(f.Context(), command, true); err != nil {
		f.Fatal(err)
	}
	answer := make([]byte, 4096)
	n, err := pipe.Receive(f.Context(), answer)
	if err != nil || n < 12 {
		f.Fatal(n, err)
	}
	return answer[12:n]
}

func FuzzDeviceInfo(f *testing.F) {
	f.Add(answersOf(f, ptp.OpGetDeviceInfo))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		info, err := ptp.ParseDeviceInfo(data)
		if err != nil && !errors.Is(err, ptp.ErrMalformed) {
			t.Error(err)
		}
		if 2*len(info.Operations) > len(data) {
			t.Errorf("%d operations from %d bytes", len(info.Operations), len(data))
		}
	})
}

func FuzzObjectInfo(f *testing.F) {
	f.Add(answersOf(f, ptp.OpGetObjectInfo, 1))
	f.Add(answersOf(f, ptp.OpGetObjectInfo, 2))
	f.Fuzz(func(t *testing.T, data []byte) {
		info, err := ptp.ParseObjectInfo(data)
		if err != nil && !errors.Is(err, ptp.ErrMalformed) {
			t.Error(err)
		}
		if strings.ContainsRune(info.Name, 0) {
			t.Errorf("a NUL in %q", info.Name)
		}
	})
}

func FuzzStorageInfo(f *testing.F) {
	f.Add(answersOf(f, ptp.OpGetStorageInfo, 0x00010001))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := ptp.ParseStorageInfo(data); err != nil && !errors.Is(err, ptp.ErrMalformed) {
			t.Error(err)
		}
	})
}

func FuzzProperty(f *testing.F) {
	f.Add(answersOf(f, ptp.OpGetDevicePropDesc, uint32(ptp.PropBatteryLevel)))
	f.Add(answersOf(f, ptp.OpGetDevicePropDesc, uint32(ptp.PropDateTime)))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ptp.ParseProperty(data)
		if err != nil && !errors.Is(err, ptp.ErrMalformed) {
			t.Error(err)
		}
		if len(p.Listed) > len(data) {
			t.Errorf("%d values from %d bytes", len(p.Listed), len(data))
		}
	})
}

func FuzzHandles(f *testing.F) {
	f.Add(answersOf(f, ptp.OpGetObjectHandles, 0xffffffff, 0, 0xffffffff))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		handles, err := ptp.ParseHandles(data)
		if err == nil && 4+4*len(handles) > len(data) {
			t.Errorf("%d handles from %d bytes", len(handles), len(data))
		}
	})
}

// What is read as a time can be written in the same form and is read as the same.
func FuzzTimeString(f *testing.F) {
	for _, s := range []string{
		"20261124T081402", "20261124T081402Z", "20261124T081402.1", "20261124T081402.123456789+0800", "20261124T081402-0330",
		"20261124T081402+2400", "20261124T081402+2460", "00000000T000000", "20260230T000000", "20261124T081402.", "20261124 081402", "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		at, err := ptp.ParseTime(s, beijing)
		if err != nil {
			if !errors.Is(err, ptp.ErrMalformed) {
				t.Error(err)
			}
			return
		}
		again, err := ptp.ParseTime(at.In(at.Time), beijing)
		if err != nil || !again.Time.Equal(at.Time) || again.Form != at.Form || again.Digits != at.Digits {
			t.Errorf("%q is %+v, written again %q, which is %+v, %v", s, at, at.In(at.Time), again, err)
		}
	})
}

func TestTimeStrings(t *testing.T) {
	for s, want := range map[string]time.Time{
		"20261124T081402":           time.Date(2026, 11, 24, 8, 14, 2, 0, beijing),
		"20261124T081402.7":         time.Date(2026, 11, 24, 8, 14, 2, 7e8, beijing),
		"20261124T081402Z":          time.Date(2026, 11, 24, 8, 14, 2, 0, time.UTC),
		"20261124T081402.25Z":       time.Date(2026, 11, 24, 8, 14, 2, 25e7, time.UTC),
		"20261124T081402+0800":      time.Date(2026, 11, 24, 8, 14, 2, 0, beijing),
		"20261124T081402.5-0330":    time.Date(2026, 11, 24, 11, 44, 2, 5e8, time.UTC),
		"20261124T081402z":          {},
		"20261124T081402+08":        {},
		"20261124T081402+08:00":     {},
		"20261124T081402.":          {},
		"20261124T081402\x20":       {},
		"20261124T081460":           {},
		"20261131T081402":           {},
		"2026-11-24T08:1":           {},
		"20261124t081402":           {},
		"":                          {},
		"20261124T08140":            {},
		"20261124T0814,2":           {},
		"20261124T081402.123456789": time.Date(2026, 11, 24, 8, 14, 2, 123456789, beijing),
	} {
		got, err := ptp.ParseTime(s, beijing)
		if !got.Time.Equal(want) || (err != nil) != want.IsZero() {
			t.Errorf("%q: %s, %v; want %s", s, got.Time, err, want)
		}
	}
}

// FuzzConversation lets a recorder answer whatever it likes: containers that are
// right, and such that are not. A driver must end, without a panic, and must not hand
// out more than was sent.
func FuzzConversation(f *testing.F) {
	ok := []byte{0, 0, 0}
	with := func(data []byte) []byte {
		return append([]byte{1, byte(len(data)), byte(len(data) >> 8)}, data...)
	}
	script := slices.Concat(ok, with(answersOf(f, ptp.OpGetDeviceInfo)))
	script = append(script, with(answersOf(f, ptp.OpGetStorageIDs))...)
	script = append(script, with(answersOf(f, ptp.OpGetObjectHandles, 0xffffffff, 0, 0xffffffff))...)
	script = append(script, with(answersOf(f, ptp.OpGetObjectInfo, 1))...)
	size := func(n uint64) []byte { return with(binary.LittleEndian.AppendUint64(nil, n)) }
	script = append(script, size(3<<20)...)
	script = append(script, with(answersOf(f, ptp.OpGetObjectInfo, 2))...)
	script = append(script, with(answersOf(f, ptp.OpGetObjectHandles, 0xffffffff, 0, 2))...)
	script = append(script, with(answersOf(f, ptp.OpGetObjectInfo, 3))...)
	script = append(script, size(600)...)
	script = append(script, with([]byte("a part"))...)
	script = append(script, with([]byte("a part and what follows it"))...)
	script = append(script, with(make([]byte, 600))...)
	script = append(script, with(answersOf(f, ptp.OpGetDevicePropDesc, uint32(ptp.PropBatteryLevel)))...)
	script = append(script, with(answersOf(f, ptp.OpGetStorageIDs))...)
	script = append(script, with(answersOf(f, ptp.OpGetStorageInfo, 0x00010001))...)
	script = append(script, with(answersOf(f, ptp.OpGetDevicePropValue, uint32(ptp.PropDateTime)))...)
	f.Add(script)
	for flaws := range byte(64) { // at each of the answers in turn
		bent := append([]byte(nil), script...)
		at := 0
		for range int(flaws) % 18 {
			at += 3 + int(binary.LittleEndian.Uint16(bent[at+1:]))
		}
		if at < len(bent) {
			bent[at] = flaws
		}
		f.Add(bent)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		pipe := &liar{script: data}
		r, err := ptp.Open(t.Context(), pipe, ptp.Config{Zone: beijing, Patience: 100 * time.Millisecond})
		if err != nil {
			return
		}
		defer r.Close()
		var files []device.Entry
		if err := r.Inventory(t.Context(), func(e device.Entry) error {
			if e.Path == "" || strings.HasPrefix(e.Path, "/") || strings.ContainsRune(e.Path, 0) || strings.Contains("/"+e.Path+"/", "/../") {
				t.Errorf("%q is no safe path", e.Path)
			}
			if e.Kind == device.KindFile && e.Err == nil {
				files = append(files, e)
			}
			return nil
		}); err != nil {
			return
		}
		for _, e := range files {
			in, err := r.Open(t.Context(), e, 0)
			if err != nil {
				continue
			}
			n, err := io.Copy(io.Discard, in)
			if n > int64(len(data)) {
				t.Errorf("%d bytes of a file from %d bytes of answers, %v", n, len(data), err)
			}
			_ = in.Close()
		}
		if _, err := r.Health(t.Context()); err != nil {
			return
		}
		_, _ = r.Clock(t.Context())
	})
}

// liar is a pipe whose answers come from a script: a byte of flaws, two of length, the
// data. It is gone when the script has ended.
type liar struct {
	script  []byte
	pending [][]byte
}

func (l *liar) Send(_ context.Context, command []byte, _ bool) error {
	if len(l.script) < 3 {
		return device.ErrRemoved
	}
	flaws, n := l.script[0], int(binary.LittleEndian.Uint16(l.script[1:]))
	data := l.script[3:min(3+n, len(l.script))]
	l.script = l.script[min(3+n, len(l.script)):]
	op, id := command[6:8], command[8:12]
	container := func(kind byte, length int, code, payload []byte) []byte {
		b := binary.LittleEndian.AppendUint32(nil, uint32(length))
		b = append(append(append(b, kind, 0), code...), id...)
		return append(b, payload...)
	}
	length := 12 + len(data)
	if flaws&2 != 0 {
		length++
	}
	if flaws&4 != 0 {
		length = -1 // 0xffffffff
	}
	if flaws&1 != 0 {
		l.pending = append(l.pending, container(2, length, op, data))
	}
	response := []byte{0x01, 0x20}
	if flaws&8 != 0 && len(data) > 1 && data[0] != 0x19 { // but not busy, which takes long
		response = data[:2]
	}
	if flaws&16 != 0 {
		l.pending = append(l.pending, data)
	}
	if flaws&32 != 0 {
		return usb.ErrStall
	}
	l.pending = append(l.pending, container(3, 12, response, nil))
	return nil
}

func (l *liar) Receive(_ context.Context, p []byte) (int, error) {
	if len(l.pending) == 0 {
		return 0, device.ErrRemoved
	}
	n := copy(p, l.pending[0])
	if n < len(l.pending[0]) {
		l.pending[0] = l.pending[0][n:]
	} else {
		l.pending = l.pending[1:]
	}
	return n, nil
}

func (l *liar) Control(_ context.Context, _, _ uint8, _ uint16, _ []byte) (int, error) {
	return 0, usb.ErrStall
}

func (l *liar) ClearHalt(bool) error { return nil }
func (l *liar) PacketSize() int      { return 512 }
func (l *liar) Close() error         { return nil }
