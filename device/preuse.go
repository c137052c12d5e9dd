package device

import "fmt"

// PreUse is the result of the check before use (第十条: 使用前应当检查性能、电量、
// 存储空间，对系统时间进行校准). The strings are stable.
type PreUse string

// The results. What can't be read is neither good nor bad: a person looks.
const (
	PreUseFit   PreUse = "fit"   // 可领用
	PreUseUnfit PreUse = "unfit" // 不可领用
	PreUseCheck PreUse = "check" // 须人工检查
)

// Words names a result for people.
func (p PreUse) Words() string {
	switch p {
	case PreUseFit:
		return "可领用 · fit for use"
	case PreUseUnfit:
		return "不可领用 · not fit for use"
	case PreUseCheck:
		return "须人工检查 · to be checked by a person"
	}
	return "未检查 · not checked"
}

// PreUseLimits are what a recorder must have for its next shift.
type PreUseLimits struct {
	BatteryPercent int   // 0: whatever
	FreeBytes      int64 // 0: whatever
}

// PreUseCheckup is a result with its reasons, of which the bad come first.
type PreUseCheckup struct {
	Reasons []string `json:"reasons,omitempty"`
	Result  PreUse   `json:"result"`
}

// CheckBeforeUse judges a recorder whose session has ended well. clock is the last
// that is known of its clock, readErrors counts the paths that could not be read.
func CheckBeforeUse(h Health, clock ClockVerdict, readErrors int, limits PreUseLimits) PreUseCheckup {
	var bad, open []string
	switch clock {
	case ClockWithin:
	case ClockNotKnown, "":
		open = append(open, "时间未知 its clock could not be read")
	default:
		bad = append(bad, "时间不准 its clock is "+string(clock))
	}
	if limits.BatteryPercent > 0 {
		switch {
		case h.BatteryPercent == nil:
			open = append(open, "电量未知 its battery could not be read")
		case *h.BatteryPercent < limits.BatteryPercent:
			bad = append(bad, fmt.Sprintf("电量不足 battery %d %%, at least %d %% is needed", *h.BatteryPercent, limits.BatteryPercent))
		}
	}
	if limits.FreeBytes > 0 {
		switch {
		case h.FreeBytes == nil:
			open = append(open, "存储空间未知 its free space could not be read")
		case *h.FreeBytes < limits.FreeBytes:
			bad = append(bad, fmt.Sprintf("存储空间不足 %d MiB free, at least %d MiB are needed", *h.FreeBytes>>20, limits.FreeBytes>>20))
		}
	}
	for _, v := range h.Volumes {
		if v.Trouble != "" {
			bad = append(bad, fmt.Sprintf("存储卡异常 %s: %s", v.Name, v.Trouble))
		}
	}
	if readErrors > 0 {
		bad = append(bad, fmt.Sprintf("读取错误 %d paths could not be read", readErrors))
	}
	switch {
	case len(bad) > 0:
		return PreUseCheckup{Result: PreUseUnfit, Reasons: append(bad, open...)}
	case len(open) > 0:
		return PreUseCheckup{Result: PreUseCheck, Reasons: open}
	}
	return PreUseCheckup{Result: PreUseFit}
}
