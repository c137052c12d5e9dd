package board

import "math"

// What the grid is laid out for: the shape that a tile looks best in, and the room for
// tiles on a screen that lies and on one that stands, all as width to height.
const (
	tileShape     = 1.64
	lyingScreen   = 1.9
	uprightScreen = 0.62
	mostColumns   = 12
)

// columnsFor finds the number of columns with the largest tiles. Rows that are full
// are worth something: a dock of metal has no gaps.
func columnsFor(tiles int, screen float64) int {
	best, bestScore := 1, 0.0
	for c := 1; c <= min(max(1, tiles), mostColumns); c++ {
		rows := (tiles + c - 1) / c
		if rows == 0 {
			rows = 1
		}
		full := float64(tiles) / float64(c*rows)
		if score := math.Min(screen/float64(c)/tileShape, 1/float64(rows)) * full * full; score > bestScore {
			best, bestScore = c, score
		}
	}
	return best
}
