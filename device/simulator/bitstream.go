package simulator

import (
	"bytes"
	"math/bits"
)

// bitWriter writes the syntax elements of ISO/IEC 14496-10 §7.2 into an RBSP,
// the raw payload of a NAL unit before emulation prevention.
type bitWriter struct {
	buf  []byte
	free int // unused low bits in the last byte of buf
}

// u writes the low n bits of v, u(n).
func (w *bitWriter) u(n int, v uint32) {
	for n > 0 {
		if w.free == 0 {
			w.buf = append(w.buf, 0)
			w.free = 8
		}
		take := min(n, w.free)
		n -= take
		w.free -= take
		chunk := byte(v>>n) & (1<<take - 1)
		w.buf[len(w.buf)-1] |= chunk << w.free
	}
}

// ue writes v as an unsigned Exp-Golomb code, §9.1.
func (w *bitWriter) ue(v uint32) {
	length := bits.Len32(v + 1)
	w.u(length-1, 0)
	w.u(length, v+1)
}

// flag writes u(1).
func (w *bitWriter) flag(set bool) {
	if set {
		w.u(1, 1)
	} else {
		w.u(1, 0)
	}
}

// align writes zero bits up to a byte boundary, pcm_alignment_zero_bit.
func (w *bitWriter) align() { w.free = 0 }

// bytes appends whole bytes; the writer must be aligned.
func (w *bitWriter) bytes(p []byte) { w.buf = append(w.buf, p...) }

// trail closes the RBSP with rbsp_trailing_bits, §7.3.2.11.
func (w *bitWriter) trail() {
	w.u(1, 1)
	w.align()
}

// appendEscaped appends an RBSP as the payload of a NAL unit. Two zero bytes
// followed by a byte of 0 to 3 would read as a start code or worse, so an
// emulation_prevention_three_byte goes between them (§7.4.1).
func appendEscaped(dst, rbsp []byte) []byte {
	for {
		i := bytes.Index(rbsp, []byte{0, 0})
		if i < 0 || i+2 >= len(rbsp) {
			return append(dst, rbsp...)
		}
		dst = append(dst, rbsp[:i+2]...)
		rbsp = rbsp[i+2:]
		if rbsp[0] <= 3 {
			dst = append(dst, 3)
		}
	}
}
