package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/backend/posix"
	"golang.org/x/sys/unix"
)

// recoverCrash tidies what a killed server left half done. It runs before the
// socket exists, under the lock: nobody else looks at these files. It never
// touches an object.
func (g *guard) recoverCrash() error {
	buckets, err := os.ReadDir(g.data)
	if err != nil {
		return fmt.Errorf("list buckets: %w", err)
	}
	for _, bucket := range buckets {
		if !bucket.IsDir() || strings.HasPrefix(bucket.Name(), ".") {
			continue
		}
		if err := g.recoverBucket(bucket.Name()); err != nil {
			return fmt.Errorf("tidy bucket %s after a crash: %w", bucket.Name(), err)
		}
	}
	return g.disk.commit()
}

func (g *guard) recoverBucket(bucket string) error {
	path := filepath.Join(g.data, bucket)
	lock, err := g.attribute(path, attrLock)
	if err != nil {
		return err
	}
	if lock == "" {
		// The lock is the last thing CreateBucket sets: this one was never
		// acknowledged, and its name would answer errors for ever. Remove takes
		// only an empty folder; anything else is not ours to judge.
		if err := os.Remove(path); err != nil {
			fmt.Fprintf(os.Stderr, "store: %s is not a bucket of this store and is not empty; it is left alone\n", path)
		}
		return nil
	}
	if err := g.makeStaging(bucket); err != nil {
		return err
	}
	for _, dir := range []string{g.data, g.versions} {
		if err := removeFiles(filepath.Join(dir, bucket, posix.MetaTmpDir)); err != nil {
			return err
		}
	}
	return g.recoverUploads(filepath.Join(path, posix.MetaTmpMultipartDir), path)
}

// removeFiles deletes staged files that never got a name; folders are uploads.
func removeFiles(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Type().IsRegular() {
			if err := os.Remove(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// recoverUploads undoes a Complete that was under way. The folder name
// <id>.<etag>.inprogress means "someone is at it" to versitygw, which then
// answers every further Complete with success, though there is no object.
func (g *guard) recoverUploads(uploads, bucketPath string) error {
	keys, err := os.ReadDir(uploads)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range keys {
		keyDir := filepath.Join(uploads, entry.Name())
		ids, err := os.ReadDir(keyDir)
		if err != nil {
			return err
		}
		for _, upload := range ids {
			if id, _, stuck := strings.Cut(upload.Name(), "."); stuck && strings.HasSuffix(upload.Name(), ".inprogress") {
				if err := g.recoverUpload(bucketPath, keyDir, upload.Name(), id); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (g *guard) recoverUpload(bucketPath, keyDir, name, id string) error {
	key, err := g.attribute(keyDir, attrKey)
	if err != nil {
		return err
	}
	done, err := g.isUpload(filepath.Join(bucketPath, key), id)
	if err != nil {
		return err
	}
	if done { // the object has its name; only the parts were still there
		return os.RemoveAll(filepath.Join(keyDir, name))
	}
	return os.Rename(filepath.Join(keyDir, name), filepath.Join(keyDir, id))
}

// isUpload reports whether the file is the object that the upload became.
func (g *guard) isUpload(file, uploadID string) (bool, error) {
	raw, err := g.attribute(file, attrMultipart)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || err == nil && raw == "" {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read upload id of %s: %w", file, err)
	}
	info, err := backend.UnmarshalMpUploadMetadata([]byte(raw), false)
	if err != nil {
		return false, fmt.Errorf("read upload id of %s: %w", file, err)
	}
	return info.UploadID == uploadID, nil
}
