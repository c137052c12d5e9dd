package configs_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/bodyworn/ingestd/configs"
)

// writeFile gives a settings file in a folder of its own.
func writeFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ingestd.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// checkProblems compares the whole message; FILE stands for the file.
func checkProblems(t *testing.T, err error, file string, want ...string) {
	t.Helper()
	var typed *configs.Error
	if !errors.As(err, &typed) {
		t.Fatalf("error is %v (%T), want *configs.Error", err, err)
	}
	var got []string
	for _, p := range typed.Problems {
		got = append(got, strings.ReplaceAll(p.String(), file, "FILE"))
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("problems:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
	for _, p := range typed.Problems {
		if p.Line == 0 || p.Source == "" {
			continue
		}
		if !strings.HasPrefix(p.Source, file+":") {
			t.Errorf("%s: source %q, want a line of the file", p, p.Source)
		}
	}
}

func TestFileProblems(t *testing.T) {
	tests := map[string]struct {
		yaml string
		want []string
	}{
		"slip in a key": {
			"\n\nstation:\n  timezon: Asia/Urumqi\n",
			[]string{"station.timezon at line 4: no such setting; did you mean station.timezone?"},
		},
		"all at once, by line": {
			"station: {id: 'no spaces', timezone: Mars/Olympus}\nstorage:\n  part_size: 1GiB\n  buffer_memory: lots\nretention:\n  months: 3\ningest: {settle: 3, parallel: 0}\nlog: {level: loud}\n",
			[]string{
				`station.timezone at line 1: must be an IANA time zone such as Asia/Shanghai, not "Mars/Olympus"`,
				`station.id at line 1: must be 1 to 32 letters, digits, - or _, not "no spaces": it begins every key in the store`,
				`storage.part_size at line 3: must be from 5MiB to 64MiB, not 1GiB`,
				`storage.buffer_memory at line 4: must be a size such as 16MiB, not "lots"`,
				`retention.months at line 6: must be at least 6, not 3: footage is kept no less than six months (第十一条)`,
				`ingest.settle at line 7: must be a time with its unit such as 3s, not "3"`,
				`ingest.parallel at line 7: must be from 1 to 64, not 0`,
				`log.level at line 8: must be debug, info, warn or error, not "loud"`,
			},
		},
		"set twice": {
			"station: {id: A}\nlog: {level: info}\nstation: {id: B}\nretention:\n  months: 7\n  months: 8\n",
			[]string{
				"station at line 3: set twice, first at line 1",
				"retention.months at line 6: set twice, first at line 5",
			},
		},
		"wrong shapes": {
			"station: X\nstate_dir: [a]\nstorage:\n  s3: []\n  kind:\nsources: /media\nretention: {months: {}}\n",
			[]string{
				`station at line 1: must be a group of settings, not the single value "X"`,
				`state_dir at line 2: must be a single value, not a list`,
				`storage.s3 at line 4: must be a group of settings, not a list`,
				`storage.kind at line 5: has no value; remove the line to get the default, or write "" for an empty text`,
				`sources at line 6: must be a list, not the single value "/media"`,
				`retention.months at line 7: must be a single value, not a group of settings`,
			},
		},
		"wrong types": {
			"retention: {months: six}\nstorage: {s3: {tls: yes}}\n",
			[]string{
				`retention.months at line 1: must be a whole number, not "six"`,
				`storage.s3.tls at line 2: must be true or false, not "yes"`,
			},
		},
		"keys in the wrong place": {
			"timezone: Asia/Shanghai\nretention_months: 7\nlog.level: info\nwhatever: 1\nStation: {}\n",
			[]string{
				"timezone at line 1: no such setting; did you mean station.timezone?",
				"retention_months at line 2: no such setting; did you mean retention.months?",
				`"log.level" at line 3: write the groups one below the other: log: and so on`,
				"whatever at line 4: no such setting",
				"Station at line 5: no such setting; did you mean station?",
			},
		},
		"secrets": {
			"storage:\n  s3:\n    access_key: AKIA\n    secretKey: hush\ns3:\n  - {password: hush}\n",
			[]string{
				"storage.s3.access_key at line 3: " + noSecrets,
				"storage.s3.secretKey at line 4: " + noSecrets,
				"s3 at line 5: no such setting; did you mean storage.s3?",
				"s3[0].password at line 6: " + noSecrets,
			},
		},
		"aliases, tags and merges": {
			"station: &a {id: X}\nlog: *a\nretention: {months: !!int 7}\nstorage:\n  <<: {kind: s3}\n",
			[]string{
				"station at line 1: " + noAliases,
				"log at line 2: " + noAliases,
				"retention.months at line 3: " + noAliases,
				`storage."<<" at line 5: no such setting`,
			},
		},
		"not YAML": {
			"station:\n  id: X\n name: Y\n",
			[]string{"line 2: not YAML, here or just below: did not find expected key"},
		},
		"a list": {"- station\n", []string{"line 1: must be a group of settings, not a list"}},
		"two documents": {
			"log: {level: warn}\n---\nlog: {level: info}\n",
			[]string{"line 2: a second YAML document begins here; only one is read"},
		},
		"sources": {
			"sources:\n  - {path: /media, kind: mounts}\n  - {pth: /x, kind: disk}\n  - {kind: folder}\n  - {path: /media/card, kind: folder}\n  - {path: /srv, kind: folder}\n  - {path: /var/lib, kind: folder}\n  - {path: /y}\n",
			[]string{
				"sources[1].pth at line 3: no such setting; did you mean sources.path?",
				`sources[1].kind at line 3: must be mounts or folder, not "disk"`,
				"sources[1].path at line 3: is required: the folder where recorders appear",
				"sources[2].path at line 4: is required: the folder where recorders appear",
				"sources[3].path at line 5: lies in or around sources[0].path (/media): a recorder would be taken twice",
				"sources[4].path at line 6: lies in or around storage.embedded.root (/srv/ingestd/store), which would be ingested again; choose another folder",
				"sources[5].path at line 7: holds state_dir (/var/lib/ingestd), which would be ingested; choose another folder",
				"sources[6].kind at line 8: is required: mounts or folder",
			},
		},
		"an entry that is no group": {
			"sources:\n  - /media\n  - {path: /x, kind: folder, colour: red}\n",
			[]string{
				`sources[0] at line 2: must be a group of settings, not the single value "/media"`,
				"sources[1].colour at line 3: no such setting",
			},
		},
		"control characters": {
			"station: {name: \"a\\x07\"}\nstate_dir: \"/a\\0\"\n",
			[]string{
				"station.name at line 1: must not hold control characters or bytes that are not UTF-8",
				"state_dir at line 2: must not hold control characters or bytes that are not UTF-8",
			},
		},
		"empty texts": {
			"station: {id: \"\", timezone: \"\"}\nstate_dir: \"\"\nstorage: {bucket: \"\", embedded: {root: \"\"}, s3: {region: \"\"}}\n",
			[]string{
				`station.timezone at line 1: must be an IANA time zone such as Asia/Shanghai, not ""`,
				`station.id at line 1: must be 1 to 32 letters, digits, - or _, not "": it begins every key in the store`,
				"state_dir at line 2: is required: the folder of the journal",
				`storage.bucket at line 3: must be 3 to 63 lower-case letters, digits, dots and hyphens, with a letter or digit at both ends, not ""`,
				"storage.embedded.root at line 3: is required while storage.kind is embedded",
				"storage.s3.region at line 3: must be a name without spaces, such as us-east-1",
			},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			file := writeFile(t, test.yaml)
			cfg, err := configs.Load(file)
			if cfg != nil {
				t.Error("a Config beside the error")
			}
			checkProblems(t, err, file, test.want...)
			if strings.Contains(err.Error(), "hush") {
				t.Errorf("the message repeats a secret: %v", err)
			}
		})
	}
}

const (
	noSecrets = "no secrets in this file or the environment: put access_key and secret_key in the file that storage.s3.credentials_file names, or in the systemd credential s3"
	noAliases = "anchors (&), aliases (*) and tags (!) are not supported; write the value out"
)

func TestMessage(t *testing.T) {
	one := writeFile(t, "log: {level: loud}\n")
	_, err := configs.Load(one)
	if want := one + `: log.level at line 1: must be debug, info, warn or error, not "loud"`; err == nil || err.Error() != want {
		t.Errorf("one problem: %v\nwant: %s", err, want)
	}
	two := writeFile(t, "lo: 1\nretention: {months: 5}\n")
	_, err = configs.Load(two)
	want := two + ": 2 problems\n" +
		"  lo at line 1: no such setting; did you mean log?\n" +
		"  retention.months at line 2: must be at least 6, not 5: footage is kept no less than six months (第十一条)"
	if err == nil || err.Error() != want {
		t.Errorf("two problems: %v\nwant: %s", err, want)
	}
	if !errors.Is(err, configs.ErrBelowFloor) {
		t.Error("errors.Is does not find ErrBelowFloor")
	}
}

func TestFileMissing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "none.yaml")
	_, err := configs.Load(file)
	checkProblems(t, err, file, "cannot be read: no such file or directory")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Error("errors.Is does not find fs.ErrNotExist")
	}
	if _, err := os.Stat(configs.DefaultPath); err == nil {
		t.Skip("this machine has settings")
	}
	if cfg, err := configs.Load(""); err != nil || cfg.File() != "" {
		t.Errorf("without a file: %v", err)
	}
}

func TestEnvironmentProblems(t *testing.T) {
	t.Setenv("INGESTD_STATION_TIMEZON", "UTC")
	t.Setenv("INGESTD_STORAGE_S3_SECRET_KEY", "hush")
	t.Setenv("INGESTD_SOURCES", "/media")
	t.Setenv("INGESTD_SOURCES_0_PATH", "/media")
	t.Setenv("INGESTD_RETENTION_MONTHS", "1")
	t.Setenv("INGESTD_LOG_FORMAT", "")
	t.Setenv("INGESTD_INGEST_PARALLEL", "many")
	file := writeFile(t, "retention: {months: 9}\nlog: {levle: info}\n")
	_, err := configs.Load(file, configs.WithOverride("sources", "x"), configs.WithOverride("log.levl", "x"))
	checkProblems(t, err, file,
		"log.levle at line 2: no such setting; did you mean log.level?",
		"INGESTD_SOURCES in the environment: a list can be set only in the file",
		"INGESTD_SOURCES_0_PATH in the environment: a list can be set only in the file",
		"INGESTD_STATION_TIMEZON in the environment: no such setting; did you mean INGESTD_STATION_TIMEZONE?",
		"INGESTD_STORAGE_S3_SECRET_KEY in the environment: "+noSecrets,
		"sources from flag: a list can be set only in the file",
		"log.levl from flag: no such setting; did you mean log.level?",
		`ingest.parallel from env INGESTD_INGEST_PARALLEL: must be a whole number, not "many"`,
		`log.format from env INGESTD_LOG_FORMAT: must be auto, json, journal or console, not ""`,
		"retention.months from env INGESTD_RETENTION_MONTHS: must be at least 6, not 1: footage is kept no less than six months (第十一条)",
	)
	if !errors.Is(err, configs.ErrBelowFloor) {
		t.Error("a variable goes below the floor unseen")
	}
}

func TestOrder(t *testing.T) {
	t.Setenv("INGESTD_STATION_ID", "env")
	t.Setenv("INGESTD_STATION_NAME", "") // empties the text of the file
	t.Setenv("INGESTD_STORAGE_S3_ENDPOINT", "s3.example.org:443")
	t.Setenv("INGESTD_STATE_DIR", "state")
	file := writeFile(t, `station:
  id: file
  name: 奈曼旗文化市场综合执法局
retention: {months: 12}
storage:
  part_size: 8MB
  s3: {ca_file: tls/../ca.pem}
sources:
  - path: cards
    kind: folder
`)
	here, folder := t.TempDir(), filepath.Dir(file)
	t.Chdir(here)
	cfg, err := configs.Load(file, configs.WithOverride("station.id", "FLAG"), configs.WithOverride("storage.embedded.root", "store"))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.File() != file {
		t.Errorf("File is %s, want %s", cfg.File(), file)
	}
	got := map[string]configs.Setting{}
	for _, s := range cfg.Effective() {
		got[s.Key] = s
	}
	for _, want := range []configs.Setting{
		{"station.id", "FLAG", "flag"},
		{"station.name", "", "env INGESTD_STATION_NAME"},
		{"station.timezone", "Asia/Shanghai", "default"},
		{"state_dir", filepath.Join(here, "state"), "env INGESTD_STATE_DIR"},
		{"storage.embedded.root", filepath.Join(here, "store"), "flag"},
		{"storage.s3.endpoint", "s3.example.org:443", "env INGESTD_STORAGE_S3_ENDPOINT"},
		{"storage.s3.ca_file", filepath.Join(folder, "ca.pem"), file + ":7"},
		{"storage.part_size", "8000000B", file + ":6"},
		{"retention.months", "12", file + ":4"},
		{"sources[0].path", filepath.Join(folder, "cards"), file + ":9"},
		{"sources[0].kind", "folder", file + ":10"},
		{"sources[0].slot", "", file + ":9"},
	} {
		if got[want.Key] != want {
			t.Errorf("%+v, want %+v", got[want.Key], want)
		}
	}
	if _, listed := got["sources"]; listed {
		t.Error("a list with entries is listed itself")
	}
}

// A number-like id is text: YAML would read 0412 as 266.
func TestTextStaysAsWritten(t *testing.T) {
	cfg, err := configs.Load(writeFile(t, "station: {id: 0412, name: 1e3}\nstorage:\nsources:\n"))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Station.ID != "0412" || cfg.Station.Name != "1e3" {
		t.Errorf("id %q, name %q", cfg.Station.ID, cfg.Station.Name)
	}
}

func FuzzLoad(f *testing.F) {
	document, err := os.ReadFile("ingestd.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		string(document), "", "\x00", "{", "[[[[", "a: *a", "&a [*a]", "? [x]\n: y", "!!binary x", "---\n...\n---\n",
		"sources: [[], {}, null, {path: [}]", "sources: [{path: /a, kind: folder}]", "station: {? {a: b} : c}", "\xff\xfe", "- - - -",
		"<<: *x", "%YAML 9.9\n---\n", "station: !<x> {}", "\ufeffstation: {}", "station: {<<: [1]}", "storage: {part_size: 9e99TiB}",
		"ingest: {settle: 9999999h, parallel: 99999999999999999999}", "# only a comment", "null", "~", "station: {timezone: ../../etc/passwd}",
	} {
		f.Add([]byte(seed))
	}
	file := filepath.Join(f.TempDir(), "ingestd.yaml")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, err := configs.Load(file)
		var typed *configs.Error
		switch {
		case err == nil && cfg.Validate() != nil:
			t.Errorf("Load accepts what Validate refuses: %v", cfg.Validate())
		case err == nil:
			cfg.Effective()
		case !errors.As(err, &typed) || len(typed.Problems) == 0 || cfg != nil:
			t.Errorf("error is %v (%T)", err, err)
		}
	})
}

// Refused settings still say whose they are, where that itself is beyond doubt: the
// refusal belongs into the ledger of that station and of no other.
func TestRefusedSettingsSayWhoseTheyAre(t *testing.T) {
	const bad = "retention: {months: 3}\n"
	tests := map[string]struct {
		yaml, env     string // env sets state_dir
		dir, id, zone string
	}{
		"all known":          {"station: {id: A-1, timezone: Asia/Urumqi}\nstate_dir: /s\n" + bad, "", "/s", "A-1", "Asia/Urumqi"},
		"defaults":           {bad, "", "/var/lib/ingestd", "STATION-1", "Asia/Shanghai"},
		"bad id":             {"station: {id: no spaces}\nstate_dir: /s\n", "", "/s", "", "Asia/Shanghai"},
		"bad zone":           {"station: {id: A-1, timezone: Mars}\nstate_dir: /s\n", "", "/s", "A-1", ""},
		"no group":           {"station: A-1\nstate_dir: /s\n", "", "/s", "", ""},
		"empty folder":       {"station: {id: A-1}\nstate_dir: ''\n", "", "", "A-1", "Asia/Shanghai"},
		"a slip in a name":   {"station: {di: A-1}\nstate_dri: /s\n", "", "", "", "Asia/Shanghai"},
		"not YAML":           {"station: [\n", "", "", "", ""},
		"not YAML, with env": {"station: [\n", "/e", "/e", "", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if test.env != "" {
				t.Setenv("INGESTD_STATE_DIR", test.env)
			}
			_, err := configs.Load(writeFile(t, test.yaml))
			var e *configs.Error
			if !errors.As(err, &e) {
				t.Fatal(err)
			}
			zone := ""
			if e.Timezone != nil {
				zone = e.Timezone.String()
			}
			if e.StateDir != test.dir || e.StationID != test.id || zone != test.zone {
				t.Errorf("folder %q, station %q, zone %q; want %+v", e.StateDir, e.StationID, zone, test)
			}
		})
	}
}
