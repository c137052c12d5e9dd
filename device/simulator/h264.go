package simulator

import "encoding/binary"

// NAL unit headers, ISO/IEC 14496-10 §7.3.1: nal_ref_idc 3 and the type of
// table 7-1. Every picture is a reference for the next.
const (
	nalPredicted = 0x61
	nalIDR       = 0x65
	nalSPS       = 0x67
	nalPPS       = 0x68
)

// Macroblock types as coded by ue(v): I_PCM is 25 in I slices (table 7-11) and
// comes after the five inter types in P slices (table 7-13).
const (
	mbIPCM    = 25
	mbIPCMInP = 5 + mbIPCM
)

const (
	sliceTypeAllP = 5 // table 7-6
	sliceTypeAllI = 7
	frameNumBits  = 8
	macroblockMax = macroblockBytes + 8 // with skip run, type and alignment
)

// sps is the sequence parameter set of §7.3.2.1.1 for constrained baseline.
// Level 5.0 is far above what 640×360 needs: the all-I_PCM pictures of a clip
// with a large ClipBytes reach 71 Mbit/s, and lower levels forbid it.
func sps() []byte {
	var w bitWriter
	w.u(8, 66)   // profile_idc: baseline
	w.u(8, 0xC0) // constraint_set0_flag, constraint_set1_flag
	w.u(8, 50)   // level_idc
	w.ue(0)      // seq_parameter_set_id
	w.ue(frameNumBits - 4)
	w.ue(2)       // pic_order_cnt_type: output order is decoding order
	w.ue(1)       // max_num_ref_frames
	w.flag(false) // gaps_in_frame_num_value_allowed_flag
	w.ue(macroblocksWide - 1)
	w.ue(macroblocksHigh - 1)
	w.flag(true) // frame_mbs_only_flag
	w.flag(true) // direct_8x8_inference_flag
	w.flag(true) // frame_cropping_flag, offsets in units of two samples
	w.ue(0)
	w.ue((macroblocksWide*16 - pictureWidth) / 2)
	w.ue(0)
	w.ue((macroblocksHigh*16 - pictureHeight) / 2)
	w.flag(false) // vui_parameters_present_flag
	w.trail()
	return appendEscaped([]byte{nalSPS}, w.buf)
}

// pps is the picture parameter set of §7.3.2.2.
func pps() []byte {
	var w bitWriter
	w.ue(0)       // pic_parameter_set_id
	w.ue(0)       // seq_parameter_set_id
	w.flag(false) // entropy_coding_mode_flag: CAVLC
	w.flag(false) // bottom_field_pic_order_in_frame_present_flag
	w.ue(0)       // num_slice_groups_minus1
	w.ue(0)       // num_ref_idx_l0_default_active_minus1
	w.ue(0)       // num_ref_idx_l1_default_active_minus1
	w.flag(false) // weighted_pred_flag
	w.u(2, 0)     // weighted_bipred_idc
	w.ue(0)       // pic_init_qp_minus26
	w.ue(0)       // pic_init_qs_minus26
	w.ue(0)       // chroma_qp_index_offset
	w.flag(true)  // deblocking_filter_control_present_flag
	w.flag(false) // constrained_intra_pred_flag
	w.flag(false) // redundant_pic_cnt_present_flag
	w.trail()
	return appendEscaped([]byte{nalPPS}, w.buf)
}

// encoder turns pictures into H.264 access units of one slice each. It knows
// two macroblock types: I_PCM, whose samples stand uncompressed in the stream,
// and P_Skip, which repeats the last picture. That is all a still scene with a
// running clock needs, it decodes exactly, and its speed is that of a copy.
type encoder struct {
	frameNum uint32
	idrID    uint32
	rbsp     bitWriter
	nal      []byte
}

// idr codes a whole picture on its own. The result is valid until the next
// call.
func (e *encoder) idr(p *picture) []byte {
	w := e.begin(0)
	e.sliceHeader(w, true)
	for i := range p {
		w.ue(mbIPCM)
		w.align()
		w.bytes(p[i][:])
	}
	return e.finish(nalIDR)
}

// predicted codes a picture as the last one with the macroblocks in changed,
// in ascending order, replaced. The result is valid until the next call.
func (e *encoder) predicted(p *picture, changed []int) []byte {
	w := e.begin((e.frameNum + 1) % (1 << frameNumBits))
	e.sliceHeader(w, false)
	next := 0
	for _, i := range changed {
		w.ue(uint32(i - next)) // mb_skip_run
		w.ue(mbIPCMInP)
		w.align()
		w.bytes(p[i][:])
		next = i + 1
	}
	if next < macroblocks {
		w.ue(uint32(macroblocks - next))
	}
	return e.finish(nalPredicted)
}

func (e *encoder) begin(frameNum uint32) *bitWriter {
	e.frameNum = frameNum
	e.rbsp = bitWriter{buf: e.rbsp.buf[:0]}
	return &e.rbsp
}

// sliceHeader writes §7.3.3. Deblocking is off: it would blur the macroblocks
// beside a repeated one and the picture would no longer be what was drawn.
func (e *encoder) sliceHeader(w *bitWriter, idr bool) {
	w.ue(0) // first_mb_in_slice
	if idr {
		w.ue(sliceTypeAllI)
	} else {
		w.ue(sliceTypeAllP)
	}
	w.ue(0) // pic_parameter_set_id
	w.u(frameNumBits, e.frameNum)
	if idr {
		w.ue(e.idrID) // must differ between neighbouring IDR pictures
		e.idrID ^= 1
		w.flag(false) // no_output_of_prior_pics_flag
		w.flag(false) // long_term_reference_flag
	} else {
		w.flag(false) // num_ref_idx_active_override_flag
		w.flag(false) // ref_pic_list_modification_flag_l0
		w.flag(false) // adaptive_ref_pic_marking_mode_flag
	}
	w.ue(0) // slice_qp_delta
	w.ue(1) // disable_deblocking_filter_idc
}

// finish returns the NAL unit behind its length in four bytes, the form of a
// sample in ISO/IEC 14496-15 §4.3.
func (e *encoder) finish(header byte) []byte {
	e.rbsp.trail()
	e.nal = append(e.nal[:0], 0, 0, 0, 0, header)
	e.nal = appendEscaped(e.nal, e.rbsp.buf)
	binary.BigEndian.PutUint32(e.nal, uint32(len(e.nal)-4))
	return e.nal
}
