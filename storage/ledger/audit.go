package ledger

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// The kinds of Finding. Every one of them but FindingStamp, FindingTimeBack and
// FindingUnfinished means that the log is not what was signed.
const (
	FindingCheckpoint = "checkpoint" // a checkpoint is damaged, foreign or missing
	FindingChanged    = "changed"    // the lines do not hash to a checkpoint
	FindingCut        = "cut"        // a checkpoint knows more lines than there are
	FindingUnsigned   = "unsigned"   // there are lines that no checkpoint covers
	FindingLine       = "line"       // a line is not a canonical entry
	FindingHashes     = "hashes"     // the file of hashes does not fit the lines
	FindingHole       = "hole"       // a published segment is missing
	FindingOverlap    = "overlap"    // two published segments hold the same index
	FindingSegment    = "segment"    // a published segment is not what its key says
	FindingKey        = "key"        // a key signs that may not, or the lines name other keys
	FindingForeign    = "foreign"    // an object lies where only ours may be
	FindingStamp      = "timestamp"  // a time stamp is not of the checkpoint that its key names
	FindingTimeBack   = "time-back"  // told: an entry is older than the one before
	FindingUnfinished = "unfinished" // told: an append or a publication was under way
	findingsAtMost    = 200          // a log of garbage must not fill the memory
	noIndex           = int64(-1)    // of a finding that is about no line
)

// Finding is one thing that Verify has seen.
type Finding struct {
	Kind  string
	Index int64 // of the line, or the first line that may be meant; -1: none
	Words string
}

func (f Finding) String() string {
	if f.Index < 0 {
		return f.Kind + ": " + f.Words
	}
	return fmt.Sprintf("%s at line %d: %s", f.Kind, f.Index, f.Words)
}

// Report is what a verification has seen.
type Report struct {
	// Checkpoint is computed from the lines themselves.
	Checkpoint Checkpoint
	// Findings are breaks: none means that every checkpoint holds.
	Findings []Finding
	// Told is what a person should know, though nothing is broken.
	Told []Finding
	// Omitted counts findings, of both sorts, that were left out as too many.
	Omitted int
	// Held counts the checkpoints that were compared with the lines and hold.
	Held int
}

// Sound says that nothing is broken.
func (r *Report) Sound() bool { return len(r.Findings) == 0 }

func (r *Report) find(kind string, index int64, words string, args ...any) {
	r.note(&r.Findings, Finding{kind, index, fmt.Sprintf(words, args...)})
}

func (r *Report) tell(kind string, index int64, words string, args ...any) {
	r.note(&r.Told, Finding{kind, index, fmt.Sprintf(words, args...)})
}

func (r *Report) note(to *[]Finding, f Finding) {
	if len(*to) >= findingsAtMost {
		r.Omitted++
		return
	}
	*to = append(*to, f)
}

// audit reads a log line by line and compares it with all checkpoints there are.
type audit struct {
	keys   *succession
	report Report

	tree   tree
	wanted []claim   // sorted by size once lines come
	good   int64     // the largest size so far at which a checkpoint held
	signed int64     // the largest size that a checkpoint is of
	took   bool      // the last key has signed for lines that brought it in
	last   time.Time // of the entry before

	// hashes is the folder's file, in the order of the lines; nil: none, or it
	// was found not to fit. It only helps to name the line that was changed.
	hashes  io.Reader
	suspect int64 // the first line whose hashes it does not hold, or -1
}

// claim is a checkpoint and where it came from.
type claim struct {
	Checkpoint
	by   int // the key that has signed it, or nobody
	from string
}

func newAudit(keys Keys, origin string) (*audit, error) {
	s, err := newSuccession(origin, keys)
	return &audit{keys: s, suspect: noIndex}, err
}

// want has the lines compared with a signed checkpoint.
func (a *audit) want(signed []byte, from string) (Checkpoint, bool) {
	c, by, err := a.keys.parse(signed)
	if err != nil {
		a.report.find(FindingCheckpoint, noIndex, "%s: %v", from, err)
		return Checkpoint{}, false
	}
	a.wanted = append(a.wanted, claim{c, by, from})
	a.signed = max(a.signed, c.Size)
	return c, true
}

// begin is called when all checkpoints are known.
func (a *audit) begin() {
	slices.SortStableFunc(a.wanted, func(x, y claim) int { return cmp.Compare(x.Size, y.Size) })
	a.compare()
}

// line takes in the next line and gives the hashes that it completes.
func (a *audit) line(line []byte) []tlog.Hash {
	index := a.tree.size
	hashes := a.tree.add(line)
	if a.hashes != nil {
		want := joined(hashes)
		held := make([]byte, len(want))
		if _, err := io.ReadFull(a.hashes, held); err != nil || !bytes.Equal(held, want) {
			a.suspect, a.hashes = index, nil
		}
	}
	entry, err := ParseLine(line)
	if err != nil {
		a.report.find(FindingLine, index, "%v", err)
	} else {
		if entry.Time.Before(a.last) {
			a.report.tell(FindingTimeBack, index, "its time %s is before %s, that of the entry before it",
				entry.Time.Format(time.RFC3339Nano), a.last.Format(time.RFC3339Nano))
		}
		a.last = entry.Time
	}
	a.compare()
	return hashes
}

// compare looks at the checkpoints of the present size.
func (a *audit) compare() {
	for len(a.wanted) > 0 && a.wanted[0].Size == a.tree.size {
		c := a.wanted[0]
		a.wanted = a.wanted[1:]
		if c.Checkpoint == a.tree.checkpoint() {
			if err := a.keys.permits(c.by, &a.tree); err != nil {
				a.report.find(FindingKey, a.tree.size-1, "%s: %v", c.from, err)
				continue
			}
			a.report.Held++
			a.good = a.tree.size
			a.took = a.took || c.by == a.keys.last() && len(a.tree.handed) >= c.by
			continue
		}
		// A hash that does not fit names the line; else only the span is known.
		at, where := a.good, fmt.Sprintf("something between line %d and line %d was changed, removed, inserted or moved", a.good, c.Size-1)
		if a.suspect >= a.good {
			at, where = a.suspect, fmt.Sprintf("line %d is the first that was changed, removed, inserted or moved", a.suspect)
		}
		a.report.find(FindingChanged, at, "the first %d lines are not those that %s was signed for; %s", c.Size, c.from, where)
	}
}

// end is called behind the last line.
func (a *audit) end() *Report {
	for _, c := range a.wanted {
		a.report.find(FindingCut, a.tree.size, "there are %d lines that can be read, but %s was signed for %d: the end is missing", a.tree.size, c.from, c.Size)
	}
	// What no checkpoint covers names no key.
	if err := a.keys.fits(&a.tree, a.signed); err != nil {
		a.report.find(FindingKey, noIndex, "%v", err)
	} else if !a.took && a.keys.last() > 0 {
		a.report.find(FindingKey, noIndex, "the present key %s has signed nothing behind the line that brought it in: what the former key has signed there may be the work of who has that key now", a.keys.names[a.keys.last()])
	}
	if a.suspect != noIndex {
		a.report.find(FindingHashes, a.suspect, "the file %s does not fit this line; if no checkpoint speaks against the line, it is the file that was changed, and it is made anew when the ledger is opened", hashesName)
	}
	a.report.Checkpoint = a.tree.checkpoint()
	return &a.report
}
