package console_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/ingest"
	"github.com/bodyworn/ingestd/ingest/accounts"
	"github.com/bodyworn/ingestd/ingest/console"
	"github.com/bodyworn/ingestd/ingest/continuity"
	"github.com/bodyworn/ingestd/ingest/custody"
	"github.com/bodyworn/ingestd/ingest/journal"
	"github.com/bodyworn/ingestd/storage"
	"github.com/bodyworn/ingestd/storage/policy"
)

// catalogues reads all messages of a language.
func catalogues(t *testing.T, lang string) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("i18n/*." + lang + ".json")
	if err != nil || len(paths) == 0 {
		t.Fatal(err, paths)
	}
	all := map[string]string{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var messages map[string]any
		if err := json.Unmarshal(text, &messages); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for id, m := range messages {
			if _, twice := all[id]; twice {
				t.Errorf("%s: %s is in two files", path, id)
			}
			if forms, ok := m.(map[string]any); ok {
				m = forms["other"]
			}
			all[id], _ = m.(string)
			if all[id] == "" {
				t.Errorf("%s: %s is empty", path, id)
			}
		}
	}
	return all
}

// Both languages say the same things, with the same values in them, and all that the
// pages ask for.
func TestBothLanguagesSayEverything(t *testing.T) {
	t.Parallel()
	zh, en := catalogues(t, "zh-CN"), catalogues(t, "en")
	if a, b := slices.Sorted(maps.Keys(zh)), slices.Sorted(maps.Keys(en)); !slices.Equal(a, b) {
		t.Errorf("the languages have other messages: %v\n%v", a, b)
	}
	value := regexp.MustCompile(`\{\{\.\w+\}\}`)
	for id := range zh {
		a, b := value.FindAllString(zh[id], -1), value.FindAllString(en[id], -1)
		slices.Sort(a)
		slices.Sort(b)
		if !slices.Equal(slices.Compact(a), slices.Compact(b)) {
			t.Errorf("%s has the values %v in Chinese and %v in English", id, a, b)
		}
	}
	asked := map[string]bool{}
	given := regexp.MustCompile(`\.T\(?\s?"([a-z][a-z0-9_.]*[a-z0-9_])"`)
	paths, _ := filepath.Glob("templates/*.html")
	code, _ := filepath.Glob("*.go")
	for _, path := range append(paths, code...) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range given.FindAllStringSubmatch(string(text), -1) {
			asked[m[1]] = true
		}
		for _, m := range regexp.MustCompile(`Code: "([a-z_]+)"`).FindAllStringSubmatch(string(text), -1) {
			asked["error."+m[1]], asked["error."+m[1]+".help"] = true, true
		}
	}
	for _, r := range accounts.Roles() {
		asked["role."+string(r)] = true
	}
	for _, s := range []journal.SessionState{journal.StateOpen, journal.StateSealing, journal.StateSealed, journal.StateFailed} {
		asked["state."+string(s)] = true
	}
	for _, s := range []journal.FileState{journal.Pending, journal.Uploading, journal.Completing, journal.Stored, journal.Unreadable, journal.Changed, journal.Corrupt, journal.Verified, journal.Identical, journal.Noted} {
		asked["file."+string(s)] = true
	}
	for _, s := range []journal.HoldState{journal.HoldSetting, journal.HoldHeld, journal.HoldAsked, journal.HoldReleasing, journal.HoldReleased} {
		asked["hold."+string(s)] = true
	}
	for _, v := range []device.ClockVerdict{device.ClockWithin, device.ClockOff, device.ClockWrongZone, device.ClockReset, device.ClockNotKnown} {
		asked["verdict."+string(v)] = true
	}
	for _, v := range []string{ingest.ReadBack, ingest.ChecksumOnly} {
		asked["verification."+v], asked["files.sum."+v] = true, true
	}
	for _, s := range []ingest.SlotState{
		ingest.Empty, ingest.Identifying, ingest.Queued, ingest.Copying, ingest.Verifying, ingest.Finalizing, ingest.Safe, ingest.Failed, ingest.UnknownDevice, ingest.Conflict, ingest.RemovedEarly,
	} {
		asked["slot."+string(s)] = true
	}
	for _, tr := range []ingest.Trouble{
		ingest.TroubleStalled, ingest.TroubleStore, ingest.TroubleStaged, ingest.TroubleUnreadable, ingest.TroubleNotStored, ingest.TroublePerson,
		ingest.TroubleUnregistered, ingest.TroubleNoRecorder, ingest.TroubleOther,
	} {
		asked["trouble."+string(tr)] = true
	}
	asked["dock.last_safe"], asked["dock.last_unsafe"] = true, true
	for _, c := range []string{ingest.CheckJournal, ingest.CheckSelfTest, ingest.CheckStore, ingest.CheckBucket, ingest.CheckWritable, ingest.CheckClock} {
		asked["check."+c] = true
	}
	for _, c := range []string{
		storage.CheckObjectLock, storage.CheckVersioning, storage.CheckDefaultRetention, storage.CheckLifecycle, storage.CheckLifecycleUploads, storage.CheckBucketPolicy, storage.CheckPublicAccess, storage.CheckBucketACL,
		storage.CheckLockHolds, storage.CheckStationKey, storage.CheckTLS, storage.CheckEncryption, storage.CheckBucketMarker, storage.CheckStoreClock, storage.CheckFreeSpace,
	} {
		asked["finding."+c], asked["finding."+c+".why"], asked["finding."+c+".mend"] = true, true, true
	}
	for _, k := range []continuity.Kind{continuity.Missing, continuity.MissingSince, continuity.Empty} {
		asked["gaps."+string(k)] = true
	}
	for _, u := range []continuity.Unexamined{continuity.NoProfile, continuity.NoNumbers, continuity.NotEnded, continuity.NoProfiles} {
		asked["gaps.unexamined."+string(u)] = true
	}
	for _, s := range []storage.Severity{storage.SeverityError, storage.SeverityWarning, storage.SeverityNote} {
		asked["severity."+string(s)] = true
	}
	for _, s := range []journal.PlanState{journal.PlanOpen, journal.PlanApplying, journal.PlanApplied, journal.PlanVoid} {
		asked["plan.state."+string(s)] = true
	}
	for _, k := range []custody.ReasonKind{custody.Locked, custody.Ruled, custody.Permanent, custody.OnHold, custody.Shared, custody.Undecided, custody.NotStored, custody.Documents, custody.Differs} {
		asked["kept.because."+string(k)] = true
	}
	for _, e := range []string{string(policy.Longer), string(policy.Stays), custody.EffectSame, custody.EffectUndecided} {
		asked["effect."+e] = true
	}
	for _, by := range journal.StatsKinds {
		asked["stats.by."+string(by)] = true
	}
	for _, s := range console.Said {
		asked["said."+s] = true
	}
	w := newWorld(t, nil)
	for _, p := range w.console.Pages() {
		asked["page."+p.Name] = true
	}
	for id := range asked {
		if zh[id] == "" {
			t.Errorf("there is no message %s", id)
		}
	}
	if len(asked) < 100 {
		t.Errorf("only %d messages were found in the pages", len(asked))
	}
}

func TestTheLanguageIsTheReaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	b := w.login("li")
	r := b.request("GET", "/admin/sessions", nil)
	r.Header.Set("Accept-Language", "en-US")
	if a := b.do(r); !strings.Contains(a.body, `<html lang="zh-CN">`) || !strings.Contains(a.body, "内部资料") {
		t.Errorf("not in Chinese:\n%s", a.body)
	}
	if a := b.get("/admin/sessions?lang=en"); !strings.Contains(a.body, `<html lang="en">`) || !strings.Contains(a.body, "3 min 12 s fast") {
		t.Errorf("not in English:\n%s", a.body)
	}
	if a := b.get("/admin/sessions?lang=xx"); !strings.Contains(a.body, `<html lang="en">`) {
		t.Errorf("the choice is not kept:\n%s", a.body)
	}
}
