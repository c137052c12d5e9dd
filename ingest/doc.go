// Package ingest turns a docked recorder into stored, verified, locked footage
// and an answer for the officer: it may be taken, or it may not and why. It is
// the middle of the flow, recorder → session → vault: it asks package device
// for files, gives package storage objects, and writes into the journal what has
// become true.
//
// One docking is one Session. Its steps, in order: identify (the clock first),
// inventory of every path, copy while reading once, verify in the store, seal
// with a manifest, release the recorder. Only after the last of them is
// Report.Safe true. A session that is cut off, by a crash, a pulled cable or a
// store that is away, stays open in the journal and goes on at the last durable
// part when the recorder is back.
package ingest
