package manifest_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest/manifest"
	"github.com/bodyworn/ingestd/storage"
)

var update = flag.Bool("update", false, "write the example anew")

// example is the manifest that README.md shows: one file of each result.
func example() *manifest.Manifest {
	zone := time.FixedZone("CST", 8*3600)
	at := func(h, m, s int) time.Time { return time.Date(2026, 11, 24, h, m, s, 0, zone) }
	until := time.Date(2027, 5, 25, 0, 0, 0, 0, zone)
	const prefix = "NMQ-01/2026-11-24/20261124-181402-k3f9wq2a/"
	battery, capacity := 61, int64(31_914_983_424)
	fast, right, sure := 192*time.Second, 20*time.Millisecond, 50*time.Millisecond
	object := func(key, alg, value string) *manifest.Object {
		return &manifest.Object{
			Key: key, VersionID: "01KDY1Q2Z6V3E8", Checksum: storage.Checksum{Algorithm: alg, Value: value},
			RetainUntil: until, StoredAt: at(18, 14, 31), VerifiedAt: at(18, 14, 33), Verification: "readback",
		}
	}
	recorded := at(9, 30, 12)
	files := []manifest.File{
		{Path: "DCIM", Kind: device.KindDir, Result: "noted"},
		{Path: "DCIM/图.MP4", Kind: device.KindFile, Size: 104_857_600, ModTime: &recorded, Result: "verified",
			SHA256: strings.Repeat("ab", 32), SM3: strings.Repeat("12", 32), Object: object(prefix+"footage/DCIM/图.MP4", storage.CRC64NVME, "sYGa0SpQ+bE=")},
		{Path: "old.MP4", Kind: device.KindFile, Size: 12, ModTime: &recorded, Result: "identical", IdenticalTo: "20261123-175500-x8m2p4qa",
			Note: "size, time and ends agree", SHA256: strings.Repeat("cd", 32),
			Object: object("NMQ-01/2026-11-23/20261123-175500-x8m2p4qa/footage/old.MP4", storage.SHA256, "zc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc0=")},
		{Path: "bad.MP4", Kind: device.KindFile, Size: 12, Result: "unreadable", Reason: "read at byte 4096: input/output error"},
		{Path: "link", Kind: device.KindLink, Result: "noted", Note: "points to /etc"},
	}
	gbk := manifest.File{Kind: device.KindFile, Size: 3, ModTime: &recorded, Result: "verified", SHA256: strings.Repeat("ef", 32),
		Object: object(prefix+"footage/%D6%B4.MP4", storage.SHA256, "7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+8=")}
	gbk.SetPath("\xd6\xb4\xb7.MP4")
	return &manifest.Manifest{
		Schema: manifest.Schema, Software: "ingestd 1.0.0",
		Station: manifest.Station{ID: "NMQ-01", Key: "SHA256:0000000000000000000000000000000000000000000", Name: "奈曼旗文化市场综合执法局", Timezone: "Asia/Shanghai", Clock: &device.StationClock{Why: "no time service keeps it"}},
		Session: manifest.Session{ID: "20261124-181402-k3f9wq2a", Result: "failed", Slot: "3", DockedAt: at(18, 14, 2), SealedAt: at(18, 15, 0), RetainUntil: until, Verification: "readback",
			Retention: &manifest.Retention{Name: "default", Months: 6, Why: "第十一条"}},
		Recorder: manifest.Recorder{
			Identity: device.Identity{Serial: device.Fact{Value: "NMQ0007", Source: "USB serial number"}, Driver: "ptp", Profile: "generic-ptp", Place: "1-2.3"},
			Clock:    device.ClockReading{Kind: device.ClockMeasured, Method: "PTP DateTime", StationTime: at(18, 14, 2), Offset: &fast, Uncertainty: &sure},
			ClockSet: &device.ClockSetting{Method: "PTP DateTime", SetAt: at(18, 14, 40),
				After: device.ClockReading{Kind: device.ClockMeasured, Method: "PTP DateTime", StationTime: at(18, 14, 41), Offset: &right, Uncertainty: &sure}},
			ClockVerdict: device.ClockOff,
			ClockDrift:   &manifest.Drift{PPM: 11.5, Uncertainty: 0.5, Since: "20261123-175500-x8m2p4qa"},
			Health: device.Health{BatteryPercent: &battery, CapacityBytes: &capacity,
				Volumes: []device.Volume{{Name: "00010001", Label: device.Fact{Value: "CARD", Source: "PTP"}, CapacityBytes: &capacity}}},
		},
		Vault:  manifest.Vault{Bucket: "footage", Prefix: prefix},
		Totals: manifest.Totals{Files: 4, Bytes: 104_857_627, Stored: 2, Identical: 1, NotStored: 1},
		Files:  append(files, gbk),
	}
}

func encode(t *testing.T, m *manifest.Manifest) []byte {
	t.Helper()
	body, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestExampleIsGolden(t *testing.T) {
	body := encode(t, example())
	const name = "testdata/manifest.json"
	if *update {
		if err := os.WriteFile(name, body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(body, golden) {
		t.Errorf("the form of manifests has changed; if that is meant, raise the schema's version and run with -update:\n%s", body)
	}
}

func TestManifestsKeepToTheSchema(t *testing.T) {
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	schema, err := compiler.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	valid := func(body []byte) error {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		return schema.Validate(v)
	}
	if err := valid(encode(t, example())); err != nil {
		t.Errorf("the example: %v", err)
	}
	for what, spoil := range map[string]func(*manifest.Manifest){
		"verified without an object":      func(m *manifest.Manifest) { m.Files[1].Object = nil },
		"not stored with an SM3":          func(m *manifest.Manifest) { m.Files[3].SM3 = m.Files[1].SM3 },
		"an SM3 that is none":             func(m *manifest.Manifest) { m.Files[1].SM3 = "unknown" },
		"not stored with an object":       func(m *manifest.Manifest) { m.Files[3].Object = m.Files[1].Object },
		"an unknown clock with an offset": func(m *manifest.Manifest) { m.Recorder.Clock.Kind = device.ClockUnknown },
		"a measured clock without one":    func(m *manifest.Manifest) { m.Recorder.Clock.Offset = nil },
		"a bounded clock without a bound": func(m *manifest.Manifest) {
			m.Recorder.Clock = device.ClockReading{Kind: device.ClockBounded, StationTime: m.Session.DockedAt}
		},
		"a retention below the floor":  func(m *manifest.Manifest) { m.Session.Retention.Months = 5 },
		"a retention without a reason": func(m *manifest.Manifest) { m.Session.Retention.Why = "" },
		"a result that nobody knows":   func(m *manifest.Manifest) { m.Session.Result = "fine" },
	} {
		m := example()
		spoil(m)
		if valid(encode(t, m)) == nil {
			t.Errorf("the schema allows %s", what)
		}
	}
}

func TestEncodingIsCanonicalAndComesBack(t *testing.T) {
	body := encode(t, example())
	back, err := manifest.Decode(body)
	if err != nil {
		t.Fatal(err)
	}
	if again := encode(t, back); !bytes.Equal(body, again) {
		t.Error("decoded and encoded again, the bytes differ")
	}
	var tree any // of maps, whose keys encoding/json sorts
	numbers := json.NewDecoder(bytes.NewReader(body))
	numbers.UseNumber()
	if err := numbers.Decode(&tree); err != nil {
		t.Fatal(err)
	}
	var sorted bytes.Buffer
	enc := json.NewEncoder(&sorted)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(tree); err != nil || !bytes.Equal(sorted.Bytes(), body) {
		t.Errorf("the keys are not sorted, %v:\n%s", err, body)
	}
	if !bytes.HasSuffix(body, []byte("}\n")) || bytes.Contains(body, []byte(`\u003c`)) {
		t.Error("no newline at the end, or HTML escapes in it")
	}
}

func TestDecodeRefusesWhatItDoesNotUnderstand(t *testing.T) {
	body := string(encode(t, example()))
	for what, text := range map[string]string{
		"another schema":  strings.Replace(body, "ingestd.manifest/1", "ingestd.manifest/2", 1),
		"an unknown key":  strings.Replace(body, `"software"`, `"softwares"`, 1),
		"a cut end":       body[:len(body)-3],
		"something after": body + "{}",
		"nothing":         "",
	} {
		if _, err := manifest.Decode([]byte(text)); err == nil {
			t.Errorf("it took a manifest with %s", what)
		}
	}
}

// The sums are checked by the very tool that they are made for.
func TestSumsAreReadByCoreutils(t *testing.T) {
	dir := t.TempDir()
	m := example()
	m.Vault.Prefix = "p/"
	names := []string{"footage/plain.MP4", "footage/图 片.JPG", "footage/-dash", "footage/a%0Ab", "footage/ two  spaces"}
	m.Files = nil
	for _, name := range names {
		content := []byte("content of " + name)
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(content)
		m.Files = append(m.Files, manifest.File{SHA256: hex.EncodeToString(sum[:]), Object: &manifest.Object{Key: "p/" + name}})
	}
	// An object of an earlier session lies elsewhere and must not be listed.
	m.Files = append(m.Files, manifest.File{SHA256: strings.Repeat("0", 64), Object: &manifest.Object{Key: "q/other"}})
	body := encode(t, m)
	sum := sha256.Sum256(body)
	for name, data := range map[string][]byte{manifest.FileName: body, manifest.SumsFileName: m.Sums(hex.EncodeToString(sum[:]))} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	check := func() ([]byte, error) {
		cmd := exec.Command("sha256sum", "--strict", "-c", manifest.SumsFileName)
		cmd.Dir = dir
		return cmd.CombinedOutput()
	}
	if out, err := check(); err != nil || bytes.Count(out, []byte(": OK")) != len(names)+1 {
		t.Errorf("sha256sum: %v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, names[1]), []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := check(); err == nil {
		t.Errorf("sha256sum did not see a changed file:\n%s", out)
	}
}
