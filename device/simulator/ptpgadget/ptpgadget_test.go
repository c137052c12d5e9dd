package ptpgadget_test

import (
	"bytes"
	"encoding/binary"
	"testing"
	"testing/fstest"
	"time"

	"github.com/bodyworn/ingestd/device/simulator/gadget"
	"github.com/bodyworn/ingestd/device/simulator/ptpgadget"
)

func TestAPatternIsTheSameFromAnyOffset(t *testing.T) {
	whole := make([]byte, 20_000)
	if _, err := ptpgadget.Pattern(7).ReadAt(whole, 0); err != nil {
		t.Fatal(err)
	}
	for _, offset := range []int64{0, 1, 7, 8, 4095, 4096, 4097, 12_345} {
		part := make([]byte, 5000)
		if _, err := ptpgadget.Pattern(7).ReadAt(part, offset); err != nil || !bytes.Equal(part, whole[offset:offset+5000]) {
			t.Errorf("from %d on it differs, %v", offset, err)
		}
	}
	other := make([]byte, 4096)
	for _, seed := range []uint64{0, 6, 8} {
		if _, err := ptpgadget.Pattern(seed).ReadAt(other, 0); err != nil || bytes.Equal(other, whole[:4096]) {
			t.Errorf("seed %d gives what seed 7 gives, %v", seed, err)
		}
	}
	if bytes.Equal(whole[:4096], whole[4096:8192]) {
		t.Error("two blocks are the same")
	}
}

func TestObjectsFromAFileSystem(t *testing.T) {
	at := time.Date(2026, 11, 24, 0, 14, 2, 0, time.UTC)
	fsys := fstest.MapFS{
		"DCIM/100MEDIA/A.MP4": {Data: []byte("footage"), ModTime: at},
		"Param.ini":           {Data: []byte("[ZFY]"), ModTime: at},
	}
	objects, err := ptpgadget.FromFS(fsys, time.FixedZone("", 8*3600))
	if err != nil {
		t.Fatal(err)
	}
	if len(objects) != 2 || objects[0].Name != "DCIM" || !objects[0].Folder || objects[1].Name != "Param.ini" {
		t.Fatalf("%d objects in the root", len(objects))
	}
	file := objects[0].Objects[0].Objects[0]
	if file.Name != "A.MP4" || file.Size != 7 || file.Modified != "20261124T081402" {
		t.Errorf("the file is %+v", file)
	}
	got := make([]byte, 4)
	if _, err := file.Content.ReadAt(got, 3); err != nil || string(got) != "tage" {
		t.Errorf("from byte 3 on it has %q, %v", got, err)
	}
}

// ask sends a command and gives the code of the response.
func ask(t *testing.T, pipe *gadget.Pipe, op uint16, id uint32) uint16 {
	t.Helper()
	command := binary.LittleEndian.AppendUint32(nil, 12)
	command = binary.LittleEndian.AppendUint16(command, 1)
	command = binary.LittleEndian.AppendUint16(command, op)
	command = binary.LittleEndian.AppendUint32(command, id)
	if err := pipe.Send(t.Context(), command, true); err != nil {
		t.Fatal(err)
	}
	for {
		b := make([]byte, 4096)
		n, err := pipe.Receive(t.Context(), b)
		if err != nil || n < 12 {
			t.Fatal(n, err)
		}
		if binary.LittleEndian.Uint16(b[4:]) == 3 {
			return binary.LittleEndian.Uint16(b[6:])
		}
	}
}

func TestTheRulesOfASessionAreKept(t *testing.T) {
	g := ptpgadget.New(ptpgadget.Recorder{Without: []uint16{0x1007}})
	pipe := gadget.NewPipe(g, 0)
	t.Cleanup(pipe.Unplug)
	for _, step := range []struct {
		op   uint16
		id   uint32
		want uint16
		why  string
	}{
		{0x1001, 0, 0x2001, "DeviceInfo needs no session"},
		{0x1004, 1, 0x2003, "all else does"},
		{0x1002, 0, 0x2001, "opened"},
		{0x1002, 1, 0x201e, "opened twice"},
		{0x1004, 1, 0x2001, "in the session"},
		{0x1004, 1, 0x2004, "an id that was there"},
		{0x1007, 2, 0x2005, "an operation that was left out"},
		{0x1234, 3, 0x2005, "one that does not exist"},
		{0x1003, 4, 0x2001, "closed"},
		{0x1004, 5, 0x2003, "and no session any more"},
	} {
		if got := ask(t, pipe, step.op, step.id); got != step.want {
			t.Errorf("%s: %#04x, want %#04x", step.why, got, step.want)
		}
	}
	if c := g.Counts(); c.Opens != 1 || c.Commands[0x1004] != 4 {
		t.Errorf("counted %+v", c)
	}
}

func TestWhatIsNoContainerStalls(t *testing.T) {
	pipe := gadget.NewPipe(ptpgadget.New(ptpgadget.Recorder{}), 0)
	t.Cleanup(pipe.Unplug)
	if err := pipe.Send(t.Context(), bytes.Repeat([]byte{0xff}, 64), true); err == nil {
		t.Error("it was taken")
	}
	if err := pipe.ClearHalt(false); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, pipe, 0x1001, 0); got != 0x2001 {
		t.Errorf("afterwards DeviceInfo gives %#04x", got)
	}
}
