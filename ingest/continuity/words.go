package continuity

import "fmt"

// Words tell of the sign for logs and people at a terminal; name shows a path.
func (s Sign) Words(name func(path string) string) string {
	numbers := "missing 缺号 " + s.Range()
	switch s.Kind {
	case Empty:
		return name(s.After) + " is empty 空文件"
	case MissingSince:
		return fmt.Sprintf("%s since session %s: between its %s and %s", numbers, s.Since, name(s.After), name(s.Before))
	default:
		return fmt.Sprintf("%s between %s and %s", numbers, name(s.After), name(s.Before))
	}
}

// Words tell how many signs there are, or why nobody has looked.
func (r Report) Words() string {
	switch r.Unexamined {
	case "":
	case NoProfile:
		return "not examined 未检查记录中断: of which make the recorder is, is not known"
	case NoNumbers:
		return "not examined 未检查记录中断: its names are not known to have running numbers"
	case NotEnded:
		return "not examined 未检查记录中断: the session has not ended"
	default:
		return "not examined 未检查记录中断: " + r.Why
	}
	words := fmt.Sprintf("no sign 无记录中断迹象 in %d numbered recordings", r.Recordings)
	if len(r.Signs) > 0 {
		words = fmt.Sprintf("signs 记录中断迹象: %d, in %d numbered recordings", len(r.Signs), r.Recordings)
	}
	if r.Unnumbered > 0 {
		words += fmt.Sprintf(", %d others not examined", r.Unnumbered)
	}
	return words
}
