package ingest

import (
	"context"
	"math/rand/v2"

	"github.com/bodyworn/ingestd/ingest/journal"
)

// Sample says how objects were drawn for a verification, so that the same can be
// drawn again.
type Sample struct {
	Seed    uint64  `json:"seed"`
	Percent float64 `json:"percent"`
	// Population is how many objects there were to draw from: the verified files and
	// the manifests of ended sessions, each version once.
	Population int `json:"population"`
	Size       int `json:"size"` // at least 1 where there is any
}

// Sample verifies a random part of what is stored, by percent of the objects, above
// 0 and at most 100. The same seed draws the same while nothing was stored or ended
// in between. It looks for nothing that lies beside.
func (v *Verifier) Sample(ctx context.Context, percent float64, seed uint64) (Verification, error) {
	if err := v.begin(ctx); err != nil {
		return v.result, err
	}
	files, err := v.Journal.StoredObjects(ctx, v.bucket)
	if err != nil {
		return v.result, err
	}
	sessions, err := v.Journal.Sessions(ctx)
	if err != nil {
		return v.result, err
	}
	var checks []func() error
	for _, o := range files {
		checks = append(checks, func() error {
			return v.object(ctx, o.Session, o.Object.Key, o.Object.VersionID, o.SHA256, o.Object.Size, o.Object.RetainUntil)
		})
	}
	for _, s := range sessions {
		if s.State != journal.StateSealed && s.State != journal.StateFailed {
			v.result.Open++
			continue
		}
		if v.isElsewhere(s) {
			continue
		}
		checks = append(checks, func() error {
			v.result.Sessions++
			_, err := v.manifest(ctx, s)
			return err
		})
	}
	sample := Sample{Seed: seed, Percent: percent, Population: len(checks), Size: sampleSize(len(checks), percent)}
	v.result.Sample = &sample
	for _, i := range rand.New(rand.NewPCG(seed, 0)).Perm(len(checks))[:sample.Size] {
		if err := checks[i](); err != nil {
			return v.result, err
		}
	}
	return v.result, nil
}

// sampleSize rounds up: a sample that is asked for is never empty without need.
func sampleSize(population int, percent float64) int {
	size := int(float64(population) * percent / 100)
	if float64(size)*100 < float64(population)*percent {
		size++
	}
	return min(size, population)
}
