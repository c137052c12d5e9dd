// Package faults breaks things around the real program and looks from outside at
// what it did: ingestd as a process, killed at every commit of its journal and at
// random moments; its store killed at every step of a write; cards that fail,
// stall, change and are pulled out; a store behind a line that cuts, delays,
// refuses and changes bytes; a station whose disks are full or read-only, and
// whose clock jumps.
//
// After every case the same invariants are looked at with plain S3 calls, SHA-256
// and SQLite, never with the program's own reading code, see the method judge.
// scripts/faults builds what is needed and runs the tests, which have the
// build tag faults. The program under test has the tag crashpoints.
package faults
