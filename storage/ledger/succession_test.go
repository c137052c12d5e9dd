package ledger_test

import (
	"bytes"
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/bodyworn/ingestd/storage/ledger"
)

// The station of these tests changes its key: station goes, successor comes.
var (
	successor = keyOf("successor")
	both      = ledger.Keys{station.PublicKey(), successor.PublicKey()}
)

func openWith(t *testing.T, dir string, key stationKey, former ...stationKey) *ledger.Ledger {
	t.Helper()
	l, err := reopen(t, dir, key, former...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func reopen(t *testing.T, dir string, key stationKey, former ...stationKey) (*ledger.Ledger, error) {
	t.Helper()
	var keys ledger.Keys
	for _, f := range former {
		keys = append(keys, f.PublicKey())
	}
	return ledger.Open(t.Context(), dir, key, noRepair(t), keys...)
}

// rotate has one key hand over to another with a line made of entry n.
func rotate(t *testing.T, l *ledger.Ledger, n int, old, next stationKey) {
	t.Helper()
	e, err := ledger.Rotated(entry(n), origin, old.PublicKey(), next.PublicKey())
	if err == nil {
		_, err = l.Append(t.Context(), e)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func publish(t *testing.T, l *ledger.Ledger, b *bucket) {
	t.Helper()
	if err := l.Publish(t.Context(), b, prefix); err != nil {
		t.Fatal(err)
	}
}

func checkpoint(t *testing.T, l *ledger.Ledger) []byte {
	t.Helper()
	signed, err := l.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// resigned is a checkpoint of the same lines, signed with another key.
func resigned(t *testing.T, signed []byte, key stationKey) []byte {
	t.Helper()
	text, _, _ := bytes.Cut(signed, []byte("\n\n"))
	name, err := ledger.VerifierKey(origin, key.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(name)
	if err != nil {
		t.Fatal(err)
	}
	out, err := note.Sign(&note.Note{Text: string(text) + "\n"}, testSigner{key, v.KeyHash()})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func verifyKeys(t *testing.T, dir string, keys ledger.Keys, checkpoints ...[]byte) *ledger.Report {
	t.Helper()
	report, err := ledger.Verify(t.Context(), dir, keys, origin, checkpoints...)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// rotated is a folder of six lines, the fourth of which hands over, its bucket, and
// the checkpoints by size.
func rotated(t *testing.T) (dir string, b *bucket, notes [][]byte) {
	t.Helper()
	dir, b = t.TempDir(), newBucket()
	l := open(t, dir)
	notes = append(notes, checkpoint(t, l))
	for n := range 3 {
		appendN(t, l, n, 1)
		notes = append(notes, checkpoint(t, l))
	}
	publish(t, l, b)
	rotate(t, l, 3, station, successor)
	notes = append(notes, checkpoint(t, l))
	next := openWith(t, dir, successor, station)
	publish(t, next, b)
	for n := range 2 {
		appendN(t, next, 4+n, 1)
		notes = append(notes, checkpoint(t, next))
		publish(t, next, b)
	}
	return dir, b, notes
}

func TestRotation(t *testing.T) {
	t.Parallel()
	dir, b, notes := rotated(t)
	if report := verifyKeys(t, dir, both, notes...); !report.Sound() || len(report.Told) != 0 || report.Held != 1+len(notes) || report.Checkpoint.Size != 6 {
		t.Errorf("%+v", report)
	}
	report, err := ledger.VerifyPublished(t.Context(), b, prefix, dir, both, origin)
	if err != nil || !report.Sound() || len(report.Told) != 0 || report.Held != 4 {
		t.Errorf("%v %+v", err, report)
	}
	// The line that hands over is published with the word of the key that does.
	if !bytes.Equal(b.objects[ledger.CheckpointKey(prefix, 4)], notes[4]) {
		t.Error("the checkpoint of the line that hands over is not the former key's")
	}
	fetched := filepath.Join(t.TempDir(), "ledger")
	if size, unsigned, err := ledger.Fetch(t.Context(), b, prefix, fetched, both, origin); err != nil || size != 6 || unsigned != 0 {
		t.Errorf("fetched %d and %d: %v", size, unsigned, err)
	}
	l := openWith(t, fetched, successor, station)
	if sizes, err := l.LastSizes(t.Context()); err != nil || !slices.Equal(sizes, []int64{4}) {
		t.Errorf("the former key may sign up to %v (%v)", sizes, err)
	}
	// Proofs of lines of either key lead to the present checkpoint.
	now, err := ledger.ParseCheckpoint(checkpoint(t, l), successor.PublicKey(), origin)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range readAll(t, l, 0) {
		proof, err := l.Prove(t.Context(), s.Index, now.Size)
		if err := errors.Join(err, ledger.CheckInclusion(proof, now, s.Index, s.Line)); err != nil {
			t.Error(err)
		}
	}
	// A third key comes.
	third := keyOf("third")
	rotate(t, l, 6, successor, third)
	l = openWith(t, fetched, third, station, successor)
	appendN(t, l, 7, 1)
	publish(t, l, b)
	all := append(slices.Clone(both), third.PublicKey())
	if report := verifyKeys(t, fetched, all, notes...); !report.Sound() {
		t.Errorf("%v", report.Findings)
	}
	if report, err := ledger.VerifyPublished(t.Context(), b, prefix, fetched, all, origin); err != nil || !report.Sound() {
		t.Errorf("%v %v", err, report)
	}
}

// The key that has handed over signs no more, whoever asks.
func TestTheFormerKeyIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	appendN(t, l, 0, 2)
	handing, err := ledger.Rotated(entry(2), origin, station.PublicKey(), successor.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	unknown := entry(2)
	unknown.Event = ledger.EventRotated
	foreign, err := ledger.Rotated(entry(2), origin, successor.PublicKey(), station.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := ledger.Rotated(entry(2), "ingestd/STATION-2", station.PublicKey(), successor.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	for name, batch := range map[string][]ledger.Entry{
		"more behind it":          {handing, entry(3)},
		"two at once":             {handing, handing},
		"no keys":                 {unknown},
		"in another key's name":   {foreign},
		"of another station's":    {elsewhere},
		"more behind, of no keys": {unknown, entry(3)},
	} {
		if _, err := l.Append(t.Context(), batch...); err == nil {
			t.Errorf("%s was appended", name)
		}
		checkSound(t, dir, 2)
	}
	if _, err := reopen(t, dir, successor, station); !errors.Is(err, ledger.ErrNotHandedOver) {
		t.Errorf("a key that nobody handed over to: %v", err)
	}
	before := open(t, dir) // another process
	rotate(t, l, 2, station, successor)
	for _, held := range []*ledger.Ledger{l, before} {
		if _, err := held.Append(t.Context(), entry(3)); !errors.Is(err, ledger.ErrHandedOver) {
			t.Errorf("the former key appends: %v", err)
		}
	}
	if _, err := reopen(t, dir, station); !errors.Is(err, ledger.ErrHandedOver) {
		t.Errorf("opened with the former key alone: %v", err)
	}
	for name, former := range map[string][]stationKey{"none": nil, "a stranger": {keyOf("other")}} {
		if _, err := reopen(t, dir, successor, former...); !errors.Is(err, ledger.ErrBroken) {
			t.Errorf("former keys: %s: %v", name, err)
		}
	}
	if _, err := ledger.Open(t.Context(), t.TempDir(), successor, noRepair(t), station.PublicKey()); !errors.Is(err, ledger.ErrNotHandedOver) {
		t.Errorf("a new log with a former key: %v", err)
	}
	if _, err := reopen(t, dir, station, station); err == nil {
		t.Error("one key twice")
	}
	// As long as the new key has signed nothing, the end may be a thief's.
	if report := verifyKeys(t, dir, both); len(report.Findings) != 1 || report.Findings[0].Kind != ledger.FindingKey {
		t.Errorf("%v", report.Findings)
	}
	appendN(t, openWith(t, dir, successor, station), 3, 1)
	if report := verifyKeys(t, dir, both); !report.Sound() {
		t.Errorf("%v", report.Findings)
	}
}

// Who has stolen the former key can make a ledger of his own with it, but none that
// passes for the station's.
func TestWhatAThiefOfTheFormerKeySigns(t *testing.T) {
	t.Parallel()
	whole, published, notes := rotated(t)
	thief := keyOf("thief")
	replace := func(t *testing.T, dir string, make func(l *ledger.Ledger, forged string)) {
		t.Helper()
		forged := t.TempDir()
		make(open(t, forged), forged)
		for _, name := range []string{"entries.jsonl", "hashes", "checkpoint"} {
			writeFile(t, readFile(t, forged, name), dir, name)
		}
	}
	for name, c := range map[string]struct {
		spoil func(t *testing.T, dir string)
		kind  string
		opens error // what Open says; nil: it can't know
	}{
		"the checkpoint of a later size": {func(t *testing.T, dir string) {
			writeFile(t, resigned(t, notes[6], station), dir, "checkpoint")
		}, ledger.FindingKey, ledger.ErrBroken},
		"no line that hands over": {func(t *testing.T, dir string) {
			replace(t, dir, func(l *ledger.Ledger, _ string) { appendN(t, l, 0, 9) })
		}, ledger.FindingKey, ledger.ErrNotHandedOver},
		"a later line that hands over": {func(t *testing.T, dir string) {
			replace(t, dir, func(l *ledger.Ledger, _ string) { appendN(t, l, 0, 8); rotate(t, l, 8, station, successor) })
		}, ledger.FindingKey, nil},
		"a line that hands over to the thief": {func(t *testing.T, dir string) {
			replace(t, dir, func(l *ledger.Ledger, forged string) {
				appendN(t, l, 0, 3)
				rotate(t, l, 3, station, thief)
				appendN(t, openWith(t, forged, thief, station), 4, 1)
			})
		}, ledger.FindingCheckpoint, ledger.ErrBroken},
		"a line that hands over to the thief, and no more": {func(t *testing.T, dir string) {
			replace(t, dir, func(l *ledger.Ledger, _ string) { appendN(t, l, 0, 3); rotate(t, l, 3, station, thief) })
		}, ledger.FindingKey, ledger.ErrBroken},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := copyDir(t, whole)
			c.spoil(t, dir)
			if report := verifyKeys(t, dir, both); !slices.ContainsFunc(report.Findings, func(f ledger.Finding) bool { return f.Kind == c.kind && f.Words != "" }) {
				t.Errorf("no %s in %v", c.kind, report.Findings)
			}
			l, err := reopen(t, dir, successor, station)
			if !errors.Is(err, c.opens) {
				t.Errorf("open says %v", err)
			}
			if l != nil {
				if err := l.Publish(t.Context(), published.clone(), prefix); !errors.Is(err, ledger.ErrBroken) {
					t.Errorf("publish says %v", err)
				}
			}
			if report, err := ledger.VerifyPublished(t.Context(), published, prefix, dir, both, origin); err != nil || report.Sound() {
				t.Errorf("with the bucket: %v %v", err, report)
			}
		})
	}
	// A checkpoint that is given, of lines that are true.
	if report := verifyKeys(t, whole, both, resigned(t, notes[5], station)); len(report.Findings) != 1 || report.Findings[0].Kind != ledger.FindingKey {
		t.Errorf("given: %v", report.Findings)
	}
	if report := verifyKeys(t, whole, both, resigned(t, notes[4], station), resigned(t, notes[2], successor)); !report.Sound() {
		t.Errorf("sizes that they may sign: %v", report.Findings)
	}
	// In the bucket.
	b := published.clone()
	b.objects[ledger.CheckpointKey(prefix, 6)] = resigned(t, notes[6], station)
	report, err := ledger.VerifyPublished(t.Context(), b, prefix, "", both, origin)
	if err != nil || !slices.ContainsFunc(report.Findings, func(f ledger.Finding) bool { return f.Kind == ledger.FindingKey }) {
		t.Errorf("in the bucket: %v %v", err, report)
	}
	if _, _, err := ledger.Fetch(t.Context(), b, prefix, filepath.Join(t.TempDir(), "x"), both, origin); !errors.Is(err, ledger.ErrBroken) {
		t.Errorf("fetch says %v", err)
	}
	if err := openWith(t, whole, successor, station).Publish(t.Context(), b, prefix); !errors.Is(err, ledger.ErrBroken) {
		t.Errorf("publish says %v", err)
	}
	// In the list another key stands in the place of the former one.
	wrong := ledger.Keys{thief.PublicKey(), successor.PublicKey()}
	if report := verifyKeys(t, whole, wrong); len(report.Findings) != 1 || report.Findings[0].Kind != ledger.FindingKey {
		t.Errorf("with another former key: %v", report.Findings)
	}
	if _, err := reopen(t, whole, successor, thief); !errors.Is(err, ledger.ErrBroken) {
		t.Errorf("opened with another former key: %v", err)
	}
	// Who has only the first key is told that there is another one.
	if report := verifyKeys(t, whole, ledger.Keys{station.PublicKey()}); report.Sound() {
		t.Error("with the first key alone it is sound")
	}
}

// A crash in the append of the very line that hands over.
func TestRotationCutOff(t *testing.T) {
	t.Parallel()
	before := t.TempDir()
	appendN(t, open(t, before), 0, 2)
	after := copyDir(t, before)
	rotate(t, open(t, after), 2, station, successor)
	lines := readFile(t, after, "entries.jsonl")
	for name, c := range map[string]struct {
		lines  []byte
		repair string
		opens  error
	}{
		"whole": {lines, ledger.RepairCompleted, nil},
		"torn":  {lines[:len(lines)-9], ledger.RepairCut, ledger.ErrNotHandedOver},
	} {
		dir := copyDir(t, before)
		writeFile(t, c.lines, dir, "entries.jsonl")
		writeFile(t, readFile(t, after, "checkpoint"), dir, "checkpoint.next")
		var repairs []string
		_, err := ledger.Open(t.Context(), dir, successor, func(r ledger.Repair) { repairs = append(repairs, r.Kind) }, station.PublicKey())
		if !errors.Is(err, c.opens) || !slices.Equal(repairs, []string{c.repair}) {
			t.Errorf("%s: %v, repairs %v", name, err, repairs)
		}
		if c.opens != nil {
			appendN(t, open(t, dir), 2, 1) // the old key is in force
			checkSound(t, dir, 3)
			continue
		}
		appendN(t, openWith(t, dir, successor, station), 3, 1)
		if report := verifyKeys(t, dir, both); !report.Sound() {
			t.Errorf("%s: %v", name, report.Findings)
		}
	}
	// A thief can't have left such an append either.
	dir, _, notes := rotated(t)
	entries := readFile(t, dir, "entries.jsonl")
	writeFile(t, notes[5], dir, "checkpoint")
	writeFile(t, resigned(t, notes[6], station), dir, "checkpoint.next")
	if report := verifyKeys(t, dir, both); report.Sound() {
		t.Error("an append of the former key is taken for one that a crash cut off")
	}
	if _, err := ledger.Open(t.Context(), dir, successor, func(ledger.Repair) {}, station.PublicKey()); !errors.Is(err, ledger.ErrBroken) || !bytes.Equal(readFile(t, dir, "entries.jsonl"), entries) {
		t.Errorf("open says %v", err)
	}
}

// Every call of the publication of a rotation fails once, in every way.
func TestPublishingARotationFailsAtEveryCall(t *testing.T) {
	t.Parallel()
	for _, how := range []string{failedNotStored, failedStored, failedLate} {
		for failAt, failed := 1, true; failed; failAt++ {
			dir, b := t.TempDir(), newBucket()
			l := open(t, dir)
			appendN(t, l, 0, 2)
			publish(t, l, b)
			appendN(t, l, 2, 1)
			rotate(t, l, 3, station, successor)
			next := openWith(t, dir, successor, station)
			b.calls, b.failAt, b.how = 0, failAt, how
			err := next.Publish(t.Context(), b, prefix)
			if failed = err != nil; failed && !errors.Is(err, errInjected) {
				t.Fatal(err)
			}
			b.failAt = 0
			next = openWith(t, dir, successor, station)
			appendN(t, next, 4, 2)
			// A request of the first try arrives when the second one has just looked: it finds
			// the former key's checkpoint in the place of its own.
			if err := next.Publish(t.Context(), &meddled{bucket: b, listings: 3, act: b.arrive}, prefix); err != nil {
				t.Fatalf("%s, call %d: %v", how, failAt, err)
			}
			report, err := ledger.VerifyPublished(t.Context(), b, prefix, dir, both, origin)
			if err != nil || !report.Sound() || len(report.Told) != 0 || report.Checkpoint.Size != 6 {
				t.Fatalf("%s, call %d: %v %+v", how, failAt, err, report)
			}
		}
	}
}
