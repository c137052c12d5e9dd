package storage

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// weakening are the actions that remove footage or take its protection away.
// None of them belongs into the policy of a bucket.
var weakening = []string{
	"s3:DeleteObject", "s3:DeleteObjectVersion", "s3:BypassGovernanceRetention",
	"s3:PutBucketObjectLockConfiguration", "s3:PutBucketVersioning",
	"s3:PutLifecycleConfiguration", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy",
	"s3:PutBucketAcl", "s3:PutObjectAcl", "s3:DeleteBucket", "s3:ForceDeleteBucket",
}

// policyStatement is one statement of a policy document (IAM policy grammar).
type policyStatement struct {
	Sid          string
	Effect       string
	Principal    json.RawMessage
	NotPrincipal json.RawMessage
	Action       oneOrMany[string]
	NotAction    oneOrMany[string]
	Resource     oneOrMany[string]
	NotResource  oneOrMany[string]
	Condition    json.RawMessage
}

// oneOrMany: the grammar lets a list of one stand without brackets.
type oneOrMany[T any] []T

func (o *oneOrMany[T]) UnmarshalJSON(text []byte) error {
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("[")) {
		return json.Unmarshal(text, (*[]T)(o))
	}
	*o = make([]T, 1)
	return json.Unmarshal(text, &(*o)[0])
}

func (r *auditor) policy(ctx context.Context) {
	got, err := r.settings.get(ctx, "policy")
	if err != nil {
		r.notChecked(CheckBucketPolicy, "The policy of the bucket", err)
		return
	}
	if !got.set() {
		return
	}
	var document struct{ Statement oneOrMany[policyStatement] }
	if err := json.Unmarshal(got.body, &document); err != nil {
		r.notChecked(CheckBucketPolicy, "The policy of the bucket", fmt.Errorf("the answer can't be read: %w", err))
		return
	}
	for i, s := range document.Statement {
		if s.Effect != "Allow" {
			continue
		}
		name := fmt.Sprintf("%q", s.Sid)
		if s.Sid == "" {
			name = fmt.Sprintf("number %d, without a Sid", i+1)
		}
		r.statement(name, s)
	}
}

func (r *auditor) statement(name string, s policyStatement) {
	text, err := json.Marshal(s)
	if err != nil {
		text = []byte(err.Error())
	}
	if s.anybody() {
		limited := ""
		if len(s.Condition) > 0 {
			limited = ", if only under a condition"
		}
		r.found(Finding{
			Check: CheckPublicAccess, Severity: SeverityError,
			What:   fmt.Sprintf("The statement %s of the bucket policy lets everybody in%s: %s.", name, limited, strings.Join(s.granted(), ", ")),
			Why:    "Footage is internal material and not for the public (第十二条); to let it out is punishable (第十三条(五)).",
			Mend:   "mc anonymous set private " + alias + r.bucket() + ", or aws s3api delete-bucket-policy --bucket " + r.bucket() + " after a look at what else it holds (aws s3api get-bucket-policy).",
			Detail: string(text),
		})
	}
	if actions := s.weakens(r.bucket()); len(actions) > 0 {
		r.found(Finding{
			Check: CheckBucketPolicy, Severity: SeverityError,
			What:   fmt.Sprintf("The statement %s of the bucket policy allows %s.", name, strings.Join(actions, ", ")),
			Why:    "Who may do that can remove or hide footage, or take away what protects it (第十一条, 第十三条(四)). Disposal has a key of its own, which no bucket policy has to allow.",
			Mend:   "Take the statement out: mc anonymous get-json " + alias + r.bucket() + " > p.json, edit, mc anonymous set-json p.json " + alias + r.bucket() + "; or aws s3api get-bucket-policy and put-bucket-policy.",
			Detail: string(text),
		})
	}
}

// anybody: the star is in the principal, alone or in a list of any kind. Who
// excludes some from an Allow lets all the others in.
func (s policyStatement) anybody() bool {
	if len(s.NotPrincipal) > 0 {
		return true
	}
	var all oneOrMany[string]
	if json.Unmarshal(s.Principal, &all) == nil {
		return slices.Contains(all, "*")
	}
	var kinds map[string]oneOrMany[string]
	if json.Unmarshal(s.Principal, &kinds) != nil {
		return len(s.Principal) > 0 // unreadable: the worst is assumed
	}
	for _, names := range kinds {
		if slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, "*") }) {
			return true
		}
	}
	return false
}

func (s policyStatement) granted() []string {
	if len(s.NotAction) > 0 {
		return []string{"everything but " + strings.Join(s.NotAction, ", ")}
	}
	return s.Action
}

// weakens are the dangerous actions that the statement allows. To delete below
// the prefix of the self-test is not one: no footage is there.
func (s policyStatement) weakens(bucket string) []string {
	var hits []string
	for _, action := range weakening {
		if matches(s.Action, action) || len(s.NotAction) > 0 && !matches(s.NotAction, action) {
			hits = append(hits, action)
		}
	}
	outside := func(resource string) bool {
		_, path, _ := strings.Cut(resource, ":s3:::") // after arn:aws, arn:aws-cn
		return !strings.HasPrefix(path, bucket+"/"+SelfTestPrefix)
	}
	if len(s.NotResource) == 0 && len(s.Resource) > 0 && !slices.ContainsFunc(s.Resource, outside) {
		return nil
	}
	return hits
}

// matches reports whether one of the patterns, with * and ?, covers the action.
// Actions have no case.
func matches(patterns []string, action string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		form := strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(p))
		fits, err := regexp.MatchString("(?i)^"+form+"$", action)
		return fits && err == nil // QuoteMeta leaves nothing that fails to compile
	})
}

// accessControlList of a bucket. Most servers have none by now, and show the
// owner alone.
type accessControlList struct {
	Owner  string `xml:"Owner>ID"`
	Grants []struct {
		ID         string `xml:"Grantee>ID"`
		URI        string `xml:"Grantee>URI"`
		Permission string `xml:"Permission"`
	} `xml:"AccessControlList>Grant"`
}

func (r *auditor) acl(ctx context.Context) {
	got, err := r.settings.get(ctx, "acl")
	if err != nil {
		r.notChecked(CheckBucketACL, "The access control list of the bucket", err)
		return
	}
	if !got.set() {
		return
	}
	var list accessControlList
	if err := xml.Unmarshal(got.body, &list); err != nil {
		r.notChecked(CheckBucketACL, "The access control list of the bucket", fmt.Errorf("the answer can't be read: %w", err))
		return
	}
	private := "aws s3api put-bucket-acl --acl private --bucket " + r.bucket() + ", and turn ACLs off: aws s3api put-bucket-ownership-controls with BucketOwnerEnforced."
	for _, g := range list.Grants {
		_, group, isGroup := strings.Cut(g.URI, "/groups/global/") // AllUsers, AuthenticatedUsers
		switch {
		case isGroup:
			r.found(Finding{
				Check: CheckPublicAccess, Severity: SeverityError,
				What: fmt.Sprintf("The access control list of the bucket gives %s to %s, that is to everybody.", g.Permission, group),
				Why:  "Footage is internal material and not for the public (第十二条); to let it out is punishable (第十三条(五)).",
				Mend: private, Detail: g.URI + " " + g.Permission,
			})
		case g.URI != "" || g.ID != "" && g.ID != list.Owner:
			r.found(Finding{
				Check: CheckBucketACL, Severity: SeverityWarning,
				What: fmt.Sprintf("The access control list of the bucket gives %s to %s, who is not its owner.", g.Permission, g.URI+g.ID),
				Why:  "Who reads, writes or administers footage must be known by name and purpose (第十二条).",
				Mend: private, Detail: g.URI + g.ID + " " + g.Permission,
			})
		}
	}
}
