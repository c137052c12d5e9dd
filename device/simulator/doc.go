// Package simulator is a recorder (执法记录仪) in software. It stands before
// the flow: what it makes is what an officer would dock, so that demo, tests
// and benchmarks run where there is no recorder.
//
// [Card] writes the card of a well-behaved recorder: segments that really
// play, with the clock burnt into the picture, and the sidecars, identity
// files and leftovers found on media in the field (research/domain.md §2.3).
// [Odd] writes the opposite, every hostile name and shape we know. [Many] and
// [Sparse] write what only size makes hard.
//
// Its promise: the same Card gives the same bytes, names and times, so that a
// failure seen once can be made again from its seed. (The JPEGs are those of
// the Go release's encoder.)
//
// No real recorder could be tried. Layout and names follow sources in the
// field, not one maker; where a habit is unconfirmed, its comment says so.
package simulator
