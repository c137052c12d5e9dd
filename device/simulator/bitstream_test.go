package simulator

import (
	"bytes"
	"testing"
)

func TestEmulationPrevention(t *testing.T) {
	for _, c := range []struct{ rbsp, want []byte }{
		{[]byte{}, []byte{}},
		{[]byte{0, 0, 0}, []byte{0, 0, 3, 0}},
		{[]byte{0, 0, 1}, []byte{0, 0, 3, 1}},
		{[]byte{0, 0, 2}, []byte{0, 0, 3, 2}},
		{[]byte{0, 0, 3}, []byte{0, 0, 3, 3}},
		{[]byte{0, 0, 4}, []byte{0, 0, 4}},
		{[]byte{0, 0, 0, 0, 0, 1}, []byte{0, 0, 3, 0, 0, 3, 0, 1}},
		{[]byte{7, 0, 0, 4, 0, 1, 0, 0, 1, 9}, []byte{7, 0, 0, 4, 0, 1, 0, 0, 3, 1, 9}},
	} {
		if got := appendEscaped(nil, c.rbsp); !bytes.Equal(got, c.want) {
			t.Errorf("escape % x = % x, want % x", c.rbsp, got, c.want)
		}
	}
}

// The codes are those of ISO/IEC 14496-10 table 9-2.
func TestExpGolomb(t *testing.T) {
	var w bitWriter
	for v := range uint32(9) {
		w.ue(v) // 1 010 011 00100 00101 00110 00111 0001000 0001001
	}
	w.trail()
	want := []byte{0b10100110, 0b01000010, 0b10011000, 0b11100010, 0b00000100, 0b11000000}
	if !bytes.Equal(w.buf, want) {
		t.Errorf("ue(0..8) = %08b, want %08b", w.buf, want)
	}
}
