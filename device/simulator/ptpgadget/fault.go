package ptpgadget

import (
	"io"
	"sync/atomic"

	"github.com/bodyworn/ingestd/device/simulator/gadget"
)

// Fault is one thing that goes wrong.
type Fault struct {
	// Op is the operation that it befalls; 0 is any.
	Op uint16
	// After is how many of those go well before, and Times how many then do not: 0 is
	// one, -1 is all.
	After, Times int
	Do           Kind
	// Bytes says how much, at kinds of data phases.
	Bytes int64
	// Response is what Refuse answers.
	Response uint16
}

// Kind is a way in which an operation goes wrong.
type Kind int

// The kinds. Those of data phases leave operations without one alone.
const (
	Stall    Kind = iota // the IN endpoint is halted in the place of an answer
	StallOut             // the OUT endpoint is halted, and the IN endpoint
	Hang                 // no answer
	Late                 // the answer comes before that of the next operation
	Refuse               // with Response, instead of data
	Yank                 // pulled after Bytes of data; at operations without, at once
	Short                // the data end Bytes before their announced length
	Long                 // the data go on for Bytes more
	Stop                 // the data stop after Bytes, and nothing more comes
	Break                // the data end after Bytes, and the response is Response
)

type fault struct {
	Fault
	seen int
}

func (g *Gadget) setFaults(faults []Fault) {
	g.faults = nil
	for _, f := range faults {
		if f.Times == 0 {
			f.Times = 1
		}
		g.faults = append(g.faults, &fault{Fault: f})
	}
}

// due is the fault that befalls this operation.
func (g *Gadget) due(op uint16) *fault {
	for _, f := range g.faults {
		if f.Op != 0 && f.Op != op {
			continue
		}
		f.seen++
		if f.seen > f.After && (f.Times < 0 || f.seen <= f.After+f.Times) {
			return f
		}
	}
	return nil
}

// counted counts what is read.
type counted struct {
	io.Reader
	n *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// pulled pulls the cable when r is at its end.
type pulled struct {
	r io.Reader
	q gadget.Queue
}

func (p pulled) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if n == 0 && err != nil {
		p.q.Unplug()
		return 0, io.ErrUnexpectedEOF
	}
	return n, nil
}

// stopped gives nothing more, for ever, when r is at its end.
type stopped struct {
	r io.Reader
	q gadget.Queue
}

func (s stopped) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	if n == 0 && err != nil {
		<-s.q.Unplugged()
		return 0, io.ErrUnexpectedEOF
	}
	return n, nil
}
