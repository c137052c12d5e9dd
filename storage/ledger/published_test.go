package ledger_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bodyworn/ingestd/storage/ledger"
)

func TestVerifyPublishedFindsManipulations(t *testing.T) {
	t.Parallel()
	dir, whole := t.TempDir(), newBucket()
	l := open(t, dir)
	for n := range 4 {
		appendN(t, l, 2*n, 2)
		if err := l.Publish(t.Context(), whole, prefix); err != nil {
			t.Fatal(err)
		}
	}
	checkPublished(t, whole, dir, 8)
	seg := func(from, to int) string { return fmt.Sprintf("%s/entries/%016d-%016d.jsonl", prefix, from, to) }
	cp := func(size int) string { return fmt.Sprintf("%s/checkpoint/%016d", prefix, size) }
	other := forged(t, keyOf("other"), entry(0), entry(1), entry(2), entry(3))
	history := forged(t, station, entry(3), entry(2), entry(1), entry(0))
	for name, c := range map[string]struct {
		do    func(o map[string][]byte)
		kind  string
		index int64
	}{
		"segment missing":       {func(o map[string][]byte) { delete(o, seg(2, 4)) }, ledger.FindingHole, 2},
		"first segment missing": {func(o map[string][]byte) { delete(o, seg(0, 2)) }, ledger.FindingHole, 0},
		"last segment missing":  {func(o map[string][]byte) { delete(o, seg(6, 8)) }, ledger.FindingHole, 6},
		"all segments missing": {func(o map[string][]byte) {
			maps.DeleteFunc(o, func(k string, _ []byte) bool { return strings.Contains(k, "/entries/") })
		}, ledger.FindingHole, 0},
		"end missing, both parts": {func(o map[string][]byte) { delete(o, seg(6, 8)); delete(o, cp(8)) }, "", 0},
		"segments overlap":        {func(o map[string][]byte) { o[seg(2, 3)] = bytes.SplitAfter(o[seg(2, 4)], []byte("\n"))[0] }, ledger.FindingOverlap, 2},
		"segment changed": {func(o map[string][]byte) {
			o[seg(2, 4)] = bytes.Replace(o[seg(2, 4)], []byte("110123"), []byte("110124"), 1)
		}, ledger.FindingChanged, 2},
		"segment cut":               {func(o map[string][]byte) { o[seg(2, 4)] = bytes.SplitAfter(o[seg(2, 4)], []byte("\n"))[0] }, ledger.FindingSegment, 2},
		"segment torn":              {func(o map[string][]byte) { o[seg(6, 8)] = o[seg(6, 8)][:len(o[seg(6, 8)])-1] }, ledger.FindingLine, 7},
		"segments swapped":          {func(o map[string][]byte) { o[seg(2, 4)], o[seg(4, 6)] = o[seg(4, 6)], o[seg(2, 4)] }, ledger.FindingChanged, 2},
		"segment empty":             {func(o map[string][]byte) { o[seg(2, 4)] = nil }, ledger.FindingSegment, 2},
		"checkpoint missing":        {func(o map[string][]byte) { delete(o, cp(4)) }, ledger.FindingCheckpoint, 4},
		"checkpoint changed":        {func(o map[string][]byte) { o[cp(4)] = append(o[cp(4)][:60:60], "x\n"...) }, ledger.FindingCheckpoint, -1},
		"checkpoint of other size":  {func(o map[string][]byte) { o[cp(4)] = o[cp(6)] }, ledger.FindingCheckpoint, -1},
		"checkpoint by another key": {func(o map[string][]byte) { o[cp(4)] = readFile(t, other, "checkpoint") }, ledger.FindingCheckpoint, -1},
		"another history":           {func(o map[string][]byte) { o[cp(4)] = readFile(t, history, "checkpoint") }, ledger.FindingChanged, 2},
		"checkpoint of no segment":  {func(o map[string][]byte) { o[cp(3)] = readFile(t, history, "checkpoint") }, ledger.FindingCheckpoint, 3},
		"foreign object":            {func(o map[string][]byte) { o[prefix+"/entries/x"] = nil }, ledger.FindingForeign, -1},
		"key in another form":       {func(o map[string][]byte) { o[prefix+"/checkpoint/4"] = o[cp(4)] }, ledger.FindingForeign, -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := whole.clone()
			c.do(b.objects)
			for _, with := range []string{"", dir} {
				report := verifyPublished(t, b, with)
				found := slices.ContainsFunc(report.Findings, func(f ledger.Finding) bool { return f.Kind == c.kind && f.Index == c.index })
				if found != (c.kind != "") {
					t.Errorf("no %s at %d in %v, told %v", c.kind, c.index, report.Findings, report.Told)
				}
			}
			_, _, err := ledger.Fetch(t.Context(), b, prefix, filepath.Join(t.TempDir(), "x"), ledger.Keys{station.PublicKey()}, origin)
			if c.kind != "" && !errors.Is(err, ledger.ErrBroken) {
				t.Errorf("fetch says %v", err)
			}
		})
	}
	// The folder was put back to an older state: the bucket knows more.
	older := forged(t, station, entry(0), entry(1), entry(2))
	report := verifyPublished(t, whole, older)
	if !slices.ContainsFunc(report.Findings, func(f ledger.Finding) bool {
		return f.Kind == ledger.FindingCut && f.Index == 3 && strings.HasPrefix(f.Words, "in the folder, ")
	}) {
		t.Errorf("%v", report.Findings)
	}
	if err := open(t, older).Publish(t.Context(), whole, prefix); !errors.Is(err, ledger.ErrBroken) {
		t.Errorf("publish says %v", err)
	}
}
