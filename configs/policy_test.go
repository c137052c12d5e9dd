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
	"github.com/bodyworn/ingestd/storage/policy"
)

const (
	goodRules  = "version: 1\ndefault: {months: 6, why: 第十一条}\nrules:\n  - {name: a, match: {unit: [U]}, months: 36, why: w}\n"
	shortRules = "version: 1\n\ndefault: {months: 5, why: 第十一条}\nrules: {}\n"
)

// beside writes a file next to a settings file.
func beside(t *testing.T, settings, name, text string) string {
	t.Helper()
	file := filepath.Join(filepath.Dir(settings), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestTheRetentionFileIsReadFromBesideTheSettings(t *testing.T) {
	t.Parallel()
	settings := writeFile(t, "retention: {policy: rules.yaml}\n")
	file := beside(t, settings, "rules.yaml", goodRules)
	cfg, err := configs.Load(settings)
	if err != nil {
		t.Fatal(err)
	}
	want, err := policy.Parse(file, []byte(goodRules))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Retention.Policy != file || !reflect.DeepEqual(cfg.Retention.Rules(), want) {
		t.Errorf("%s holds %+v, want %s with %+v", cfg.Retention.Policy, cfg.Retention.Rules(), file, want)
	}
	// What is read is what counts, until it is loaded again.
	beside(t, settings, "rules.yaml", strings.Replace(goodRules, "36", "48", 1))
	if cfg.Retention.Rules().Digest() != want.Digest() {
		t.Error("the rules change under a Config")
	}
	if again, err := configs.Load(settings); err != nil || again.Retention.Rules().Digest() == want.Digest() {
		t.Errorf("loaded again, the rules are the old ones: %v", err)
	}
	if configs.Default().Retention.Rules() != nil {
		t.Error("there are rules without a file")
	}
}

func TestFaultsOfTheRetentionFileHaveItsOwnLines(t *testing.T) {
	t.Parallel()
	settings := writeFile(t, "station: {id: A}\nretention:\n  policy: rules.yaml\n")
	file := beside(t, settings, "rules.yaml", shortRules)
	_, err := configs.Load(settings)
	checkProblems(t, err, settings, "retention.policy at line 3: "+file+": 2 problems\n"+
		"  default.months at line 3: must be at least 6, not 5: footage is kept no less than six months (第十一条)\n"+
		"  rules at line 4: must be a list, such as [a, b], not a group of settings")
	if faults, ok := errors.AsType[*policy.Error](err); !ok || len(faults.Problems) != 2 || faults.Problems[0].Line != 3 {
		t.Errorf("the faults are not in the chain of %v", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	_, err = configs.Load(settings)
	checkProblems(t, err, settings, "retention.policy at line 3: "+file+" cannot be read: no such file or directory")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the cause is not in the chain of %v", err)
	}
}

// Whoever names the file, it can't lower the floor.
func TestNoRetentionFileLowersTheFloor(t *testing.T) {
	file := filepath.Join(t.TempDir(), "short.yaml")
	if err := os.WriteFile(file, []byte(shortRules), 0o600); err != nil {
		t.Fatal(err)
	}
	refused := func(from string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), "retention.policy") || !strings.Contains(err.Error(), "default.months at line 3: must be at least 6, not 5") {
			t.Errorf("from %s: %v", from, err)
		}
	}
	_, err := configs.Load(writeFile(t, "retention: {policy: "+file+"}\n"))
	refused("the file", err)
	plain := writeFile(t, "")
	_, err = configs.Load(plain, configs.WithOverride("retention.policy", file))
	refused("a flag", err)
	cfg := configs.Default()
	cfg.Retention.Policy = file
	refused("code", cfg.Validate())
	if cfg.Retention.Rules() != nil {
		t.Error("the rules of a refused file are there")
	}
	t.Setenv("INGESTD_RETENTION_POLICY", file)
	_, err = configs.Load(plain)
	refused("the environment", err)
}
