package usbip

import (
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"syscall"

	"github.com/bodyworn/ingestd/device/simulator/gadget"
)

// Commands of the protocol once a device is attached.
const (
	commandSubmit    = 1
	commandUnlink    = 2
	commandSubmitted = 3
	commandUnlinked  = 4
)

const (
	headerSize     = 48
	directionIn    = 1
	notIsochronous = math.MaxUint32 // number_of_packets of anything but isochronous transfers
	// Flags of a submitted transfer (linux/usbip.h).
	flagShortNotOK = 0x0001
	flagZeroPacket = 0x0040
)

// request is CMD_SUBMIT or CMD_UNLINK.
type request struct {
	command, sequence uint32
	in                bool
	endpoint          uint8
	flags, length     uint32 // of CMD_SUBMIT
	setup             gadget.Setup
	unlink            uint32 // of CMD_UNLINK: the sequence number of what is not wanted any more
}

// parse reads a header. The error says what in it can't be.
func parse(h *[headerSize]byte) (request, error) {
	be, le := binary.BigEndian, binary.LittleEndian
	r := request{command: be.Uint32(h[0:]), sequence: be.Uint32(h[4:])}
	switch r.command {
	case commandUnlink:
		r.unlink = be.Uint32(h[20:])
		return r, nil
	case commandSubmit:
	default:
		return r, fmt.Errorf("command %#x of the kernel is none that this protocol has", r.command)
	}
	direction, endpoint := be.Uint32(h[12:]), be.Uint32(h[16:])
	if direction > directionIn || endpoint > 15 {
		return r, fmt.Errorf("transfer %d: direction %d of endpoint %d does not exist", r.sequence, direction, endpoint)
	}
	r.in, r.endpoint = direction == directionIn, uint8(endpoint)
	r.flags, r.length = be.Uint32(h[20:]), be.Uint32(h[24:])
	// Kernels say 0 or -1 for what is not isochronous.
	if packets := be.Uint32(h[32:]); packets != 0 && packets != notIsochronous {
		return r, fmt.Errorf("transfer %d is isochronous, which no gadget is", r.sequence)
	}
	if r.length > maxTransfer {
		return r, fmt.Errorf("transfer %d has %d bytes; %d is the most that is taken", r.sequence, r.length, maxTransfer)
	}
	// The setup packet goes over in USB's own byte order.
	r.setup = gadget.Setup{
		RequestType: h[40], Request: h[41],
		Value: le.Uint16(h[42:]), Index: le.Uint16(h[44:]), Length: le.Uint16(h[46:]),
	}
	return r, nil
}

// writeReturn writes RET_SUBMIT with the bytes of an IN transfer. actual counts the
// bytes that were transferred, either way. The payload is not copied.
func writeReturn(conn net.Conn, sequence uint32, status int32, actual int, in []byte) error {
	var h [headerSize]byte
	be := binary.BigEndian
	be.PutUint32(h[0:], commandSubmitted)
	be.PutUint32(h[4:], sequence)
	be.PutUint32(h[20:], uint32(status))
	be.PutUint32(h[24:], uint32(actual))
	be.PutUint32(h[32:], notIsochronous)
	parts := net.Buffers{h[:]}
	if len(in) > 0 {
		parts = append(parts, in)
	}
	_, err := parts.WriteTo(conn)
	return err
}

// writeUnlinked writes RET_UNLINK: unlinked says that the transfer was still waiting
// and gets no RET_SUBMIT; else it had its answer already.
func writeUnlinked(conn net.Conn, sequence uint32, unlinked bool) error {
	var h [headerSize]byte
	binary.BigEndian.PutUint32(h[0:], commandUnlinked)
	binary.BigEndian.PutUint32(h[4:], sequence)
	if unlinked {
		binary.BigEndian.PutUint32(h[20:], uint32(errno(syscall.ECONNRESET)))
	}
	_, err := conn.Write(h[:])
	return err
}

// errno is how the kernel writes an error: negative.
func errno(e syscall.Errno) int32 { return -int32(e) }
