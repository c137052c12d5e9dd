package console_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
)

const gapsSession = "20261124-100000-cccccccc"

// addGaps adds a session of a recorder that counts its recordings: 2 to 4 are missing, 5 is
// empty, and one has a name that tells nothing.
func (w *world) addGaps() {
	w.t.Helper()
	w.addSession(gapsSession, "012345", "NMQ0007", journal.StateSealed)
	s, err := w.journal.Session(w.t.Context(), gapsSession)
	if err != nil {
		w.t.Fatal(err)
	}
	s.Identity = device.Identity{Profile: "zfy-paramini"}
	if err := w.journal.SaveSession(w.t.Context(), s); err != nil {
		w.t.Fatal(err)
	}
	var files []*journal.File
	for i, n := range []int{1, 5} {
		path := fmt.Sprintf("DCIM/100MEDIA/2026112408000%d_0001A_NMQ0007_%06d.MP4", i, n)
		files = append(files, &journal.File{
			Session: gapsSession, Entry: device.Entry{Path: path, Kind: device.KindFile, Size: int64(1-i) << 20, ModTime: s.DockedAt}, State: journal.Verified, Verification: s.Verification, SHA256: strings.Repeat("cd", 32),
			Object: storage.Object{Key: "TEST-01/" + gapsSession + "/footage/" + path, VersionID: "v9"},
		})
	}
	if err := w.journal.AddFiles(w.t.Context(), files); err != nil {
		w.t.Fatal(err)
	}
}

// The page of a session tells what its numbers tell, or that nobody has looked.
func TestSignsOfGaps(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.addGaps()
	b := w.login("li")
	for _, c := range []struct{ path, want string }{
		{gapsSession, "缺 3 个编号：2–4"}, {gapsSession, "空文件"}, {gapsSession, "发现 2 处"}, {gapsSession, "另有 3 个音像文件"}, {gapsSession, "第十条第三款"},
		{ofWang, "未检查：不知道是哪种型号"},
		{gapsSession + "?lang=en", "3 numbers are missing: 2–4"}, // and it stays so
	} {
		if a := b.get("/admin/sessions/" + c.path); !strings.Contains(a.body, c.want) {
			t.Errorf("%s does not say %s:\n%s", c.path, c.want, a.body)
		}
	}
}
