//go:build e2e

package e2e

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/bodyworn/ingestd/ingest/manifest"
	"github.com/bodyworn/ingestd/storage/storetest"
)

const (
	station = "E2E-1"
	bucket  = "footage"
)

// store is the server on the host, seen with the eyes of an auditor.
type store struct {
	server *storetest.Server
	port   string // on the host's loopback
	keys   string // of the daemon, as its file holds them
}

func newStore(t *testing.T) *store {
	t.Helper()
	server := storetest.MinIO(t, false)
	c := server.Config()
	_, port, _ := strings.Cut(c.Endpoint, ":")
	return &store{server: server, port: port, keys: "access_key: " + c.AccessKey + "\nsecret_key: " + c.SecretKey + "\n"}
}

// list gives every version of every object of a session.
func (s *store) list(t testing.TB, session string) []minio.ObjectInfo {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var found []minio.ObjectInfo
	for o := range s.server.Client().ListObjectsIter(ctx, bucket, minio.ListObjectsOptions{Prefix: station + "/", Recursive: true, WithVersions: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		if strings.Contains(o.Key, "/"+session+"/") {
			found = append(found, o)
		}
	}
	return found
}

func (s *store) open(t testing.TB, key, version string) io.ReadCloser {
	t.Helper()
	o, err := s.server.Client().GetObject(t.Context(), bucket, key, minio.GetObjectOptions{VersionID: version})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// manifestOf fetches what a session says of itself.
func (s *store) manifestOf(t testing.TB, session string) *manifest.Manifest {
	t.Helper()
	for _, o := range s.list(t, session) {
		if !strings.HasSuffix(o.Key, "/"+session+"/"+manifest.FileName) {
			continue
		}
		body := s.open(t, o.Key, o.VersionID)
		defer body.Close()
		data, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		m, err := manifest.Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	t.Fatalf("session %s has no manifest in the store", session)
	return nil
}

// checkSession proves that a session holds exactly these files of this recorder,
// each once, byte for byte, locked. Files in lost are named in the manifest as not
// stored, and the session as failed.
func (s *store) checkSession(t testing.TB, session, recorder string, files []file, lost ...string) *manifest.Manifest {
	t.Helper()
	m := s.manifestOf(t, session)
	if got := m.Recorder.Identity.Serial.Value; got != recorder {
		t.Errorf("session %s: the manifest names recorder %q, it is %q", session, got, recorder)
	}
	result := "sealed"
	if len(lost) > 0 {
		result = "failed"
	}
	if m.Session.Result != result {
		t.Errorf("session %s has ended as %s, not %s", session, m.Session.Result, result)
	}
	told := map[string]manifest.File{}
	for _, f := range m.Files {
		if f.Kind != "file" {
			continue
		}
		if _, twice := told[f.Path]; twice {
			t.Errorf("the manifest has %s twice", f.Path)
		}
		told[f.Path] = f
	}
	if len(told) != len(files) {
		t.Errorf("the manifest has %d files, the recorder %d", len(told), len(files))
	}
	objects := map[string]int{}
	for _, o := range s.list(t, session) {
		objects[o.Key]++
		if o.IsDeleteMarker || objects[o.Key] > 1 {
			t.Errorf("%s has more than one version, or a delete marker", o.Key)
		}
	}
	kept := 0
	for _, f := range files {
		entry, ok := told[f.Path]
		switch isLost := slices.Contains(lost, f.Path); {
		case !ok:
			t.Errorf("%s is not in the manifest", f.Path)
		case isLost && (entry.Object != nil || entry.Reason == ""):
			t.Errorf("%s can't be read, but the manifest says %s, reason %q", f.Path, entry.Result, entry.Reason)
		case isLost:
		case entry.Object == nil:
			t.Errorf("%s is not stored: %s %s", f.Path, entry.Result, entry.Reason)
		default:
			if entry.Result == "verified" {
				kept++
				if objects[entry.Object.Key] != 1 {
					t.Errorf("%s: its object %s is not in the session", f.Path, entry.Object.Key)
				}
			}
			s.checkObject(t, f, entry)
		}
	}
	for key := range objects {
		if strings.Contains(key, "/"+manifest.FootageDir) {
			kept--
		}
	}
	if kept != 0 {
		t.Errorf("session %s has %d objects more than files", session, -kept)
	}
	return m
}

// checkObject looks at the bytes and the lock of one object.
func (s *store) checkObject(t testing.TB, f file, entry manifest.File) {
	t.Helper()
	want := f.sum(t)
	body := s.open(t, entry.Object.Key, entry.Object.VersionID)
	defer body.Close()
	if got := sumOf(t, body); got != want || entry.SHA256 != want {
		t.Errorf("%s: stored %s, in the manifest %s, on the recorder %s", f.Path, got, entry.SHA256, want)
	}
	mode, until, err := s.server.Client().GetObjectRetention(t.Context(), bucket, entry.Object.Key, entry.Object.VersionID)
	if err != nil {
		t.Errorf("%s: its lock: %v", entry.Object.Key, err)
		return
	}
	if *mode != minio.Compliance || until.Before(time.Now().AddDate(0, 6, -1)) {
		t.Errorf("%s is locked as %s until %s", entry.Object.Key, *mode, until)
	}
}

// uploaded is how many bytes the store has of a file that is not complete yet; 0
// where there is no such upload.
func (s *store) uploaded(t testing.TB, session, path string) (bytes int64) {
	t.Helper()
	core := minio.Core{Client: s.server.Client()}
	// A session's number begins with its day. MinIO lists the uploads of a whole key
	// only.
	key := station + "/" + session[:4] + "-" + session[4:6] + "-" + session[6:8] + "/" + session + "/" + manifest.FootageDir + path
	uploads, err := core.ListMultipartUploads(t.Context(), bucket, key, "", "", "", 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range uploads.Uploads {
		parts, err := core.ListObjectParts(t.Context(), bucket, u.Key, u.UploadID, 0, 1000)
		if minio.ToErrorResponse(err).Code == minio.NoSuchUpload {
			continue // it was completed just now
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range parts.ObjectParts {
			bytes += part.Size
		}
	}
	return bytes
}
