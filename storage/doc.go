// Package storage keeps footage: one vault is one S3 bucket with Object Lock.
// It stands at the end of the flow, recorder → session → vault, and knows
// nothing of recorders or sessions: it is given bytes, a key and a date, and
// answers with what the server confirmed about them.
//
// Its promises: an object is created once and never overwritten; it carries its
// own COMPLIANCE lock from the request that creates it; no lock is shorter than
// six calendar months (第十一条); and "stored" is said only after the server has
// checked the bytes against a checksum and shown the lock by HEAD. Footage leaves by
// Dispose only, a version at a time, when lock, floor and hold allow it as the store
// tells it at that moment.
package storage
