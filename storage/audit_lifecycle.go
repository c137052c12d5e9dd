package storage

import (
	"context"
	"encoding/xml"
	"fmt"
	"strings"

	"github.com/minio/minio-go/v7/pkg/lifecycle"
)

// uploadDays is how long parts of an upload must stay: a recorder that was
// pulled out on a Friday comes back after the holidays, and its upload goes on.
const uploadDays = 7

func (r *auditor) lifecycle(ctx context.Context) {
	got, err := r.settings.get(ctx, "lifecycle")
	if err != nil {
		r.notChecked(CheckLifecycle, "Lifecycle rules", err)
		return
	}
	if !got.set() {
		return
	}
	var config lifecycle.Configuration
	if err := xml.Unmarshal(got.body, &config); err != nil {
		r.notChecked(CheckLifecycle, "Lifecycle rules", fmt.Errorf("the answer can't be read: %w", err))
		return
	}
	for i, rule := range config.Rules {
		if rule.Status != "Enabled" || strings.HasPrefix(rulePrefix(rule), SelfTestPrefix) {
			continue // below the prefix of the self-test there is no footage
		}
		if rule.ID == "" {
			rule.ID = fmt.Sprintf("number %d, without an ID", i+1)
		}
		r.removals(rule)
		r.moves(rule)
		r.uploads(rule)
		r.markers(rule)
	}
}

func rulePrefix(rule lifecycle.Rule) string {
	for _, p := range []string{rule.Prefix, rule.RuleFilter.Prefix, rule.RuleFilter.And.Prefix} {
		if p != "" {
			return p
		}
	}
	return ""
}

// effect is one thing that a rule does after some days.
type effect struct {
	what string
	days int // 0: at a date, so to whatever is there on it
}

func (e effect) early() bool { return e.days < floorDays }

func (e effect) String() string {
	if e.days == 0 {
		return e.what
	}
	return fmt.Sprintf("%s after %d days", e.what, e.days)
}

func (r *auditor) ruleFinding(rule lifecycle.Rule, check string, severity Severity, what, why string) {
	where := "all objects"
	if p := rulePrefix(rule); p != "" {
		where = "objects below " + p
	}
	r.found(Finding{
		Check: check, Severity: severity,
		What: fmt.Sprintf("The lifecycle rule %q %s.", rule.ID, what),
		Why:  why,
		Mend: fmt.Sprintf("Look at it (mc ilm rule ls %s%s) and remove it: mc ilm rule rm --id %q %[1]s%[2]s; on AWS: aws s3api put-bucket-lifecycle-configuration without it.",
			alias, r.bucket(), rule.ID),
		Detail: fmt.Sprintf("rule %q for %s", rule.ID, where),
	})
}

// removals are what deletes a version, or hides it behind a delete marker. The
// lock keeps a version from being deleted, but not from being hidden.
func (r *auditor) removals(rule lifecycle.Rule) {
	var all []effect
	add := func(days int, what string) {
		if days > 0 {
			all = append(all, effect{what, days})
		}
	}
	hides := "hides objects behind delete markers"
	if rule.Expiration.DeleteAll.IsEnabled() { // MinIO: ExpiredObjectAllVersions
		hides = "removes all versions of objects"
	}
	add(int(rule.Expiration.Days), hides)
	if !rule.Expiration.IsDateNull() {
		all = append(all, effect{hides + " from " + rule.Expiration.Date.Format("2006-01-02") + " on", 0})
	}
	add(rule.AllVersionsExpiration.Days, "removes all versions of objects")                         // MinIO
	add(rule.DelMarkerExpiration.Days, "removes all versions of objects that have a delete marker") // MinIO
	noncurrent := rule.NoncurrentVersionExpiration
	add(int(noncurrent.NoncurrentDays), "removes versions that are no longer current")
	if noncurrent.NoncurrentDays == 0 && noncurrent.NewerNoncurrentVersions > 0 {
		all = append(all, effect{fmt.Sprintf("keeps only %d versions that are no longer current", noncurrent.NewerNoncurrentVersions), 0})
	}
	if len(all) == 0 {
		return
	}
	severity, words := SeverityWarning, make([]string, len(all))
	for i, e := range all {
		words[i] = e.String()
		if e.early() {
			severity = SeverityError
		}
	}
	why := "Footage is kept six calendar months at least (第十一条), which are up to 184 days, and must not be destroyed in that time (第十三条(四)). The lock may stop the rule, but what it hides looks gone to a court, and everything hangs on the lock alone."
	if severity == SeverityWarning {
		why = "It waits longer than six months, but knows nothing of holds and of longer periods: footage that is evidence would be hidden or lost (第十一条, 第十三条(二)). Expired footage goes by a disposal plan that people have seen."
	}
	r.ruleFinding(rule, CheckLifecycle, severity, strings.Join(words, ", and "), why)
}

// readable are the storage classes of AWS whose objects are read at once.
var readable = map[string]bool{
	"STANDARD": true, "STANDARD_IA": true, "ONEZONE_IA": true, "INTELLIGENT_TIERING": true, "GLACIER_IR": true,
}

// moves are transitions. Into an archive, or to a tier that is another store,
// footage can't be read back at once, or is kept where no lock is.
func (r *auditor) moves(rule lifecycle.Rule) {
	if class := rule.Transition.StorageClass; class != "" {
		r.move(rule, class, effect{"moves objects to " + class, int(rule.Transition.Days)})
	}
	if old := rule.NoncurrentVersionTransition; old.StorageClass != "" {
		r.move(rule, old.StorageClass, effect{"moves versions that are no longer current to " + old.StorageClass, int(old.NoncurrentDays)})
	}
}

func (r *auditor) move(rule lifecycle.Rule, class string, e effect) {
	severity := SeverityWarning
	why := "Footage that is moved must still be readable for people who have a right to it (第十二条) and for the checks of what is kept (第十三条(二))."
	switch {
	case readable[class]:
		severity = SeverityNote
	case e.early():
		severity = SeverityError
		why = "For six calendar months (第十一条) footage must be there to be read and checked: an archive class needs hours to restore and a request that an audit can't make; a tier is another store, whose locks nobody has checked (第十三条(二))."
	}
	r.ruleFinding(rule, CheckLifecycle, severity, e.String(), why)
}

func (r *auditor) uploads(rule lifecycle.Rule) {
	days := int(rule.AbortIncompleteMultipartUpload.DaysAfterInitiation)
	if days == 0 || days >= uploadDays {
		return
	}
	r.ruleFinding(rule, CheckLifecycleUploads, SeverityWarning, fmt.Sprintf("throws incomplete uploads away after %d days", days),
		"A large file whose recorder was pulled out goes on where it stopped when the recorder is back; without its parts it has to be read anew from the start. No footage is lost, for the recorder keeps it until all is stored (第十三条(二)). Set it to 7 days.")
}

func (r *auditor) markers(rule lifecycle.Rule) {
	if !rule.Expiration.IsDeleteMarkerExpirationEnabled() && !bool(rule.AllVersionsExpiration.DeleteMarker) {
		return
	}
	r.ruleFinding(rule, CheckLifecycle, SeverityNote, "removes delete markers that have no version behind them",
		"That harms no footage. A delete marker is the trace of somebody's wish to delete, and traces are kept (第一条).")
}
