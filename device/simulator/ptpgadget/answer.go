package ptpgadget

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"slices"

	"github.com/bodyworn/ingestd/device/simulator/gadget"
)

// Codes of PIMA 15740:2000 and MTP 1.1.
const (
	getDeviceInfo      = 0x1001
	openSession        = 0x1002
	closeSession       = 0x1003
	getStorageIDs      = 0x1004
	getStorageInfo     = 0x1005
	getObjectHandles   = 0x1007
	getObjectInfo      = 0x1008
	getObject          = 0x1009
	getDevicePropDesc  = 0x1014
	getDevicePropValue = 0x1015
	setDevicePropValue = 0x1016
	getPartialObject   = 0x101b
	getPartialObject64 = 0x95c1
	getObjectPropValue = 0x9803

	ok                   uint16 = 0x2001
	sessionNotOpen       uint16 = 0x2003
	invalidTransaction   uint16 = 0x2004
	operationUnsupported uint16 = 0x2005
	invalidStorage       uint16 = 0x2008
	invalidHandle        uint16 = 0x2009
	propUnsupported      uint16 = 0x200a
	deviceBusy           uint16 = 0x2019
	invalidParent        uint16 = 0x201a
	invalidPropValue     uint16 = 0x201c
	invalidParameter     uint16 = 0x201d
	alreadyOpen          uint16 = 0x201e
	transactionCancelled uint16 = 0x201f
	objectPropUnknown    uint16 = 0xa801
)

var operations = []uint16{
	getDeviceInfo, openSession, closeSession, getStorageIDs, getStorageInfo, getObjectHandles, getObjectInfo, getObject,
	getDevicePropDesc, getDevicePropValue, setDevicePropValue, getPartialObject, getPartialObject64, getObjectPropValue,
}

// answer is the data phase and the response of an operation.
type answer struct {
	hasData bool
	data    io.Reader
	size    int64
	code    uint16
	params  []uint32
}

func refuse(code uint16, params ...uint32) answer { return answer{code: code, params: params} }

func tell(data []byte) answer {
	return answer{hasData: true, data: bytes.NewReader(data), size: int64(len(data)), code: ok}
}

// run does one operation, or what goes wrong in its place.
func (g *Gadget) run(command, data []byte) error {
	op, id := binary.LittleEndian.Uint16(command[6:]), binary.LittleEndian.Uint32(command[8:])
	var p [5]uint32
	for i := range p {
		if at := 12 + 4*i; at+4 <= len(command) {
			p[i] = binary.LittleEndian.Uint32(command[at:])
		}
	}
	g.counts.Commands[op]++
	for _, send := range g.late {
		send()
	}
	g.late = nil
	f := g.due(op)
	if f == nil {
		g.send(op, id, g.answer(op, id, p, data), nil)
		return nil
	}
	switch f.Do {
	case Stall:
		g.halted = true
		g.queue.Halt(In)
		return nil
	case StallOut:
		g.halted = true
		g.queue.Halt(In)
		return gadget.ErrStall
	case Hang:
		return nil
	case Late:
		a := g.answer(op, id, p, data)
		g.late = append(g.late, func() { g.send(op, id, a, nil) })
		return nil
	case Refuse:
		g.send(op, id, refuse(f.Response), nil)
		return nil
	}
	a := g.answer(op, id, p, data)
	if f.Do == Yank && !a.hasData {
		g.queue.Unplug()
		return nil
	}
	g.send(op, id, a, f)
	return nil
}

func container(kind, code uint16, id uint32, length int64) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(min(length, math.MaxUint32)))
	b = binary.LittleEndian.AppendUint16(b, kind)
	b = binary.LittleEndian.AppendUint16(b, code)
	return binary.LittleEndian.AppendUint32(b, id)
}

// send queues data phase and response; f is a fault of data phases or nil.
func (g *Gadget) send(op uint16, id uint32, a answer, f *fault) {
	if a.hasData {
		header := container(2, op, id, 12+a.size)
		size, body := a.size, io.Reader(counted{a.data, &g.data})
		if f != nil {
			part := min(f.Bytes, size)
			switch f.Do {
			case Yank:
				body = pulled{io.LimitReader(body, part), g.queue}
			case Stop:
				body = stopped{io.LimitReader(body, part), g.queue}
			case Short:
				size -= part
			case Long:
				body, size = io.MultiReader(body, bytes.NewReader(make([]byte, f.Bytes))), size+f.Bytes
			case Break:
				size, a.code = part, f.Response
			}
		}
		queue := g.queue.Send
		if g.cfg.NoEmptyPacket {
			queue = g.queue.SendCounted
		}
		if g.cfg.SplitHeader {
			g.queue.Send(In, bytes.NewReader(header), 12)
			if size > 0 {
				queue(In, body, size)
			}
		} else {
			queue(In, io.MultiReader(bytes.NewReader(header), body), 12+size)
		}
	}
	response := container(3, a.code, id, int64(12+4*len(a.params)))
	for _, p := range a.params {
		response = binary.LittleEndian.AppendUint32(response, p)
	}
	g.queue.Send(In, bytes.NewReader(response), int64(len(response)))
}

func (g *Gadget) answer(op uint16, id uint32, p [5]uint32, data []byte) answer {
	switch {
	case slices.Contains(g.cfg.Without, op) || !slices.Contains(operations, op):
		return refuse(operationUnsupported)
	case op == getDeviceInfo:
		return tell(g.deviceInfo())
	case op == openSession && g.session:
		return refuse(alreadyOpen, 1)
	case op == openSession:
		g.session, g.last = true, 0
		g.counts.Opens++
		return refuse(ok)
	case !g.session:
		return refuse(sessionNotOpen)
	case op == closeSession:
		g.session = false
		return refuse(ok)
	case id <= g.last: // each is larger than the one before (PIMA 15740 §9.3.1)
		return refuse(invalidTransaction)
	}
	g.last = id
	switch op {
	case getStorageIDs:
		var ids []uint32
		for _, s := range g.cfg.Stores {
			ids = append(ids, s.ID)
		}
		return tell(list32(ids))
	case getStorageInfo:
		return g.storageInfo(p[0])
	case getObjectHandles:
		if p[0] != 0xffffffff && g.storeOf(p[0]) == nil {
			return refuse(invalidStorage)
		}
		handles := g.handles(p[0], p[2])
		if handles == nil {
			return refuse(invalidParent)
		}
		return tell(list32(handles))
	case getDevicePropDesc:
		return g.propDesc(uint16(p[0]))
	case getDevicePropValue:
		return g.propValue(uint16(p[0]))
	case setDevicePropValue:
		return g.setProp(uint16(p[0]), data)
	}
	return g.ofObject(op, p)
}

func (g *Gadget) storeOf(id uint32) *Store {
	for i := range g.cfg.Stores {
		if g.cfg.Stores[i].ID == id && id&0xffff != 0 {
			return &g.cfg.Stores[i]
		}
	}
	return nil
}

// ofObject answers the operations whose first parameter is a handle.
func (g *Gadget) ofObject(op uint16, p [5]uint32) answer {
	o := g.objects[p[0]]
	if o == nil {
		return refuse(invalidHandle)
	}
	offset, most := int64(0), o.Size
	switch op {
	case getObjectInfo:
		return tell(g.objectInfo(o))
	case getObjectPropValue:
		switch p[1] {
		case 0xdc04:
			return tell(binary.LittleEndian.AppendUint64(nil, uint64(o.Size)))
		case 0xdc09:
			return tell(text(o.Modified))
		}
		return refuse(objectPropUnknown)
	case getPartialObject:
		offset, most = int64(p[1]), int64(p[2])
	case getPartialObject64:
		offset, most = int64(p[1])|int64(p[2])<<32, int64(p[3])
	}
	if o.Folder || offset < 0 || offset > o.Size {
		return refuse(invalidParameter)
	}
	size := min(most, o.Size-offset)
	a := answer{hasData: true, size: size, code: ok}
	if op != getObject {
		a.params = []uint32{uint32(size)}
		if g.cfg.WrongPart {
			offset++
		}
	}
	a.data = io.NewSectionReader(o.content(), offset, size)
	return a
}
