package storage_test

import (
	"errors"
	"sync"

	"github.com/minio/crc64nvme"

	"github.com/bodyworn/ingestd/storage"
)

// What goes up in parts.

const partSize = 5 << 20 // the least that S3 allows

// upload sends the parts of body from the given number on.
func (v *vault) upload(u storage.Upload, body []byte, from int) (parts []storage.Part) {
	v.Helper()
	for n := 1; (n-1)*partSize < len(body); n++ {
		data := body[(n-1)*partSize : min(n*partSize, len(body))]
		if n < from {
			continue
		}
		p, err := v.PutPart(v.Context(), u, n, data, crc64nvme.Checksum(data))
		if err != nil {
			v.Fatal(err)
		}
		parts = append(parts, p)
	}
	return parts
}

func (v *vault) begin(key string) storage.Upload {
	v.Helper()
	u, err := v.Begin(v.Context(), key, v.RetainUntil())
	if err != nil {
		v.Fatal(err)
	}
	return u
}

func partsMakeALockedObject(v *vault) {
	body := random(2*partSize + 17)
	u := v.begin("s/a")
	parts := v.upload(u, body, 1)
	v.isEmpty("s/") // nothing shows before it is whole
	o, err := v.Complete(v.Context(), u, parts, int64(len(body)), crc64nvme.Checksum(body))
	if err != nil {
		v.Fatal(err)
	}
	if o.Checksum.Algorithm != storage.CRC64NVME {
		v.Errorf("confirmed %+v", o)
	}
	v.holds(o, body)
}

func damagedPartsAreRefused(v *vault) {
	body := random(partSize + 17)
	u := v.begin("s/a")
	if _, err := v.PutPart(v.Context(), u, 1, body[:partSize], crc64nvme.Checksum(body[1:partSize])); !errors.Is(err, storage.ErrCorrupt) {
		v.Errorf("a wrong CRC of a part gives %v", err)
	}
	parts := v.upload(u, body, 1)
	if _, err := v.Complete(v.Context(), u, parts, int64(len(body)), crc64nvme.Checksum(body)+1); err == nil {
		v.Error("a wrong CRC of the whole was taken")
	}
	v.isEmpty("s/")
}

func uploadsAreResumed(v *vault) {
	body := random(3*partSize + 17)
	u := v.begin("s/a")
	first := v.upload(u, body[:2*partSize], 1)
	other, err := storage.Open(v.Context(), v.cfg) // as a new process does
	if err != nil {
		v.Fatal(err)
	}
	kept, err := other.Kept(v.Context(), u)
	if err != nil || len(kept) != 2 || kept[1].ETag != first[0].ETag || kept[2].Size != partSize {
		v.Fatalf("kept %+v, %v; sent %+v", kept, err, first)
	}
	o, err := other.Complete(v.Context(), u, append(first, v.upload(u, body, 3)...), int64(len(body)), crc64nvme.Checksum(body))
	if err != nil {
		v.Fatal(err)
	}
	v.holds(o, body)
	if _, err := other.Kept(v.Context(), u); !errors.Is(err, storage.ErrNotFound) {
		v.Errorf("after completion the parts give %v", err)
	}
}

func completedTwiceIsOneObject(v *vault) {
	body := random(partSize + 17)
	u := v.begin("s/a")
	parts := v.upload(u, body, 1)
	first, err := v.Complete(v.Context(), u, parts, int64(len(body)), crc64nvme.Checksum(body))
	if err != nil {
		v.Fatal(err)
	}
	again, err := v.Complete(v.Context(), u, parts, int64(len(body)), crc64nvme.Checksum(body))
	if err != nil || again.VersionID != first.VersionID {
		v.Errorf("the second completion gives %+v, %v", again, err)
	}
	v.holds(first, body)
}

func uploadsNeverOverwrite(v *vault) {
	body := random(partSize + 17)
	u := v.begin("s/a")
	parts := v.upload(u, body, 1)
	first := v.create("s/a", []byte("came first"))
	if _, err := v.Complete(v.Context(), u, parts, int64(len(body)), crc64nvme.Checksum(body)); !errors.Is(err, storage.ErrTaken) {
		v.Errorf("a key that was taken meanwhile gives %v", err)
	}
	v.holds(first, []byte("came first"))
}

func uploadsAreThrownAway(v *vault) {
	u := v.begin("s/a")
	v.upload(u, random(partSize), 1)
	for range 2 {
		if err := v.Abort(v.Context(), u); err != nil {
			v.Error(err)
		}
	}
	if _, err := v.Kept(v.Context(), u); !errors.Is(err, storage.ErrNotFound) {
		v.Errorf("thrown away, the parts give %v", err)
	}
	v.isEmpty("s/")
}

// partsAreListedBeyondAPage: a page has 1000. Parts of a byte can be sent, only
// not completed.
func partsAreListedBeyondAPage(v *vault) {
	const n = 1003
	u := v.begin("s/a")
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := worker + 1; i <= n; i += 8 {
				data := []byte{byte(i)}
				if _, err := v.PutPart(v.Context(), u, i, data, crc64nvme.Checksum(data)); err != nil {
					v.Error(err)
				}
			}
		})
	}
	wg.Wait()
	kept, err := v.Kept(v.Context(), u)
	if err != nil || len(kept) != n || kept[n].Number != n || kept[1].ETag == "" {
		v.Errorf("%d of %d parts are listed, %v", len(kept), n, err)
	}
	if err := v.Abort(v.Context(), u); err != nil {
		v.Error(err)
	}
}
