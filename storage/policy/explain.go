package policy

import (
	"fmt"
	"time"

	"github.com/bodyworn/ingestd/storage"
)

// Language is one that decisions can be explained in.
type Language string

// The languages of Explain.
const (
	English Language = "en" // with the terms of the regulation beside it
	Chinese Language = "zh-CN"
)

// Explain gives the decision in lines for a person: until when, why, from when and
// how it was counted, and which rules matched besides. A language that is not
// known gives English.
func (d Decision) Explain(lang Language) []string {
	w := english
	if lang == Chinese {
		w = chinese
	}
	zone := d.Until.Location()
	last := d.Until.Add(-time.Second).In(zone)
	lines := []string{fmt.Sprintf(w.until, d.Until.Format(time.DateTime), zone, last.Format(time.DateOnly))}
	if d.Permanent {
		lines = append(lines, fmt.Sprintf(w.permanent, PermanentMonths))
	}
	lines = append(lines, d.reason(w))
	lines = append(lines, fmt.Sprintf(w.start, d.Start.Format(time.DateTime), zone, w.clocks[d.StartIs]))
	lines = append(lines, fmt.Sprintf(w.count, d.Months, last.Format(time.DateOnly), zone))
	if line := d.monthEnd(w); line != "" {
		lines = append(lines, line)
	}
	for _, r := range d.Rules {
		if r.Name == d.Winner {
			continue
		}
		text := w.shorter
		if (period{r.Months, r.Permanent}).compare(period{d.Months, d.Permanent}) == 0 {
			text = w.same
		}
		lines = append(lines, fmt.Sprintf(text, d.called(w, r.Name), d.File, r.Line, w.period(r.Months, r.Permanent), r.Why))
	}
	floor := storage.RetainUntil(d.Start, storage.FloorMonths, zone)
	return append(lines, fmt.Sprintf(w.floor, storage.FloorMonths, floor.Format(time.DateTime)))
}

// reason names what decided.
func (d Decision) reason(w words) string {
	for _, r := range d.Rules {
		if r.Name == d.Winner {
			return fmt.Sprintf(w.why, r.Why, d.called(w, r.Name), d.File, r.Line, w.period(r.Months, r.Permanent))
		}
	}
	return fmt.Sprintf(w.whyFloor, d.Months)
}

func (d Decision) called(w words, name string) string {
	if name == DefaultRule {
		return w.standard
	}
	return name
}

// monthEnd tells of a day that the last month does not have; empty when it does.
func (d Decision) monthEnd(w words) string {
	year, month, date := d.Start.Date()
	first := time.Date(year, month+time.Month(d.Months), 1, 0, 0, 0, 0, time.UTC)
	counted := first.AddDate(0, 0, date-1)
	if counted.Month() == first.Month() {
		return ""
	}
	return fmt.Sprintf(w.monthEnd, first.Year(), int(first.Month()), date, counted.Format(time.DateOnly))
}

// words are the sentences of one language, for fmt.
type words struct {
	until, permanent, why, whyFloor, start, count, monthEnd, shorter, same, floor string

	standard string
	clocks   map[string]string
	months   string
	forever  string
}

func (w words) period(months int, permanent bool) string {
	if permanent {
		return w.forever
	}
	return fmt.Sprintf(w.months, months)
}

var english = words{
	until:     "kept until 保存至: %s (%s), which is the end of %s; not to be deleted before",
	permanent: "permanent 永久保存: it never enters a plan of disposal 到期销毁; the lock runs for %d months because a lock needs a date",
	why:       "why 依据: %s; decided by 适用规则 %s (%s, line %d), %s",
	whyFloor:  "why 依据: 第十一条; decided by the statutory minimum 法定最短期限, %d months, since no rule reached it",
	start:     "counted from 起算: %s (%s), %s",
	count:     "counted how 计算: %d calendar months 日历月, never a number of days, to the end of %s in the time zone %s",
	monthEnd:  "month end 月末: %[1]d-%02[2]d has no day %[3]d, so it was counted on to %[4]s: later, never earlier",
	shorter:   "matched too 同时符合: %s (%s, line %d), %s, %s; shorter, so it does not decide",
	same:      "matched too 同时符合: %s (%s, line %d), %s, %s; just as long",
	floor:     "statutory minimum 法定最短期限: %d calendar months (第十一条), until %s; no setting lowers it",
	standard:  "the default 默认期限",
	clocks: map[string]string{
		StartStored:       "when it was stored 入库, by the clock of the station 采集工作站",
		StartRecordingEnd: "the end of the recording 记录结束, corrected for the recorder's clock offset 时间偏差",
	},
	months:  "%d months",
	forever: "permanent 永久保存",
}

var chinese = words{
	until:     "保存至：%s（%s），即 %s 当日结束；在此之前不得删除",
	permanent: "永久保存：不进入到期销毁计划；锁定需要日期，故锁定 %d 个月",
	why:       "依据：%s；适用规则：%s（%s 第 %d 行），%s",
	whyFloor:  "依据：第十一条；没有规则达到法定最短期限，按 %d 个月保存",
	start:     "起算时间：%s（%s），%s",
	count:     "计算方法：按 %d 个日历月计算，不按天数，至 %s 当日结束，时区 %s",
	monthEnd:  "月末：%[1]d-%02[2]d 没有 %[3]d 日，顺延至 %[4]s，只会延后，不会提前",
	shorter:   "同时符合：%s（%s 第 %d 行），%s，%s；期限较短，不适用",
	same:      "同时符合：%s（%s 第 %d 行），%s，%s；期限相同",
	floor:     "法定最短期限：%d 个日历月（第十一条），至 %s；任何设置都不能缩短",
	standard:  "默认期限",
	clocks: map[string]string{
		StartStored:       "入库时间，以采集工作站时钟为准",
		StartRecordingEnd: "记录结束时间，已按记录仪时间偏差校正",
	},
	months:  "%d 个月",
	forever: "永久保存",
}
