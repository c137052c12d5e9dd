package policy_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/storage/policy"
)

func TestADecisionIsExplained(t *testing.T) {
	t.Parallel()
	loc := zone(t, "Asia/Shanghai")
	p := parse(t, bureau)
	monthEnd := stored(time.Date(2026, 8, 31, 18, 3, 5, 0, loc))
	evidence := stored(time.Date(2026, 11, 24, 18, 3, 5, 0, loc))
	end := evidence.Stored.Add(time.Minute)
	evidence.RecordingEnd, evidence.Tags, evidence.Recorder = &end, []string{"证据"}, "NMQ0007"
	major, equal := evidence, evidence
	major.Tags, equal.Tags, equal.Recorder, equal.RecordingEnd = []string{"重大案件"}, []string{"等同"}, "", nil
	for _, c := range []struct {
		facts policy.Facts
		lang  policy.Language
		want  string
	}{
		{monthEnd, policy.English, `
kept until 保存至: 2027-03-04 00:00:00 (Asia/Shanghai), which is the end of 2027-03-03; not to be deleted before
why 依据: 第十一条; decided by 适用规则 the default 默认期限 (retention.yaml, line 2), 6 months
counted from 起算: 2026-08-31 18:03:05 (Asia/Shanghai), when it was stored 入库, by the clock of the station 采集工作站
counted how 计算: 6 calendar months 日历月, never a number of days, to the end of 2027-03-03 in the time zone Asia/Shanghai
month end 月末: 2027-02 has no day 31, so it was counted on to 2027-03-03: later, never earlier
statutory minimum 法定最短期限: 6 calendar months (第十一条), until 2027-03-04 00:00:00; no setting lowers it`},
		{evidence, policy.English, `
kept until 保存至: 2029-11-25 00:00:00 (Asia/Shanghai), which is the end of 2029-11-24; not to be deleted before
why 依据: 行政执法档案保存期限; decided by 适用规则 evidence (retention.yaml, line 4), 36 months
counted from 起算: 2026-11-24 18:04:05 (Asia/Shanghai), the end of the recording 记录结束, corrected for the recorder's clock offset 时间偏差
counted how 计算: 36 calendar months 日历月, never a number of days, to the end of 2029-11-24 in the time zone Asia/Shanghai
matched too 同时符合: recorder (retention.yaml, line 11), 12 months, 送检; shorter, so it does not decide
matched too 同时符合: the default 默认期限 (retention.yaml, line 2), 6 months, 第十一条; shorter, so it does not decide
statutory minimum 法定最短期限: 6 calendar months (第十一条), until 2027-05-25 00:00:00; no setting lowers it`},
		{major, policy.Chinese, `
保存至：2126-11-25 00:00:00（Asia/Shanghai），即 2126-11-24 当日结束；在此之前不得删除
永久保存：不进入到期销毁计划；锁定需要日期，故锁定 1200 个月
依据：永久保存；适用规则：major（retention.yaml 第 14 行），永久保存
起算时间：2026-11-24 18:04:05（Asia/Shanghai），记录结束时间，已按记录仪时间偏差校正
计算方法：按 1200 个日历月计算，不按天数，至 2126-11-24 当日结束，时区 Asia/Shanghai
同时符合：recorder（retention.yaml 第 11 行），12 个月，送检；期限较短，不适用
同时符合：默认期限（retention.yaml 第 2 行），6 个月，第十一条；期限较短，不适用
法定最短期限：6 个日历月（第十一条），至 2027-05-25 00:00:00；任何设置都不能缩短`},
		{monthEnd, policy.Chinese, `
保存至：2027-03-04 00:00:00（Asia/Shanghai），即 2027-03-03 当日结束；在此之前不得删除
依据：第十一条；适用规则：默认期限（retention.yaml 第 2 行），6 个月
起算时间：2026-08-31 18:03:05（Asia/Shanghai），入库时间，以采集工作站时钟为准
计算方法：按 6 个日历月计算，不按天数，至 2027-03-03 当日结束，时区 Asia/Shanghai
月末：2027-02 没有 31 日，顺延至 2027-03-03，只会延后，不会提前
法定最短期限：6 个日历月（第十一条），至 2027-03-04 00:00:00；任何设置都不能缩短`},
		{equal, "xx", `
kept until 保存至: 2027-05-25 00:00:00 (Asia/Shanghai), which is the end of 2027-05-24; not to be deleted before
why 依据: 同默认; decided by 适用规则 equal (retention.yaml, line 12), 6 months
counted from 起算: 2026-11-24 18:03:05 (Asia/Shanghai), when it was stored 入库, by the clock of the station 采集工作站
counted how 计算: 6 calendar months 日历月, never a number of days, to the end of 2027-05-24 in the time zone Asia/Shanghai
matched too 同时符合: the default 默认期限 (retention.yaml, line 2), 6 months, 第十一条; just as long
statutory minimum 法定最短期限: 6 calendar months (第十一条), until 2027-05-25 00:00:00; no setting lowers it`},
	} {
		if got := "\n" + strings.Join(decide(t, p, c.facts, loc).Explain(c.lang), "\n"); got != c.want {
			t.Errorf("explained is%s\nwant%s", got, c.want)
		}
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	want := `retention.yaml: 6 months 保存期限, 第十一条; rules 规则: 6
  equal: 6 months, 同默认; tag 等同
  evidence: 36 months, 行政执法档案保存期限; tag 行政复议 or 证据, docked from 2026-01-01, docked until 2026-12-31
  longest: 1200 months, 上限; tag 百年
  major: permanent 永久保存, 永久保存; tag 重大案件
  recorder: 12 months, 送检; recorder NMQ0007
  unit: 12 months, 试点; officer A1 or A2, unit 0412
`
	if got := parse(t, bureau).Describe(); got != want {
		t.Errorf("described is\n%swant\n%s", got, want)
	}
}

func TestTheDigestIsOfWhatThePolicySays(t *testing.T) {
	t.Parallel()
	p := parse(t, `version: 1
default: {months: 6, why: w}
rules:
  - {name: b, match: {unit: [y, x, y], tag: [t]}, months: permanent, why: "<&>"}
  - {name: a, match: {tag: [t]}, months: 12, from: 2026-01-01, until: 2026-12-31, why: v}
`)
	const canonical = `{"default":{"months":6,"name":"default","why":"w"},"rules":[` +
		`{"from":"2026-01-01","match":{"tag":["t"]},"months":12,"name":"a","until":"2026-12-31","why":"v"},` +
		`{"match":{"tag":["t"],"unit":["x","y"]},"months":1200,"name":"b","permanent":true,"why":"<&>"}],` +
		`"schema":"ingestd.retention-policy/1"}` + "\n"
	if got := string(p.Canonical()); got != canonical {
		t.Errorf("canonical is\n%swant\n%s", got, canonical)
	}
	if sum := sha256.Sum256([]byte(canonical)); p.Digest() != hex.EncodeToString(sum[:]) {
		t.Errorf("the digest is %s, want %x", p.Digest(), sum)
	}
	base := parse(t, bureau)
	same, err := policy.Parse("/elsewhere.yaml", []byte("# a comment\n"+strings.Replace(bureau, "[证据, 行政复议]", `["行政复议", '证据']`, 1)))
	if err != nil || !bytes.Equal(same.Canonical(), base.Canonical()) {
		t.Errorf("comments, quotes, order and the name of the file change the form: %v", err)
	}
	for _, change := range [][2]string{
		{"months: 6, why: 第十一条", "months: 7, why: 第十一条"}, {"why: 第十一条", "why: 其他"}, {"name: major", "name: major2"},
		{"months: 36", "months: 37"}, {"months: 1200", "months: permanent"}, {"tag: [证据,", "tag: [证,"}, {"unit: [", "recorder: ["},
		{"from: 2026-01-01", "from: 2026-01-02"}, {"    until: 2026-12-31\n", ""}, {"why: 送检", "why: 送"},
	} {
		other := parse(t, strings.Replace(bureau, change[0], change[1], 1))
		if other.Digest() == base.Digest() {
			t.Errorf("%q instead of %q has the same digest", change[1], change[0])
		}
	}
}

func TestAChangeOfPolicyShortensNothing(t *testing.T) {
	t.Parallel()
	loc := zone(t, "Asia/Shanghai")
	docked := time.Date(2026, 11, 24, 18, 3, 5, 0, loc)
	tagged := func(tags ...string) policy.Facts {
		f := stored(docked)
		f.Tags = tags
		return f
	}
	before := parse(t, `version: 1
default: {months: 12, why: w}
rules:
  - {name: more, match: {tag: [more]}, months: 24, why: w}
  - {name: less, match: {tag: [less]}, months: 36, why: w}
  - {name: gone, match: {tag: [gone]}, months: permanent, why: w}
  - {name: same, match: {tag: [same]}, months: 48, why: w}
  - {name: ever, match: {tag: [ever]}, months: 1200, why: w}
`)
	after := parse(t, `version: 1
default: {months: 12, why: other}
rules:
  - {name: more, match: {tag: [more]}, months: 25, why: w}
  - {name: less, match: {tag: [less]}, months: 13, why: w}
  - {name: gone, match: {tag: [gone]}, months: 1200, why: w}
  - {name: renamed, match: {tag: [same]}, months: 48, why: w}
  - {name: ever, match: {tag: [ever]}, months: permanent, why: w}
  - {name: new, match: {tag: [new]}, months: 18, why: w}
`)
	sessions := []string{"none", "more", "less", "gone", "same", "ever", "new"}
	each := func(yield func(string, policy.Facts) bool) {
		for _, s := range sessions {
			if !yield("id-"+s, tagged(s)) {
				return
			}
		}
	}
	changes, err := policy.Compare(before, after, each, loc)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range changes {
		got = append(got, c.Session+" "+string(c.Effect)+" "+c.Until().Format(time.DateOnly)+map[bool]string{true: " permanent"}[c.Permanent()])
		if c.Until().Before(c.Old.Until) || c.Until().Before(c.New.Until) || c.Old.Permanent && !c.Permanent() {
			t.Errorf("%s is shortened from %s to %s", c.Session, c.Old.Until, c.Until())
		}
	}
	want := "id-more longer 2028-12-25; id-less stays 2029-11-25; id-gone stays 2126-11-25 permanent; id-ever longer 2126-11-25 permanent; id-new longer 2028-05-25"
	if text := strings.Join(got, "; "); text != want {
		t.Errorf("the changes are\n%s\nwant\n%s", text, want)
	}
	if same, err := policy.Compare(before, before, each, loc); err != nil || len(same) != 0 {
		t.Errorf("a policy differs from itself: %+v, %v", same, err)
	}
}

func TestComparingEndsWhereASessionCantBeDecided(t *testing.T) {
	t.Parallel()
	p := uniform(t, 6)
	var each iter.Seq2[string, policy.Facts] = func(yield func(string, policy.Facts) bool) {
		yield("20261124-181402-k3f9wq2a", policy.Facts{})
	}
	changes, err := policy.Compare(p, uniform(t, 12), each, zone(t, "Asia/Shanghai"))
	if !errors.Is(err, policy.ErrFacts) || !strings.Contains(err.Error(), "20261124-181402-k3f9wq2a") || changes != nil {
		t.Errorf("%v, %+v", err, changes)
	}
}
