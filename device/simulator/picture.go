package simulator

import (
	"encoding/binary"
	"image"
	"math/rand/v2"
)

const (
	pictureWidth    = 640
	pictureHeight   = 360
	macroblocksWide = 40
	macroblocksHigh = 23 // the lowest eight lines are cropped away
	macroblocks     = macroblocksWide * macroblocksHigh
	macroblockBytes = 16*16 + 2*8*8
	framesPerSecond = 25
)

// macroblock holds 16×16 luma samples, then 8×8 Cb and 8×8 Cr: the order of
// I_PCM samples (ISO/IEC 14496-10 §7.3.5), so that coding is copying.
type macroblock [macroblockBytes]byte

// picture is one frame, macroblock by macroblock in raster order. No sample is
// ever zero: early editions forbid it in I_PCM, and it keeps the escaping of
// zero runs from costing time.
type picture [macroblocks]macroblock

// Noise is added to the samples of the scene, so these are its brightest.
const (
	black        = 16
	white        = 235
	neutral      = 128
	lumaNoise    = 0x0F
	chromaNoise  = 0x03
	brightestSky = white - lumaNoise
)

// scene draws what the lens sees: a sky, a row of houses and a street, so that
// two clips of a demo can be told apart at a glance.
func scene(r *rand.Rand) *picture {
	p := new(picture)
	horizon := 150 + r.IntN(40)
	sky := [2]byte{byte(132 + r.IntN(8)), byte(118 + r.IntN(6))}
	street := [2]byte{byte(122 + r.IntN(4)), byte(130 + r.IntN(6))}
	for y := range macroblocksHigh * 16 {
		for x := range macroblocksWide * 16 {
			if y < horizon {
				p.set(x, y, byte(brightestSky-(horizon-y)/3), sky)
			} else {
				p.set(x, y, byte(60+(y-horizon)/4), street)
			}
		}
	}
	for x := r.IntN(30); x < pictureWidth; {
		wide, high := 40+r.IntN(90), 30+r.IntN(horizon-60)
		luma := byte(50 + r.IntN(110))
		wall := [2]byte{byte(112 + r.IntN(20)), byte(118 + r.IntN(24))}
		p.house(image.Rect(x, horizon-high, min(x+wide, pictureWidth), horizon), luma, wall)
		x += wide + r.IntN(40)
	}
	return p
}

func (p *picture) house(walls image.Rectangle, luma byte, colour [2]byte) {
	for y := walls.Min.Y; y < walls.Max.Y; y++ {
		for x := walls.Min.X; x < walls.Max.X; x++ {
			window := (x-walls.Min.X)%18 > 9 && (y-walls.Min.Y)%22 > 11
			if window {
				p.set(x, y, luma/2+8, colour)
			} else {
				p.set(x, y, luma, colour)
			}
		}
	}
}

// set paints one pixel; its chroma counts for the 2×2 pixels around it.
func (p *picture) set(x, y int, luma byte, chroma [2]byte) {
	mb := &p[y/16*macroblocksWide+x/16]
	mb[y%16*16+x%16] = luma
	i := 256 + y%16/2*8 + x%16/2
	mb[i], mb[i+64] = chroma[0], chroma[1]
}

// expose makes p the scene as the sensor sees it once more: the same, with
// fresh noise. The noise also keeps any store from compressing the footage
// away in a benchmark.
func (p *picture) expose(scene *picture, noise *rand.ChaCha8) {
	const (
		lumaMask   = lumaNoise * 0x0101010101010101
		chromaMask = chromaNoise * 0x0101010101010101
	)
	var grain macroblock
	for i := range p {
		_, _ = noise.Read(grain[:]) // never fails
		from, to := &scene[i], &p[i]
		// Eight samples at a time: none carries into its neighbour, since
		// scenes stay below white.
		for o := 0; o < macroblockBytes; o += 8 {
			mask := uint64(lumaMask)
			if o >= 256 {
				mask = chromaMask
			}
			sum := binary.LittleEndian.Uint64(from[o:]) + binary.LittleEndian.Uint64(grain[o:])&mask
			binary.LittleEndian.PutUint64(to[o:], sum)
		}
	}
}

// print burns a line of text into one row of macroblocks, white on black as
// recorders do, and returns the macroblocks that changed.
func (p *picture) print(row int, text string) (changed []int) {
	const scale = 2
	wide := (len(text)*glyphAdvance*scale + 15) / 16
	for i := range min(wide, macroblocksWide-textColumn) {
		index := row*macroblocksWide + textColumn + i
		before := p[index]
		mb := &p[index]
		for o := range 256 {
			x, y := i*16+o%16, o/16
			mb[o] = black
			// One line is left free above the glyph and one below.
			if glyphPixel(text, x/scale, (y+1)/scale-1) {
				mb[o] = white
			}
		}
		for o := 256; o < macroblockBytes; o++ {
			mb[o] = neutral
		}
		if *mb != before {
			changed = append(changed, index)
		}
	}
	return changed
}

// ycbcr is the visible part of p in the form of the image package.
func (p *picture) ycbcr() *image.YCbCr {
	img := image.NewYCbCr(image.Rect(0, 0, pictureWidth, pictureHeight), image.YCbCrSubsampleRatio420)
	for y := range pictureHeight {
		for x := range pictureWidth {
			mb := &p[y/16*macroblocksWide+x/16]
			img.Y[img.YOffset(x, y)] = mb[y%16*16+x%16]
			i := 256 + y%16/2*8 + x%16/2
			c := img.COffset(x, y)
			img.Cb[c], img.Cr[c] = mb[i], mb[i+64]
		}
	}
	return img
}
