package configs_test

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/bodyworn/ingestd/configs"
)

// defaults is what a station does when nobody sets anything. A change here
// changes every station that relies on it.
var defaults = []configs.Setting{
	{"station.id", "STATION-1", "default"},
	{"station.name", "", "default"},
	{"station.timezone", "Asia/Shanghai", "default"},
	{"state_dir", "/var/lib/ingestd", "default"},
	{"storage.kind", "embedded", "default"},
	{"storage.bucket", "footage", "default"},
	{"storage.embedded.root", "/srv/ingestd/store", "default"},
	{"storage.s3.endpoint", "", "default"},
	{"storage.s3.region", "us-east-1", "default"},
	{"storage.s3.tls", "true", "default"},
	{"storage.s3.ca_file", "", "default"},
	{"storage.s3.credentials_file", "", "default"},
	{"storage.part_size", "6MiB", "default"},
	{"storage.buffer_memory", "128MiB", "default"},
	{"timestamp.url", "", "default"},
	{"timestamp.ca_file", "", "default"},
	{"digest.sm3", "false", "default"},
	{"retention.months", "6", "default"},
	{"retention.policy", "", "default"},
	{"custody.administrators", "[]", "default"},
	{"custody.two_persons", "false", "default"},
	{"custody.dispose", "manual", "default"},
	{"ingest.parallel", "4", "default"},
	{"ingest.verify", "readback", "default"},
	{"ingest.identical", "quick", "default"},
	{"ingest.settle", "3s", "default"},
	{"ingest.stall_after", "2m0s", "default"},
	{"scrub.every", "720h0m0s", "default"},
	{"scrub.bandwidth", "20000000B", "default"},
	{"sources", "[]", "default"},
	{"usb.watch", "off", "default"},
	{"usb.slots", "[]", "default"},
	{"recorders.unregistered", "ingest", "default"},
	{"recorders.profiles", "", "default"},
	{"recorders.passwords_file", "", "default"},
	{"clock.warn_over", "5s", "default"},
	{"clock.set", "true", "default"},
	{"staging.dir", "", "default"},
	{"staging.key_file", "", "default"},
	{"staging.reserve", "1GiB", "default"},
	{"preuse.battery", "50", "default"},
	{"preuse.free", "4GiB", "default"},
	{"board.listen", "127.0.0.1:8790", "default"},
	{"board.language", "zh-CN", "default"},
	{"board.columns", "0", "default"},
	{"board.phone", "", "default"},
	{"board.allowed_hosts", "[]", "default"},
	{"admin.listen", "", "default"},
	{"admin.tls.cert_file", "", "default"},
	{"admin.tls.key_file", "", "default"},
	{"admin.allowed_hosts", "[]", "default"},
	{"admin.behind_proxy", "false", "default"},
	{"admin.oidc.issuer", "", "default"},
	{"admin.oidc.name", "OpenID", "default"},
	{"admin.oidc.client_id", "", "default"},
	{"admin.oidc.client_secret_file", "", "default"},
	{"admin.oidc.ca_file", "", "default"},
	{"admin.oidc.name_claim", "preferred_username", "default"},
	{"admin.oidc.officer_claim", "officer_id", "default"},
	{"admin.oidc.role_claim", "roles", "default"},
	{"admin.oidc.roles", "[]", "default"},
	{"log.level", "info", "default"},
	{"log.format", "auto", "default"},
	{"metrics.listen", "127.0.0.1:9790", "default"},
}

func TestDefaults(t *testing.T) {
	cfg := configs.Default()
	if got := cfg.Effective(); !reflect.DeepEqual(got, defaults) {
		t.Errorf("defaults:\n%v\nwant:\n%v", got, defaults)
	}
	if cfg.Station.Timezone.String() != "Asia/Shanghai" || cfg.Storage.PartSize != 6<<20 || cfg.Ingest.Settle != 3*time.Second || !cfg.Storage.S3.TLS {
		t.Errorf("typed values: %+v", cfg)
	}
}

// The document, installed as it is, must change nothing, and must hold every
// key of Config, each with its explanation.
func TestDocument(t *testing.T) {
	cfg, err := configs.Load("ingestd.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got := cfg.Effective()
	for i := range got {
		if !strings.HasPrefix(got[i].Source, cfg.File()+":") {
			t.Errorf("%s is not in ingestd.yaml: its source is %s", got[i].Key, got[i].Source)
		}
		got[i].Source = "default"
	}
	if !reflect.DeepEqual(got, defaults) {
		t.Errorf("ingestd.yaml:\n%v\nwant:\n%v", got, defaults)
	}

	data, err := os.ReadFile("ingestd.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(data, &root); err != nil {
		t.Fatal(err)
	}
	checkCommented(t, root.Content[0])
}

func checkCommented(t *testing.T, section *yaml.Node) {
	t.Helper()
	for i := 0; i < len(section.Content); i += 2 {
		key, value := section.Content[i], section.Content[i+1]
		if value.Kind == yaml.MappingNode {
			checkCommented(t, value)
		} else if key.HeadComment == "" {
			t.Errorf("%s at line %d has no comment", key.Value, key.Line)
		}
	}
}

// The commented example of sources must work when its marks are removed, and
// must show every field of a source.
func TestDocumentedSources(t *testing.T) {
	data, err := os.ReadFile("ingestd.yaml")
	if err != nil {
		t.Fatal(err)
	}
	example := regexp.MustCompile(`(?m)^# sources:\n(?:# .+\n)+`).FindString(string(data))
	cfg, err := configs.Load(writeFile(t, regexp.MustCompile(`(?m)^# `).ReplaceAllString(example, "")))
	if err != nil {
		t.Fatal(err)
	}
	want := []configs.Source{
		{Path: "/media", Kind: configs.SourceMounts},
		{Path: "/srv/inbox", Kind: configs.SourceFolder, Slot: "READER"},
	}
	if !reflect.DeepEqual(cfg.Sources, want) {
		t.Errorf("sources %+v, want %+v", cfg.Sources, want)
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[configs.Source]()) {
		if !strings.Contains(example, f.Tag.Get("key")+": ") {
			t.Errorf("the example does not show %s", f.Tag.Get("key"))
		}
	}
}
