package usbip_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/bodyworn/ingestd/device/simulator/gadget"
)

func TestUnlink(t *testing.T) {
	f := echo()
	_, k := attached(t, f)
	first, second, third := k.submitIn(512), k.submitIn(512), k.submitIn(512)
	k.want(4, k.unlink(second), econnreset, 0)
	k.want(4, k.unlink(first), econnreset, 0)
	f.Queue().Send(bulkIn, strings.NewReader("for the third"), 13)
	k.want(3, third, 0, 13)
	for _, answered := range []uint32{first, third, 4711} {
		k.want(4, k.unlink(answered), 0, 0)
	}
}

// What was transferred of a read that is taken back goes over, and the next read goes
// on behind it: no byte is lost, and none comes twice.
func TestUnlinkHalfWay(t *testing.T) {
	f := &function{}
	_, k := attached(t, f)
	const part = 64 << 10 // what is read at once
	all := pattern(2 * part)
	r, w := io.Pipe()
	f.Queue().Send(bulkIn, r, int64(len(all)))
	read := k.submitIn(len(all))
	if _, err := w.Write(all[:part]); err != nil {
		t.Fatal(err)
	}
	// The second part is being read now, so the first is in the transfer.
	if _, err := w.Write(all[part : part+1]); err != nil {
		t.Fatal(err)
	}
	unlink := k.unlink(read)
	got := k.want(3, read, econnreset, part).data
	k.want(4, unlink, 0, 0)
	read = k.submitIn(part)
	if _, err := w.Write(all[part+1:]); err != nil {
		t.Fatal(err)
	}
	got = append(got, k.want(3, read, 0, part).data...)
	if !bytes.Equal(got, all) {
		t.Error("other bytes")
	}
	k.want(3, k.submitIn(512), 0, 0) // the packet that ends it
}

func TestUnlinkOfWhatTheFunctionIsBusyWith(t *testing.T) {
	hang := make(chan struct{})
	f := &function{onOut: func(gadget.Queue, []byte) error { <-hang; return nil }}
	_, k := attached(t, f)
	busy, waiting := k.submitOut([]byte{1}), k.submitOut([]byte{2})
	k.want(4, k.unlink(waiting), econnreset, 0)
	k.want(4, k.unlink(busy), econnreset, 0)
	close(hang)
	k.want(3, k.submitOut([]byte{3}), 0, 1) // and no answer to the others
}

// A read that came out short where the kernel wanted it full is not followed by one
// that was queued behind it, which would swallow the next message.
func TestShortNotOK(t *testing.T) {
	const shortNotOK = 1
	f := &function{}
	_, k := attached(t, f)
	first := k.submit(1, true, 1024, shortNotOK, [8]byte{}, nil)
	second := k.submit(1, true, 1024, shortNotOK, [8]byte{}, nil)
	f.Queue().Send(bulkIn, strings.NewReader("data"), 4)
	f.Queue().Send(bulkIn, strings.NewReader("status"), 6)
	k.want(3, first, 0, 4)
	k.want(4, k.unlink(second), econnreset, 0)
	if r := k.want(3, k.submitIn(512), 0, 6); string(r.data) != "status" {
		t.Errorf("%q", r.data)
	}
	// Those that are not taken back go on when the kernel submits more.
	first = k.submit(1, true, 1024, shortNotOK, [8]byte{}, nil)
	second = k.submitIn(1024)
	f.Queue().Send(bulkIn, strings.NewReader("a"), 1)
	f.Queue().Send(bulkIn, strings.NewReader("bc"), 2)
	k.want(3, first, 0, 1)
	third := k.submitIn(1024)
	k.want(3, second, 0, 2)
	f.Queue().Send(bulkIn, strings.NewReader("def"), 3)
	k.want(3, third, 0, 3)
}
